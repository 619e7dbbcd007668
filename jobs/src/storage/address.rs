//! How a store is named: `file:///path`, or a bare directory.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A store's address: `file:///path`, or a bare directory. Printed as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageUrl {
    text: String,
    directory: PathBuf,
}

impl StorageUrl {
    /// Returns the directory; a relative one is taken from the current directory when the store is opened.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Why a text is no store's address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageUrlError(String);

impl FromStr for StorageUrl {
    type Err = StorageUrlError;

    fn from_str(text: &str) -> Result<Self, StorageUrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(StorageUrlError(
                "the store's address is empty: give file:///path or a directory".to_owned(),
            ));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Self {
                text: text.to_owned(),
                directory: PathBuf::from(text),
            });
        };
        if scheme != "file" {
            // The rest is not repeated: an address may hold a key.
            let scheme: String = scheme.chars().take(20).collect();
            return Err(StorageUrlError(format!(
                "stores of scheme {scheme:?} are not supported by this build: use file:///path or a directory"
            )));
        }
        let directory = url::Url::parse(text)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .ok_or_else(|| {
                StorageUrlError("a file address needs an absolute path: file:///path".to_owned())
            })?;
        Ok(Self {
            text: text.to_owned(),
            directory,
        })
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
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
        assert_eq!(url.directory(), Path::new(directory));
        assert_eq!(url.to_string(), text);
        Ok(())
    }

    #[rstest]
    #[case::empty(" ", "is empty")]
    #[case::other(
        "s3://key:secret@bucket/x",
        "\"s3\" are not supported by this build: use file:///path"
    )]
    #[case::host("file://host/path", "absolute path")]
    fn other_addresses_are_refused_without_repeating_them(#[case] text: &str, #[case] why: &str) {
        let error = StorageUrl::from_str(text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
