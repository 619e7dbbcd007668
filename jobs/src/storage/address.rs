//! How a store is named: `file:///path`, a bare directory, or `s3://bucket/prefix`.

use std::{fmt, path::PathBuf, str::FromStr};

/// A store's address: `file:///path`, a bare directory, or `s3://bucket/prefix`. Displayed as it was given.
///
/// An address never holds a key, because it appears in logs and in argv.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageUrl {
    text: String,
    pub(super) place: Place,
}

/// What an address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory. A relative path starts at the current directory when the store is opened.
    Directory(PathBuf),
    Bucket {
        name: String,
        /// Empty, or without a slash at either end.
        prefix: String,
    },
}

/// The text is not a store's address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageUrlError(String);

impl StorageUrl {
    /// Returns whether two addresses name the same place, however they are written.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.place == other.place
    }

    /// Returns whether the address is a path with a slash, rather than a single word that may be the name of something
    /// else.
    #[must_use]
    pub fn is_path(&self) -> bool {
        matches!(self.place, Place::Directory(_)) && self.text.contains('/')
    }
}

impl FromStr for StorageUrl {
    type Err = StorageUrlError;

    fn from_str(text: &str) -> Result<Self, StorageUrlError> {
        let text = text.trim();
        let place = match text.split_once("://") {
            _ if text.is_empty() => Err(
                "the store's address is empty: give s3://bucket/prefix, file:///path or a directory"
                    .to_owned(),
            ),
            None if text.starts_with("file:") => Err(FILE.to_owned()),
            None => Ok(Place::Directory(PathBuf::from(text))),
            Some(("file", _)) => directory(text),
            Some(("s3", rest)) => bucket(rest),
            Some((scheme, _)) => {
                // The rest is not repeated, because an address may hold a key.
                let scheme: String = scheme.chars().take(20).collect();
                Err(format!(
                    "stores of scheme {scheme:?} are not supported by this build: use s3://bucket/prefix, file:///path or \
                     a directory"
                ))
            }
        };
        Ok(Self {
            text: text.to_owned(),
            place: place.map_err(StorageUrlError)?,
        })
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const FILE: &str = "a file address needs an absolute path: file:///path";

fn directory(text: &str) -> Result<Place, String> {
    url::Url::parse(text)
        .ok()
        // The parser reads an address without a path as `/`.
        .filter(|_| text.matches('/').count() > 2)
        .and_then(|url| url.to_file_path().ok())
        .map(Place::Directory)
        .ok_or_else(|| FILE.to_owned())
}

/// Splits `bucket/prefix`. Errors never repeat the text.
fn bucket(rest: &str) -> Result<Place, String> {
    if rest.contains(['@', '?', '#', '%', '\\']) || rest.chars().any(char::is_control) {
        return Err(
            "an S3 address is s3://bucket/prefix and no more: keys come from AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, the endpoint from AWS_ENDPOINT_URL_S3, or all of it from a stores file"
                .to_owned(),
        );
    }
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = (3..=63).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
        })
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric());
    if !is_name {
        return Err(
            "a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens: s3://bucket/prefix"
                .to_owned(),
        );
    }
    let prefix = prefix.trim_matches('/');
    let is_path = prefix.is_empty()
        || prefix
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
    if !is_path {
        return Err("an S3 prefix has no empty part, no `.` and no `..`".to_owned());
    }
    Ok(Place::Bucket {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::url("file:///srv/backups", "/srv/backups")]
    #[case::encoded("file:///srv/my%20backups", "/srv/my backups")]
    #[case::absolute("/srv/backups", "/srv/backups")]
    #[case::relative("backups", "backups")]
    fn an_address_is_a_directory_and_prints_as_it_was_given(
        #[case] text: &str,
        #[case] directory: &str,
    ) -> anyhow::Result<()> {
        let url: StorageUrl = text.parse()?;
        assert_eq!(url.place, Place::Directory(directory.into()));
        assert_eq!(url.to_string(), text);
        Ok(())
    }

    #[rstest]
    #[case::bare("s3://backups", "backups", "")]
    #[case::slash("s3://backups/", "backups", "")]
    #[case::prefix("s3://my.backups/eu/prod/", "my.backups", "eu/prod")]
    fn an_address_is_a_bucket_and_a_prefix(
        #[case] text: &str,
        #[case] name: &str,
        #[case] prefix: &str,
    ) -> anyhow::Result<()> {
        let url: StorageUrl = text.parse()?;
        let (name, prefix) = (name.to_owned(), prefix.to_owned());
        assert_eq!(url.place, Place::Bucket { name, prefix });
        assert_eq!(url.to_string(), text);
        Ok(())
    }

    #[rstest]
    #[case::empty(" ", "is empty")]
    #[case::other("gs://key:hunter2@bucket/x", "\"gs\" are not supported by this build")]
    #[case::host("file://host/path", "absolute path")]
    #[case::no_path("file://", "absolute path")]
    #[case::a_host_alone("file://localhost", "absolute path")]
    #[case::one_slash("file:/srv/hunter2", "absolute path")]
    #[case::key("s3://key:hunter2@bucket/x", "keys come from AWS_ACCESS_KEY_ID")]
    #[case::query("s3://bucket/x?secret=hunter2", "and no more")]
    #[case::no_bucket("s3:///hunter2", "3 to 63")]
    #[case::upper("s3://Hunter2/x", "3 to 63")]
    #[case::climbing("s3://bucket/../hunter2", "no `..`")]
    #[case::empty_part("s3://bucket/a//hunter2", "no empty part")]
    fn other_addresses_are_refused_without_repeating_them(#[case] text: &str, #[case] why: &str) {
        let error = StorageUrl::from_str(text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(!error.to_lowercase().contains("hunter2"), "{error}");
    }
}
