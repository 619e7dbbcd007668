//! Which key is an archive encrypted to, and how is the key's secret kept? In the catalog, sealed under the master key.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use lastgood_jobs::{
    error::{ErrorKind, KeyError, chain},
    key::{ArchiveKey, Identity, Keyring, Recipient},
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    catalog::{Catalog, KeyInUse, SealedKey, answered},
    queue::Failure,
    secret::{MasterKey, MasterKeys, SecretError},
};

/// How long the catalog may take to return a key.
const READ_WITHIN: Duration = Duration::from_mins(1);

/// Returns an identity sealed for the catalog. It opens only under this key's id, never under another key's or a resource's.
pub fn seal(master: &MasterKey, id: Uuid, identity: &Identity) -> Result<Vec<u8>, SecretError> {
    master.seal(&subject(id), &identity.to_line())
}

/// Opens the identity of a key and checks that the stored recipient is its public half.
pub fn open(master: Option<&MasterKeys>, key: &SealedKey) -> Result<Identity, KeyError> {
    let id = key.id;
    let Some(sealed) = &key.identity else {
        return Err(KeyError::Shredded { key: id });
    };
    let unavailable = |why: String| KeyError::Unavailable { key: id, why };
    let line: SecretString = master
        .ok_or(SecretError::NoMasterKey)
        .and_then(|master| master.open(&subject(id), sealed))
        .map_err(|error| unavailable(chain(&error)))?;
    let identity = Identity::parse(&line).map_err(|error| unavailable(error.to_string()))?;
    if identity.recipient().to_string() != key.recipient {
        let why = "its public half differs from the one in the catalog".to_owned();
        return Err(unavailable(why));
    }
    Ok(identity)
}

/// Returns the name under which a key's secret is sealed. It contains spaces, so no resource can have it.
fn subject(id: Uuid) -> String {
    format!("archive key {id}")
}

/// Returns the key to encrypt the team's next archive to, or `None` if no key was ever made and archives stay unencrypted.
///
/// Refuses a key whose secret cannot be opened here: an archive that no one can read is no backup.
pub fn for_backup(
    in_use: KeyInUse,
    master: Option<&MasterKeys>,
    team: &str,
) -> Result<Option<ArchiveKey>, Failure> {
    let key = match in_use {
        KeyInUse::None => return Ok(None),
        KeyInUse::Gone { of_team } => {
            let (whose, create) = if of_team {
                (format!("team {team:?}"), format!("--team {team}"))
            } else {
                ("the platform".to_owned(), "--platform".to_owned())
            };
            let message = format!(
                "{whose} no longer has a key in use: backups fail until you run `lastgood key create {create}`"
            );
            return Err(Failure::permanent(ErrorKind::Config, message));
        }
        KeyInUse::Key(key) => key,
    };
    let identity = open(master, &key).map_err(|error| {
        let message = format!("no backup is made, because it could not be opened again: {error}");
        Failure::retryable(ErrorKind::Config, message)
    })?;
    Ok(Some(ArchiveKey {
        id: key.id,
        recipient: identity.recipient(),
    }))
}

/// The catalog's keys, opened with the master keys. Each use asks the catalog again, so that a shredded key stops opening at once.
pub struct CatalogKeyring {
    /// The catalog.
    pub catalog: Catalog,
    /// The master keys, if this process has any.
    pub master: Option<MasterKeys>,
}

impl CatalogKeyring {
    async fn find(&self, key: Uuid, recipient: &Recipient) -> Result<Identity, KeyError> {
        let found = answered(READ_WITHIN, self.catalog.sealed_key(key)).await;
        let found = found.map_err(|error| KeyError::Unavailable {
            key,
            why: chain(&error),
        })?;
        let sealed = found.ok_or_else(|| KeyError::Unknown {
            key,
            recipient: recipient.clone(),
        })?;
        open(self.master.as_ref(), &sealed)
    }
}

impl Keyring for CatalogKeyring {
    fn identity<'a>(
        &'a self,
        key: Uuid,
        recipient: &'a Recipient,
    ) -> BoxFuture<'a, Result<Identity, KeyError>> {
        self.find(key, recipient).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: char) -> MasterKey {
        let text = format!("{}=", byte.to_string().repeat(43));
        MasterKey::parse(&SecretString::from(text)).unwrap()
    }

    fn keys(byte: char) -> MasterKeys {
        master(byte).into()
    }

    fn sealed(id: Uuid, identity: &Identity) -> SealedKey {
        SealedKey {
            id,
            recipient: identity.recipient().to_string(),
            identity: Some(seal(&master('A'), id, identity).unwrap()),
            under: 1,
        }
    }

    #[test]
    fn a_key_opens_with_its_master_key_and_as_itself_only() {
        let (identity, id) = (Identity::generate(), Uuid::from_u128(9));
        let key = sealed(id, &identity);
        let opened = open(Some(&keys('A')), &key).unwrap();
        assert_eq!(opened.recipient(), identity.recipient());
        for (master, why) in [
            (None, "LASTGOOD_MASTER_KEY"),
            (Some(keys('E')), "does not open"),
        ] {
            let error = open(master.as_ref(), &key).unwrap_err();
            assert!(matches!(error, KeyError::Unavailable { .. }));
            assert!(error.to_string().contains(why), "{error}");
        }
        let moved = SealedKey {
            id: Uuid::from_u128(10),
            ..sealed(id, &identity)
        };
        assert!(open(Some(&keys('A')), &moved).is_err());
        let swapped = SealedKey {
            recipient: Identity::generate().recipient().to_string(),
            ..sealed(id, &identity)
        };
        assert!(open(Some(&keys('A')), &swapped).is_err());
        let shredded = SealedKey {
            identity: None,
            ..sealed(id, &identity)
        };
        let error = open(Some(&keys('A')), &shredded).unwrap_err();
        assert_eq!(error, KeyError::Shredded { key: id });
    }
}
