//! A store's identity: read, claimed, and compared with the one that is meant.

use opendal::ErrorKind;

use super::{Backend, IDENTITY, Identity, Storage, fault::failure, identity};
use crate::error::JobError;

impl Storage {
    /// Returns the identity that the store holds. `None` if it was never written to, or was last written to by a build
    /// that gave stores no identity.
    pub async fn identity(&self) -> Result<Option<Identity>, JobError> {
        let Some(json) = self.identity_json().await? else {
            return Ok(None);
        };
        let identity = Identity::from_json(&json);
        let identity = identity.map_err(|why| JobError::StoreChanged { why });
        identity.map(Some)
    }

    /// Gives a store without an identity a new one and returns it. If another writer was faster, returns that writer's.
    ///
    /// The caller has checked whose store it is.
    pub async fn claim(&self, installation: uuid::Uuid) -> Result<Identity, JobError> {
        let identity = Identity::new(installation);
        let json = identity.to_json().map_err(|error| JobError::Io {
            doing: "write an identity as JSON",
            source: error.into(),
        })?;
        // A store that does not support the condition may have accepted both writes. The object that is there in the
        // end counts.
        let any = Self {
            meant: None,
            ..self.clone()
        };
        any.create(IDENTITY, json).await?;
        any.identity().await?.ok_or_else(|| JobError::StoreChanged {
            why: format!("its {IDENTITY} disappeared right after it was written"),
        })
    }

    /// Returns whether the store refuses to overwrite an object.
    ///
    /// This is tried with the store's own identity and the same bytes, so that nothing is lost if the store does not
    /// refuse. False for a store without an identity.
    pub async fn writes_once(&self) -> Result<bool, JobError> {
        let Some(json) = self.identity_json().await? else {
            return Ok(false);
        };
        match &self.backend {
            Backend::Directory(_) => Ok(true),
            #[cfg(test)]
            Backend::Memory => Ok(true),
            Backend::Bucket(bucket) => bucket.refuses_to_overwrite(IDENTITY, json).await,
        }
    }

    /// Checks that this is the store that is meant, if the store is bound.
    pub async fn require(&self) -> Result<(), JobError> {
        let Some(meant) = &self.meant else {
            return Ok(());
        };
        if let Backend::Directory(directory) = &self.backend {
            return directory.require(meant.clone()).await;
        }
        let found = self.identity_json().await?;
        let compared = meant.compare(found.as_deref());
        compared.map_err(|why| JobError::StoreChanged { why })
    }

    async fn identity_json(&self) -> Result<Option<Vec<u8>>, JobError> {
        match self.operator.stat(IDENTITY).await {
            Ok(found) if found.content_length() > identity::BYTES_MAX => {
                return Err(JobError::StoreChanged {
                    why: format!("its {IDENTITY} has {} bytes", found.content_length()),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.require_bucket(IDENTITY).await?;
                return Ok(None);
            }
            Err(error) => return Err(self.explained("read", IDENTITY, &error).await),
        }
        match self.operator.read(IDENTITY).await {
            Ok(json) => Ok(Some(json.to_vec())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure("read", IDENTITY, &error)),
        }
    }
}
