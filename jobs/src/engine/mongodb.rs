//! MongoDB: dumped and restored by this process itself, over the network.

mod address;
pub mod archive_format;
pub(crate) mod dump;
mod error;
mod meaning;
pub(crate) mod restore;
pub(crate) mod session;

use secrecy::SecretString;

pub use self::{error::MongodbError, restore::RestoreFault};
use crate::error::JobError;

/// Checks a connection URL without reaching for its server. The error never repeats the URL.
pub(crate) fn check_url(url: &SecretString) -> Result<(), JobError> {
    address::parse(url)?;
    Ok(())
}

/// Returns the protocols and formats that this build speaks.
pub(crate) fn protocols() -> Vec<String> {
    vec!["TODO".to_owned()]
}
