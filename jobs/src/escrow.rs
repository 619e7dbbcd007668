//! The escrow of a key: its identity in a store, encrypted to the recovery recipient, whose own identity stays offline.
//!
//! Bucket and recovery identity then open every archive, without a catalog and without lastgood:
//! `age -d -i recovery.txt keys/ID.age > id.txt`, `age -d -i id.txt ARCHIVE.age`.

use std::fmt::Write as _;

use bytes::Bytes;
use futures::TryStreamExt as _;
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use uuid::Uuid;

use crate::{
    error::{Damage, JobError},
    key::{Identity, Recipient},
    resource::TeamId,
    storage::Storage,
};

/// Returns where the escrow of a key is. Permanent.
#[must_use]
pub fn object(key: Uuid) -> String {
    format!("keys/{key}.age")
}

/// Writes the escrow of a key: an identity file that says whose it is. One that is there is replaced.
pub async fn put(
    storage: &Storage,
    key: Uuid,
    team: Option<&TeamId>,
    identity: &Identity,
    recovery: &Recipient,
) -> Result<(), JobError> {
    let sealed = sealed(key, team, identity, recovery)?;
    let object = object(key);
    // Stores write once.
    storage.remove(&object).await?;
    let upload = storage.upload(&object);
    // A failed write is explained by `finish`.
    let _explained_below = upload.writer().write(sealed).await;
    upload.finish().await?.keep();
    Ok(())
}

fn sealed(
    key: Uuid,
    team: Option<&TeamId>,
    identity: &Identity,
    recovery: &Recipient,
) -> Result<Bytes, JobError> {
    let line = identity.to_line();
    let recipient = identity.recipient();
    let mut file = Zeroizing::new(String::with_capacity(1024));
    let owner = team.map_or_else(|| "platform".to_owned(), |team| format!("team {team}"));
    let written = writeln!(
        file,
        "# lastgood archive key {key} of {owner}\n# public key: {recipient}\n{}",
        line.expose_secret()
    );
    let cannot = |source| JobError::Io {
        doing: "encrypt a key to the recovery recipient",
        source,
    };
    written.map_err(|error| cannot(std::io::Error::other(error)))?;
    age::encrypt(recovery.as_age(), file.as_bytes())
        .map(Bytes::from)
        .map_err(|error| cannot(std::io::Error::other(error.to_string())))
}

/// Returns whether a store has the escrow of a key.
pub async fn exists(storage: &Storage, key: Uuid) -> Result<bool, JobError> {
    Ok(storage.size(&object(key)).await?.is_some())
}

/// Removes the escrow of a key; one that is gone already is no error.
///
/// A store that keeps versions keeps it as an old version: that is beyond this.
pub async fn remove(storage: &Storage, key: Uuid) -> Result<(), JobError> {
    storage.remove(&object(key)).await
}

/// Returns the identity in the escrow of a key.
pub async fn open(storage: &Storage, key: Uuid, recovery: &Identity) -> Result<Identity, JobError> {
    let object = object(key);
    let damaged = |why| JobError::Damaged {
        key: object.clone(),
        source: why,
    };
    match storage.size(&object).await? {
        None => return Err(damaged(Damage::Missing)),
        Some(0..=16_384) => {}
        Some(_) => {
            return Err(damaged(Damage::Encryption(
                "it is no escrow: it is too large",
            )));
        }
    }
    let stored: Vec<Bytes> = storage.read(&object).await?.try_collect().await?;
    let file = age::decrypt(recovery.as_age(), &stored.concat());
    let file = file.map(Zeroizing::new).map_err(|_| {
        damaged(Damage::Encryption(
            "it is of another recovery recipient, or was altered",
        ))
    })?;
    let text = std::str::from_utf8(&file).map(SecretString::from);
    text.ok()
        .and_then(|text| Identity::parse(&text).ok())
        .ok_or_else(|| damaged(Damage::Encryption("it holds no identity of age")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_escrow_opens_with_the_recovery_identity_only_and_is_replaced_whole()
    -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let storage =
            Storage::open(&directory.path().to_str().unwrap_or_default().parse()?).await?;
        let key = Uuid::from_u128(9);
        let team: TeamId = "acme".parse()?;
        let identity = Identity::generate();
        let (first, second) = (Identity::generate(), Identity::generate());
        for recovery in [&first, &second] {
            put(&storage, key, Some(&team), &identity, &recovery.recipient()).await?;
            let read = open(&storage, key, recovery).await?;
            assert_eq!(read.recipient(), identity.recipient());
        }
        let bytes = std::fs::read(directory.path().join("objects").join(object(key)))?;
        assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
        let report = open(&storage, key, &first).await.unwrap_err().report();
        assert!(report.contains("another recovery recipient"), "{report}");
        remove(&storage, key).await?;
        remove(&storage, key).await?;
        assert!(!exists(&storage, key).await?);
        Ok(())
    }
}
