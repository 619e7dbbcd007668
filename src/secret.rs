//! How secrets are kept: behind a reference, or sealed under the master key. Never in clear text, never on a command line.

mod master;

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::Path,
    str::FromStr,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{SecretString, zeroize::Zeroizing};

use crate::{blocking::Calls, regular};

pub use master::{MasterKey, MasterKeys};

/// How long reading a small file may take before its file system counts as not answering.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Limits the reads of files that customers' references name, those that hang included.
static READS: Calls = Calls::at_most(32);
/// The files being read now: by how many readers, and since when.
static BEING_READ: LazyLock<Mutex<HashMap<String, (usize, Instant)>>> =
    LazyLock::new(Mutex::default);
/// No connection URL comes near this size; a device or a log file that was named by mistake does.
const LONGEST_SECRET: u64 = 64 * 1024;

/// Why a secret cannot be had. No variant contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A URL stands where every user of the machine can read it.
    #[error(
        "a URL on the command line can be read by every user of this machine: give env:NAME, file:/path, --url-stdin or --url-file PATH"
    )]
    UrlInArgv,
    /// A secret key stands where the path of its file belongs.
    #[error(
        "that is a secret key, and every user of this machine can read the command line: put it into a file, and give the file's path"
    )]
    KeyInArgv,
    /// The reference begins with neither `env:` nor `file:`, or what follows is malformed.
    #[error("a connection is env:NAME or file:/absolute/path")]
    NotAReference,
    /// The environment variable is not set.
    #[error(
        "environment variable {0} is not set in this process (env:{0}): set it where consumers run"
    )]
    NoSuchVariable(String),
    /// The file cannot be read.
    #[error("cannot read {path} (file:{path}) here, where consumers run")]
    NoSuchFile {
        /// The path.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is a pipe, a device or a directory.
    #[error(
        "{path} (file:{path}) is not a regular file: give a file that holds the URL and nothing else"
    )]
    NotAFile {
        /// The path.
        path: String,
    },
    /// The file's file system does not answer.
    #[error(
        "{path} (file:{path}) was not read within {} s: its file system does not answer; check the mount",
        READ_WITHIN.as_secs()
    )]
    NoAnswer {
        /// The path.
        path: String,
    },
    /// It is empty, not UTF-8, or too large.
    #[error("{0} holds no URL: it is empty, not UTF-8, or larger than 64 KiB")]
    Empty(String),
    /// There is no master key.
    #[error(
        "LASTGOOD_MASTER_KEY or LASTGOOD_MASTER_KEY_FILE is needed to seal or open a URL or a key: make one with `openssl rand -base64 32`"
    )]
    NoMasterKey,
    /// The master key is malformed.
    #[error("the master key is not 32 bytes in base64: make one with `openssl rand -base64 32`")]
    BadMasterKey,
    /// What is sealed does not open.
    #[error(
        "the sealed secret does not open: it was sealed under another LASTGOOD_MASTER_KEY, or for another resource or key, or was altered"
    )]
    DoesNotOpen,
}

/// Where a URL is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// An environment variable of the consumer.
    Env(String),
    /// A file on the consumer's machine.
    File(String),
}

impl FromStr for Reference {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        if let Some(name) = text.strip_prefix("env:") {
            let mut letters = name.bytes();
            let begins = letters
                .next()
                .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
            if begins && letters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Ok(Self::Env(name.to_owned()));
            }
        }
        let path = text.strip_prefix("file:");
        let is_absolute = |path: &&str| {
            path.len() > 1
                && path.starts_with('/')
                && !path.starts_with("//")
                && !path.contains(char::is_control)
        };
        if let Some(path) = path.filter(is_absolute) {
            return Ok(Self::File(path.to_owned()));
        }
        Err(if text.contains("://") {
            SecretError::UrlInArgv
        } else {
            SecretError::NotAReference
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl Reference {
    /// Returns the secret that this process finds under the reference now.
    ///
    /// A file must be a regular one, and the read is abandoned if its file system does not answer: whoever names a file must not be
    /// able to stop a consumer.
    pub async fn resolve(&self) -> Result<SecretString, SecretError> {
        let Self::File(path) = self else {
            return self.resolve_blocking();
        };
        let no_answer = || SecretError::NoAnswer { path: path.clone() };
        let reading = Reading::begin(path).ok_or_else(no_answer)?;
        let this = self.clone();
        let read = move || {
            let read = this.resolve_blocking();
            drop(reading);
            read
        };
        let read = READS.answered(READ_WITHIN, read).await;
        read.unwrap_or_else(|| Err(no_answer()))
    }

    /// Like [`Self::resolve`], but without a time limit: for the start of a process, which has nothing else to do.
    pub fn resolve_blocking(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::Env(name) => {
                let value = std::env::var_os(name)
                    .ok_or_else(|| SecretError::NoSuchVariable(name.clone()))?;
                secret(value.into_encoded_bytes(), &self.to_string())
            }
            Self::File(path) => read_regular_file(path),
        }
    }
}

/// A read under way of a file that a reference names.
struct Reading(String);

impl Reading {
    /// Returns `None` if an earlier read of the file hangs: one thread waiting for it is enough.
    fn begin(path: &str) -> Option<Self> {
        let mut all = BEING_READ.lock().unwrap_or_else(PoisonError::into_inner);
        let (readers, since) = all.entry(path.to_owned()).or_insert((0, Instant::now()));
        if *readers > 0 && since.elapsed() > READ_WITHIN {
            return None;
        }
        *readers += 1;
        Some(Self(path.to_owned()))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut all = BEING_READ.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((readers, _)) = all.get_mut(&self.0) {
            *readers -= 1;
            if *readers == 0 {
                all.remove(&self.0);
            }
        }
    }
}

fn read_regular_file(path: &str) -> Result<SecretString, SecretError> {
    let unreadable = |source| SecretError::NoSuchFile {
        path: path.to_owned(),
        source,
    };
    let opened = regular::open(Path::new(path)).map_err(unreadable)?;
    let file = opened.ok_or_else(|| SecretError::NotAFile {
        path: path.to_owned(),
    })?;
    bounded(file, path)
}

/// Returns the secret in an open file, reading no more than a secret can have.
fn bounded(file: fs::File, path: &str) -> Result<SecretString, SecretError> {
    use io::Read as _;
    let mut bytes = Vec::new();
    file.take(LONGEST_SECRET + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| SecretError::NoSuchFile {
            path: path.to_owned(),
            source,
        })?;
    secret(bytes, path)
}

/// Returns the secret in a file that the operator of this process named, trimmed of white space. The file may be a pipe.
pub fn read_secret_file(path: &str) -> Result<SecretString, SecretError> {
    if path.to_ascii_uppercase().contains("AGE-SECRET-KEY-") {
        return Err(SecretError::KeyInArgv);
    }
    let file = fs::File::open(path).map_err(|source| SecretError::NoSuchFile {
        path: path.to_owned(),
        source,
    })?;
    bounded(file, path)
}

/// Returns the secret in `bytes`, trimmed of white space.
pub fn secret(bytes: Vec<u8>, from: &str) -> Result<SecretString, SecretError> {
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| u64::try_from(text.len()).is_ok_and(|len| len <= LONGEST_SECRET))
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| SecretError::Empty(from.to_owned()))?;
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_url_in_argv_is_refused_without_repeating_it() {
        let error = "postgresql://u:marker@h/db"
            .parse::<Reference>()
            .unwrap_err();
        assert!(matches!(error, SecretError::UrlInArgv));
        assert!(!format!("{error} {error:?}").contains("marker"));
    }

    /// A file that a customer's service names must not stop its reader. The test's runtime has a single thread, which must not block.
    #[tokio::test]
    async fn a_reference_is_a_regular_file_of_few_bytes_and_no_pipe() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let refer = |name: &str| Reference::File(at(name).display().to_string());
        let why = async |name: &str| refer(name).resolve().await.unwrap_err().to_string();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )?;
        fs::create_dir(at("directory"))?;
        for odd in ["pipe", "directory"] {
            assert!(why(odd).await.contains("is not a regular file"), "{odd}");
        }
        for device in ["/dev/zero", "/dev/tty"] {
            let read = Reference::File(device.to_owned()).resolve().await;
            assert!(read.is_err(), "{device}");
        }
        fs::File::create(at("large"))?.set_len(LONGEST_SECRET + 1)?;
        assert!(why("large").await.contains("larger than 64 KiB"));
        fs::write(at("url"), "redis://h\n")?;
        // Mounted secrets look like this: a link to a file next to it.
        std::os::unix::fs::symlink(at("url"), at("link"))?;
        let url = refer("link").resolve().await?;
        assert_eq!(url.expose_secret(), "redis://h");
        Ok(())
    }

    #[test]
    fn a_file_whose_read_hangs_is_not_read_again_meanwhile() {
        let path = "/a/path/of/this/test";
        let hangs = Reading::begin(path).unwrap();
        assert!(Reading::begin(path).is_some(), "two at once are no fault");
        if let Some((_, since)) = BEING_READ.lock().unwrap().get_mut(path) {
            *since = Instant::now().checked_sub(READ_WITHIN * 2).unwrap();
        }
        assert!(Reading::begin(path).is_none());
        drop(hangs);
        assert!(Reading::begin(path).is_some());
    }

    #[test]
    fn references_are_exact() {
        assert_eq!(
            "env:A_1".parse::<Reference>().unwrap(),
            Reference::Env("A_1".into())
        );
        assert_eq!(
            "file:/a/b".parse::<Reference>().unwrap(),
            Reference::File("/a/b".into())
        );
        for text in [
            "", "env:", "env:1A", "env:A B", "file:", "file:/", "file:a", "vault:x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
