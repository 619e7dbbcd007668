//! What may an object be called? The one parser of object keys; no valid key leads out of the store.

use std::{fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest key that S3 accepts, and longer than any key of lastgood.
const BYTES_MAX: usize = 1024;
/// The longest name that file systems accept.
const NAME_BYTES_MAX: usize = 255;
/// How much of an invalid key is shown.
const SHOWN_MAX: usize = 200;

/// An object's key: names of `A-Z a-z 0-9 . _ -` separated by slashes, none of them empty, `.` or `..`.
///
/// Keys come from manifests, listings and command lines, and become parts of paths and URLs. Only values of this type
/// reach a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

/// The text is not a valid object key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot be an object's key: use names of A-Z a-z 0-9 . _ - separated by slashes, none of them empty, `.` or `..`"
)]
pub struct ObjectKeyError {
    text: String,
}

impl ObjectKey {
    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the names of the directories that contain the object, outermost first, and the object's own name.
    pub(super) fn path(&self) -> (impl Iterator<Item = &str>, &str) {
        let (directories, name) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        let directories = directories.split('/').filter(|name| !name.is_empty());
        (directories, name)
    }
}

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, ObjectKeyError> {
        let is_key = text.len() <= BYTES_MAX && text.split('/').all(is_name);
        if is_key {
            return Ok(Self(text.to_owned()));
        }
        Err(ObjectKeyError {
            text: text.chars().take(SHOWN_MAX).collect(),
        })
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

impl TryFrom<String> for ObjectKey {
    type Error = ObjectKeyError;

    fn try_from(text: String) -> Result<Self, ObjectKeyError> {
        text.parse()
    }
}

impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

impl Deref for ObjectKey {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::path::Path> for ObjectKey {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::archive(
        "v1/acme/db-1/2026/03/04/050607Z-00000000-0000-0000-0000-000000000007-e3.pgdump.zst.age"
    )]
    #[case::resource_with_dots("v1/a.b/c._-d/x.manifest.json")]
    #[case::name_alone("lastgood-store.json")]
    fn what_lastgood_writes_is_a_key(#[case] text: &str) -> anyhow::Result<()> {
        assert_eq!(text.parse::<ObjectKey>()?.as_str(), text);
        Ok(())
    }

    #[rstest]
    #[case::empty("")]
    #[case::up("v1/../../etc/passwd")]
    #[case::up_at_the_end("v1/..")]
    #[case::here("v1/./x")]
    #[case::absolute("/etc/passwd")]
    #[case::directory("v1/x/")]
    #[case::empty_name("v1//x")]
    #[case::encoded("v1/%2e%2e/x")]
    #[case::query("v1/x?versionId=1")]
    #[case::fragment("v1/x#y")]
    #[case::backslash("v1\\..\\x")]
    #[case::line("v1/x\ny")]
    #[case::nul("v1/x\0")]
    #[case::other_letters("v1/\u{ff0e}\u{ff0e}/x")]
    fn what_leads_elsewhere_cannot_be_written_as_a_key(#[case] text: &str) {
        let error = text.parse::<ObjectKey>().unwrap_err().to_string();
        assert!(!error.contains('\n') && !error.contains('\0'), "{error}");
        assert!(serde_json::from_value::<ObjectKey>(text.into()).is_err());
    }

    proptest! {
        #[test]
        fn a_key_stays_below_whatever_it_is_joined_to(text in "[a-z./%\\\\]{0,40}") {
            if let Ok(key) = text.parse::<ObjectKey>() {
                let joined = std::path::Path::new("/root").join(&*key);
                let normal = joined.components().skip(2);
                let mut normal = normal.map(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(joined.starts_with("/root") && normal.all(|is_normal| is_normal));
                let base = url::Url::parse("https://s3.example/bucket/")?;
                let address = base.join(&format!("./{key}"))?;
                let is_below = address.path().starts_with("/bucket/");
                prop_assert!(is_below);
            }
        }
    }
}
