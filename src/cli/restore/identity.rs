//! What opens an archive without a catalog? The identity in a file, or the identities in the store's escrows that it opens.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use futures::{FutureExt as _, future::BoxFuture};
use lastgood_jobs::{
    escrow,
    key::{Identity, KeyError, Keyring, NoKeys, Recipient},
    storage::Storage,
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::secret::{SecretError, read_secret_file};

/// Returns the keyring to open archives with: the identity in the file or, if it is the recovery identity, those in the store's escrows.
pub(super) fn keyring(file: Option<&Path>, storage: &Storage) -> anyhow::Result<Arc<dyn Keyring>> {
    let Some(file) = file else {
        return Ok(Arc::new(NoKeys));
    };
    let identity = Identity::parse(&read(file)?).with_context(|| file.display().to_string())?;
    Ok(Arc::new(OfFile {
        identity,
        storage: storage.clone(),
    }))
}

/// Reads an identity file. Rewords the errors, which speak of URLs and of consumers.
fn read(file: &Path) -> anyhow::Result<SecretString> {
    read_secret_file(&file.to_string_lossy()).map_err(|error| {
        if let SecretError::NoSuchFile { path, source } = error {
            return anyhow::anyhow!("cannot read {path}, which --identity names: {source}");
        }
        if let SecretError::Empty(path) = error {
            return anyhow::anyhow!(
                "{path} holds no age identity: it is empty, not UTF-8, or larger than 64 KiB"
            );
        }
        error.into()
    })
}

/// Knows the identity in a file, and those in the escrows that it opens.
struct OfFile {
    identity: Identity,
    storage: Storage,
}

impl OfFile {
    async fn find(&self, key: Uuid, recipient: &Recipient) -> Result<Identity, KeyError> {
        if self.identity.recipient() == *recipient {
            return Ok(self.identity.clone());
        }
        let escrow = escrow::open(&self.storage, key, &self.identity).await;
        escrow
            .map(|it| it.identity)
            .map_err(|error| KeyError::Unavailable {
                key,
                why: format!(
                    "the identity given is that of {}, and the key's escrow does not open with it: {}",
                    self.identity.recipient(),
                    error.report()
                ),
            })
    }
}

impl Keyring for OfFile {
    fn identity<'a>(
        &'a self,
        key: Uuid,
        recipient: &'a Recipient,
    ) -> BoxFuture<'a, Result<Identity, KeyError>> {
        self.find(key, recipient).boxed()
    }
}
