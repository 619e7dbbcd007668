//! Which store is this, and whose? An object in each store says so, and nothing is written to a store whose object says
//! otherwise.
//!
//! A directory's path, or a bucket's name at an endpoint, only says where a store should be. Another store may be
//! mounted or may answer there, or none at all.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The key of a store's identity. Permanent.
pub const IDENTITY: &str = "lastgood-store.json";
/// More bytes than any identity has. A larger object is not an identity.
pub(super) const BYTES_MAX: u64 = 64 * 1024;
const FORMAT: &str = "lastgood-store";
const VERSION: u32 = 1;

/// The contents of a store's identity object. Written once, by the first consumer that uses the store, and never
/// changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `lastgood-store`.
    format: String,
    /// The version of this format.
    version: u32,
    /// The store's own id.
    pub store: Uuid,
    /// The installation of lastgood that owns the store.
    pub installation: Uuid,
    /// When the object was written.
    pub made_at: DateTime<Utc>,
}

impl Identity {
    /// Returns a new identity for a store that has none.
    pub(super) fn new(installation: Uuid) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            store: Uuid::new_v4(),
            installation,
            made_at: Utc::now(),
        }
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads an identity, or says what is wrong with it.
    pub(super) fn from_json(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let none = |error: serde_json::Error| format!("its {IDENTITY} cannot be read: {error}");
        let head: Head = serde_json::from_slice(json).map_err(none)?;
        if head.format != FORMAT {
            return Err(format!("its {IDENTITY} is not a store's identity"));
        }
        if head.version != VERSION {
            return Err(format!(
                "its {IDENTITY} has version {}, and this build reads version {VERSION}",
                head.version
            ));
        }
        serde_json::from_slice(json).map_err(none)
    }
}

/// Which store a writer means, and for which installation it writes. Cheap to clone; all clones learn the store's id at
/// the same time.
#[derive(Debug, Clone)]
pub struct Binding(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    installation: Uuid,
    store: OnceLock<Uuid>,
}

impl Binding {
    /// Returns a binding to a store that is not known yet. Nothing can be written until it is.
    #[must_use]
    pub fn of(installation: Uuid) -> Self {
        Self(Arc::new(Bound {
            installation,
            store: OnceLock::new(),
        }))
    }

    /// Sets the store that is meant. Only the first call has an effect.
    pub fn expect(&self, store: Uuid) {
        // A second call names the same store, because the caller compared it with the catalog both times.
        let _already_said = self.0.store.set(store);
    }

    /// Returns the store that is meant, once it is known.
    #[must_use]
    pub fn store(&self) -> Option<Uuid> {
        self.0.store.get().copied()
    }

    pub(super) fn installation(&self) -> Uuid {
        self.0.installation
    }

    /// Checks that `found` is the store that is meant; otherwise says how it differs.
    pub(super) fn compare(&self, found: Option<&[u8]>) -> Result<(), String> {
        let found = found.map(Identity::from_json).transpose()?;
        match (self.store(), found) {
            (Some(meant), Some(found)) if found.store == meant => Ok(()),
            (Some(meant), Some(found)) => Err(format!(
                "it is store {}, and should be store {meant}",
                found.store
            )),
            (Some(meant), None) => {
                Err(format!("it has no {IDENTITY}, and should be store {meant}"))
            }
            (None, _) => Err("it has not been compared with the catalog's record yet".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> anyhow::Result<Identity> {
        Ok(Identity {
            store: Uuid::from_u128(1),
            made_at: "2026-03-04T05:06:07Z".parse()?,
            ..Identity::new(Uuid::from_u128(2))
        })
    }

    #[test]
    fn the_stored_form_is_permanent() -> anyhow::Result<()> {
        let json = example()?.to_json()?;
        assert_eq!(Identity::from_json(&json), Ok(example()?));
        insta::assert_snapshot!(String::from_utf8(json)?);
        Ok(())
    }

    #[test]
    fn whatever_is_not_the_store_that_is_meant_is_refused() -> anyhow::Result<()> {
        let json = example()?.to_json()?;
        let binding = Binding::of(Uuid::from_u128(2));
        let refused = |found: Option<&[u8]>| binding.compare(found).err().unwrap_or_default();
        assert!(refused(Some(&json)).contains("not been compared"));
        binding.expect(Uuid::from_u128(1));
        assert_eq!(binding.compare(Some(&json)), Ok(()));
        assert!(refused(None).contains("has no lastgood-store.json"));
        let other = Identity::new(Uuid::from_u128(2)).to_json()?;
        assert!(refused(Some(&other)).contains("should be store"));
        assert!(refused(Some(b"{}")).contains("cannot be read"));
        assert!(refused(Some(br#"{"format":"x","version":1}"#)).contains("not a store's identity"));
        assert!(refused(Some(br#"{"format":"lastgood-store","version":9}"#)).contains("version 9"));
        Ok(())
    }
}
