//! The escrow of a key: its identity in a store, encrypted to the recovery recipient, whose own identity stays offline.
//!
//! The bucket and the recovery identity are then enough to open every archive, without a catalog and without lastgood:
//! `age -d -i recovery.txt keys/ID.age > id.txt`, `age -d -i id.txt ARCHIVE.age`.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use uuid::Uuid;

use crate::{
    error::JobError,
    key::{Identity, Recipient},
    names::TeamId,
    storage::{Created, ESCROWS, Storage},
};

/// More bytes than any escrow has. A larger object is not an escrow.
const BYTES_MAX: u64 = 16 * 1024;
/// The beginnings of the lines that say whose key an escrow holds, and when the key was made. Permanent.
const TEAM: &str = "# of team ";
const PLATFORM: &str = "# of the platform";
const CREATED: &str = "# created: ";

/// Returns the object key of a key's escrow. Permanent.
#[must_use]
pub fn object(key: Uuid) -> String {
    format!("{ESCROWS}{key}.age")
}

/// A key as its escrow describes it.
#[derive(Debug, Clone)]
pub struct Escrow {
    /// The key's id.
    pub key: Uuid,
    /// The team that owns it; `None` for the platform's key.
    pub team: Option<TeamId>,
    /// When the key was made.
    pub created_at: DateTime<Utc>,
    /// The key's secret.
    pub identity: Identity,
}

/// Writes the escrow of a key: an identity file that names the key's owner. Replaces an existing escrow.
pub async fn put(storage: &Storage, escrow: &Escrow, recovery: &Recipient) -> Result<(), JobError> {
    let sealed = sealed(escrow, recovery)?;
    let object = object(escrow.key);
    // At once: a crash never leaves the store without one, and a store that refuses removals gets one all the same.
    let upload = storage.upload_over(&object);
    // If the write fails, `finish` says why.
    let _explained_below = upload.writer().write(sealed).await;
    upload.finish().await?.keep();
    Ok(())
}

fn sealed(escrow: &Escrow, recovery: &Recipient) -> Result<Bytes, JobError> {
    let line = escrow.identity.to_line();
    let owner = match &escrow.team {
        Some(team) => format!("{TEAM}{team}"),
        None => PLATFORM.to_owned(),
    };
    let file = Zeroizing::new(format!(
        "# lastgood archive key {}\n{owner}\n{CREATED}{}\n# public key: {}\n{}\n",
        escrow.key,
        escrow.created_at.to_rfc3339(),
        escrow.identity.recipient(),
        line.expose_secret()
    ));
    age::encrypt(recovery.as_age(), file.as_bytes())
        .map(Bytes::from)
        .map_err(|error| JobError::Io {
            doing: "encrypt a key to the recovery recipient",
            source: std::io::Error::other(error.to_string()),
        })
}

/// Returns the keys whose escrows a store has, in no particular order.
pub async fn list(storage: &Storage) -> Result<Vec<Uuid>, JobError> {
    let objects = storage.escrow_keys().await?;
    let names = objects.iter().filter_map(|object| {
        let name = object.strip_prefix(ESCROWS)?.strip_suffix(".age")?;
        Uuid::try_parse(name).ok()
    });
    Ok(names.collect())
}

/// Returns whether a store has the escrow of a key.
pub async fn exists(storage: &Storage, key: Uuid) -> Result<bool, JobError> {
    Ok(storage.size(&object(key)).await?.is_some())
}

/// Copies the escrow of a key, sealed as it is, into a store that lacks it, and reads it back.
///
/// Returns whether it was written; an existing escrow stays. Nobody here can open an escrow, so it is copied only if it
/// has the form of one, and if all the stores in `from` have the same bytes. The caller checks before and after that
/// the key has not been shredded.
pub async fn refill(from: &[&Storage], to: &Storage, key: Uuid) -> Result<bool, JobError> {
    let object = object(key);
    let bad = |why| JobError::BadEscrow {
        key: object.clone(),
        why,
    };
    let mut whole = None;
    for store in from {
        let found = stored(store, &object).await?;
        if !is_sealed(&found) {
            return Err(bad("it is not in age's format"));
        }
        if whole.as_ref().is_some_and(|first| *first != found) {
            return Err(bad(
                "its copies in the stores differ, and lastgood cannot tell which one opens: have it written again",
            ));
        }
        whole = Some(found);
    }
    let whole = whole.ok_or_else(|| bad("no store has it"))?;
    if to.create(&object, whole.clone()).await? == Created::AlreadyExists {
        return Ok(false);
    }
    if stored(to, &object).await? != whole {
        return Err(bad("the store returned different bytes from those written"));
    }
    Ok(true)
}

/// Returns whether these bytes have the form of an escrow: an age header for a key, not for a passphrase, and the
/// beginning of a payload.
fn is_sealed(bytes: &[u8]) -> bool {
    let header = age::Decryptor::new(bytes);
    header.is_ok_and(|header| !header.is_scrypt())
}

/// Removes the escrow of a key. Succeeds if it is already gone.
///
/// A versioned bucket keeps it as an old version, which this does not remove.
pub async fn remove(storage: &Storage, key: Uuid) -> Result<(), JobError> {
    storage.remove(&object(key)).await
}

/// Opens the escrow of a key with the recovery identity, and returns its contents.
pub async fn open(storage: &Storage, key: Uuid, recovery: &Identity) -> Result<Escrow, JobError> {
    let object = object(key);
    let bad = |why| JobError::BadEscrow {
        key: object.clone(),
        why,
    };
    let stored = stored(storage, &object).await?;
    let file = age::decrypt(recovery.as_age(), &stored);
    let file = file
        .map(Zeroizing::new)
        .map_err(|_| bad("it is encrypted to another recovery recipient, or was altered"))?;
    let text = std::str::from_utf8(&file).map(SecretString::from);
    text.ok()
        .and_then(|text| read(key, &text))
        .ok_or_else(|| bad("it does not hold a lastgood key"))
}

async fn stored(storage: &Storage, object: &str) -> Result<Vec<u8>, JobError> {
    let bad = |why| JobError::BadEscrow {
        key: object.to_owned(),
        why,
    };
    match storage.size(object).await? {
        None => return Err(bad("the store does not have it")),
        Some(0..=BYTES_MAX) => {}
        Some(_) => return Err(bad("it is too large for an escrow")),
    }
    let stored = storage.read_whole(object, BYTES_MAX).await?;
    stored.ok_or_else(|| bad("it is larger than its store reports"))
}

fn read(key: Uuid, file: &SecretString) -> Option<Escrow> {
    let said = |what: &str| {
        let mut lines = file.expose_secret().lines();
        lines.find_map(|line| line.strip_prefix(what))
    };
    let team = match said(PLATFORM) {
        Some(_) => None,
        None => Some(said(TEAM)?.parse().ok()?),
    };
    Some(Escrow {
        key,
        team,
        created_at: said(CREATED)?.parse().ok()?,
        identity: Identity::parse(file).ok()?,
    })
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
        assert!(list(&storage).await?.is_empty());
        let (first, second) = (Identity::generate(), Identity::generate());
        let mut escrow = Escrow {
            key,
            team: Some("acme".parse()?),
            created_at: "2026-03-04T05:06:07Z".parse()?,
            identity: Identity::generate(),
        };
        for recovery in [&first, &second] {
            put(&storage, &escrow, &recovery.recipient()).await?;
            let read = open(&storage, key, recovery).await?;
            assert_eq!(read.identity.recipient(), escrow.identity.recipient());
            assert_eq!(
                (&read.team, read.created_at),
                (&escrow.team, escrow.created_at)
            );
            escrow.team = None;
        }
        assert_eq!(list(&storage).await?, [key]);
        let bytes = std::fs::read(directory.path().join("objects").join(object(key)))?;
        assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
        let error = open(&storage, key, &first).await.unwrap_err();
        assert!(matches!(error, JobError::BadEscrow { .. }), "{error:?}");
        let report = error.report();
        assert!(report.contains("another recovery recipient"), "{report}");
        assert!(!report.contains("point"), "{report}");
        remove(&storage, key).await?;
        remove(&storage, key).await?;
        assert!(!exists(&storage, key).await?);
        Ok(())
    }

    #[tokio::test]
    async fn an_escrow_is_copied_as_it_is_into_a_store_that_lacks_it_and_replaces_none()
    -> anyhow::Result<()> {
        let at = (tempfile::tempdir()?, tempfile::tempdir()?);
        let open_in = async |directory: &tempfile::TempDir| -> anyhow::Result<Storage> {
            Ok(Storage::open(&directory.path().to_str().unwrap_or_default().parse()?).await?)
        };
        let (full, empty) = (open_in(&at.0).await?, open_in(&at.1).await?);
        let (key, recovery) = (Uuid::from_u128(9), Identity::generate());
        let error = refill(&[&full], &empty, key).await.unwrap_err();
        assert!(error.report().contains("does not have it"), "{error:?}");
        let escrow = Escrow {
            key,
            team: None,
            created_at: "2026-03-04T05:06:07Z".parse()?,
            identity: Identity::generate(),
        };
        put(&full, &escrow, &recovery.recipient()).await?;
        assert!(refill(&[&full], &empty, key).await?);
        let copied = open(&empty, key, &recovery).await?;
        assert_eq!(copied.identity.recipient(), escrow.identity.recipient());
        assert!(!refill(&[&full], &empty, key).await?);
        // Neither a foreign object in an escrow's place nor a truncated escrow is copied.
        let whole = std::fs::read(at.0.path().join("objects").join(object(key)))?;
        let cut = whole.get(..100).unwrap_or_default().to_vec();
        for (number, text) in [(10, b"not an escrow".to_vec()), (11, cut)] {
            let other = Uuid::from_u128(number);
            full.create(&object(other), text).await?;
            let error = refill(&[&full], &empty, other).await.unwrap_err();
            assert!(matches!(error, JobError::BadEscrow { .. }), "{error:?}");
            assert!(!exists(&empty, other).await?);
        }
        // The two stores differ, and one of the escrows may open nothing.
        let third = tempfile::tempdir()?;
        let third = open_in(&third).await?;
        put(&empty, &escrow, &recovery.recipient()).await?;
        let error = refill(&[&full, &empty], &third, key).await.unwrap_err();
        assert!(
            error.report().contains("copies in the stores differ"),
            "{error:?}"
        );
        assert!(!exists(&third, key).await?);
        Ok(())
    }
}
