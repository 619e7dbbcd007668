//! How do people and tools write a manifest's place? As a key, an address or a path: each names one object of a store.

use std::path::{Component, Path, PathBuf};

use super::{
    address::{Place, StorageUrl},
    directory::OBJECTS,
    keys::{ArchiveName, MANIFEST, POINTS, is_manifest},
};
use crate::object_key::{ObjectKey, ObjectKeyError};

/// How much of an invalid text is shown.
const SHOWN_MAX: usize = 200;

/// Why a text does not name a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestKeyError {
    /// The text is not a key.
    #[error(transparent)]
    Key(#[from] ObjectKeyError),
    /// The text is an address or a path outside these stores.
    #[error(
        "{text:?} is not in {stores}: give a manifest's key, v1/TEAM/RESOURCE/YYYY/MM/DD/NAME{}, alone or below its store's \
         address or path",
        MANIFEST
    )]
    Elsewhere {
        /// The text that was given.
        text: String,
        /// The stores' addresses.
        stores: String,
    },
    /// The text is an address that may hold a secret. It is not repeated.
    #[error(
        "that address cannot be a manifest's: give s3://BUCKET/PREFIX/KEY without keys or signatures, a path, or the key alone"
    )]
    Address,
    /// The text names an archive.
    #[error("{key} is an archive: give its manifest, {manifest}")]
    Archive {
        /// The archive's key.
        key: ObjectKey,
        /// The key of the manifest beside it.
        manifest: String,
    },
    /// The text names some other object.
    #[error(
        "{key} is not a manifest: their keys are v1/TEAM/RESOURCE/YYYY/MM/DD/NAME{}",
        MANIFEST
    )]
    NotAManifest {
        /// The object's key.
        key: ObjectKey,
    },
}

/// Returns the key of the manifest that a text names in one of these stores.
///
/// The text may be the key itself (`v1/…`, `./v1/…`), the key with the bucket's prefix as `aws s3 ls` prints it, an
/// address (`s3://bucket/prefix/v1/…`), or a path as `find` prints it (`/srv/store/objects/v1/…`). Paths are compared
/// by name only, relative ones from the current directory. Nothing is looked up, so a symbolic link to a store is a
/// different path.
pub fn manifest_key<'a>(
    text: &str,
    stores: impl IntoIterator<Item = &'a StorageUrl>,
) -> Result<ObjectKey, ManifestKeyError> {
    let text = text.trim();
    let stores: Vec<&StorageUrl> = stores.into_iter().collect();
    let found = match text.split_once("://") {
        Some(("s3", address)) if !address.contains(['@', '?', '#']) => {
            stores.iter().find_map(|store| below_bucket(address, store))
        }
        Some(("file", _)) => path_of(text).and_then(|path| below_directory(&path, &stores)),
        Some(_) => return Err(ManifestKeyError::Address),
        None => bare(text, &stores),
    };
    let elsewhere = || ManifestKeyError::Elsewhere {
        text: text.chars().take(SHOWN_MAX).collect(),
        stores: listed(&stores),
    };
    let key: ObjectKey = found.ok_or_else(elsewhere)?.parse()?;
    if is_manifest(&key) {
        return Ok(key);
    }
    Err(match manifest_beside(&key) {
        Some(manifest) => ManifestKeyError::Archive { key, manifest },
        None => ManifestKeyError::NotAManifest { key },
    })
}

/// Returns what follows a store's bucket and prefix in `bucket/prefix/key`.
fn below_bucket(address: &str, store: &StorageUrl) -> Option<String> {
    let Place::Bucket { name, prefix } = &store.place else {
        return None;
    };
    let key = address.strip_prefix(name.as_str())?.strip_prefix('/')?;
    below_prefix(key, prefix)
}

fn below_prefix(key: &str, prefix: &str) -> Option<String> {
    if prefix.is_empty() {
        return Some(key.to_owned());
    }
    let key = key.strip_prefix(prefix)?.strip_prefix('/')?;
    Some(key.to_owned())
}

/// Returns the key in a text without a scheme, which is a key or a path. `None` for a path outside all of the stores.
fn bare(text: &str, stores: &[&StorageUrl]) -> Option<String> {
    let mut key = text;
    while let Some(rest) = key.strip_prefix("./") {
        key = rest;
    }
    if key.starts_with(POINTS) {
        return Some(key.to_owned());
    }
    let of_bucket = stores.iter().find_map(|store| match &store.place {
        Place::Bucket { prefix, .. } => {
            below_prefix(key, prefix).filter(|it| it.starts_with(POINTS))
        }
        Place::Directory(_) => None,
    });
    let of_store = || {
        // As `find .` prints it in the store's own directory.
        let key = key.strip_prefix(OBJECTS)?.strip_prefix('/')?;
        key.starts_with(POINTS).then(|| key.to_owned())
    };
    of_bucket
        .or_else(|| below_directory(Path::new(text), stores))
        .or_else(of_store)
        // Not a path: the parser of keys reports what is wrong with it.
        .or_else(|| (!text.starts_with(['/', '.'])).then(|| key.to_owned()))
}

fn path_of(address: &str) -> Option<PathBuf> {
    url::Url::parse(address).ok()?.to_file_path().ok()
}

/// Returns the rest of a path after a store's directory of objects.
fn below_directory(path: &Path, stores: &[&StorageUrl]) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    stores.iter().find_map(|store| {
        let Place::Directory(root) = &store.place else {
            return None;
        };
        let objects = std::path::absolute(root.join(OBJECTS)).ok()?;
        let below = path.strip_prefix(objects).ok()?;
        let names: Option<Vec<&str>> = below
            .components()
            .map(|name| match name {
                Component::Normal(name) => name.to_str(),
                Component::Prefix(_)
                | Component::RootDir
                | Component::CurDir
                | Component::ParentDir => None,
            })
            .collect();
        names.map(|names| names.join("/"))
    })
}

/// Returns the key of an archive's manifest.
fn manifest_beside(key: &ObjectKey) -> Option<String> {
    let (directory, name) = key.rsplit_once('/')?;
    let archive = ArchiveName::parse(name)?;
    Some(format!("{directory}/{}", archive.manifest()))
}

fn listed(stores: &[&StorageUrl]) -> String {
    match stores {
        [store] => format!("the store {store}"),
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            format!("the stores {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const NAME: &str = "050607Z-00000000-0000-0000-0000-000000000007";
    const DAY: &str = "v1/acme/db-1/2026/03/04";

    fn stores() -> Vec<StorageUrl> {
        let stores = ["/srv/store", "s3://backups/eu/prod", "s3://plain", "here"];
        stores.map(|store| store.parse().unwrap()).into()
    }

    fn read(text: &str) -> Result<ObjectKey, ManifestKeyError> {
        manifest_key(text, &stores())
    }

    #[rstest]
    #[case::as_the_store_has_it("KEY")]
    #[case::with_white_space(" KEY\n")]
    #[case::from_the_directory_of_objects("./KEY")]
    #[case::from_the_stores_directory("./objects/KEY")]
    #[case::from_the_stores_directory_without_a_dot("objects/KEY")]
    #[case::an_absolute_path("/srv/store/objects/KEY")]
    #[case::a_path_with_doubled_slashes("/srv/store//objects/./KEY")]
    #[case::a_relative_path("here/objects/KEY")]
    #[case::a_relative_path_with_a_dot("./here/objects/KEY")]
    #[case::a_file_address("file:///srv/store/objects/KEY")]
    #[case::an_address_in_a_bucket("s3://backups/eu/prod/KEY")]
    #[case::an_address_in_a_bucket_without_a_prefix("s3://plain/KEY")]
    #[case::with_the_buckets_prefix("eu/prod/KEY")]
    fn a_manifest_is_found_however_a_tool_spells_it(#[case] spelled: &str) {
        let key = format!("{DAY}/{NAME}.manifest.json");
        let found = read(&spelled.replace("KEY", &key));
        assert_eq!(found.as_deref(), Ok(key.as_str()));
    }

    #[rstest]
    #[case::another_directory("/srv/other/objects/KEY", "is not in the stores /srv/store, ")]
    #[case::beside_the_objects("/srv/store/KEY", "is not in the stores")]
    #[case::a_path_that_climbs("/srv/store/objects/../KEY", "is not in the stores")]
    #[case::up("../objects/KEY", "is not in the stores")]
    #[case::another_bucket("s3://other/eu/prod/KEY", "is not in the stores")]
    #[case::another_prefix("s3://backups/us/KEY", "is not in the stores")]
    #[case::a_longer_prefix("s3://backups/eu/production/KEY", "is not in the stores")]
    #[case::another_kind_of_address("https://s3.example/backups/KEY", "cannot be a manifest's")]
    #[case::nothing("", "cannot be an object's key")]
    #[case::a_key_that_climbs("v1/../../KEY", "cannot be an object's key")]
    #[case::a_key_in_a_bucket_that_climbs("s3://plain/v1/../KEY", "cannot be an object's key")]
    #[case::without_its_beginning("db-1/2026/03/04/x.manifest.json", "is not a manifest")]
    #[case::another_object("lastgood-store.json", "is not a manifest")]
    #[case::an_escrow("keys/00000000-0000-0000-0000-000000000007.age", "is not a manifest")]
    #[case::a_directory("v1/acme/db-1", "is not a manifest")]
    fn anything_else_is_refused_with_what_to_give_instead(
        #[case] spelled: &str,
        #[case] why: &str,
    ) {
        let key = format!("{DAY}/{NAME}.manifest.json");
        let error = read(&spelled.replace("KEY", &key)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn an_archives_key_is_answered_with_its_manifests() {
        let archive = format!("/srv/store/objects/{DAY}/{NAME}-e1.pgdump.zst.age");
        let error = read(&archive).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{DAY}/{NAME}.manifest.json")),
            "{error}"
        );
    }

    #[rstest]
    #[case::keys("s3://AKIAX:hunter2@backups/eu/prod/v1/x.manifest.json")]
    #[case::a_signature("https://backups.example/v1/x.manifest.json?X-Amz-Signature=hunter2")]
    #[case::a_query("s3://backups/eu/prod/v1/x.manifest.json?token=hunter2")]
    fn an_address_that_may_hold_a_secret_is_not_repeated(#[case] text: &str) {
        let error = read(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_is_given_ends_as_a_manifests_key_or_is_refused(text in "(s3://plain/|/srv/store/objects/|\\./)?[a-z0-9./%:]{0,40}") {
            if let Ok(key) = read(&text) {
                prop_assert!(is_manifest(&key) && key.split('/').all(|name| name != ".."));
            }
        }
    }
}
