//! A dump, native.

use secrecy::SecretString;

use super::error::RedisError;
use crate::{backup::Dumped, error::JobError, worker::Worker};

/// Dumps the server behind `url` into `key`. Any failure leaves no object.
pub(crate) async fn dump(
    url: &SecretString,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    let _ = (url, key, worker);
    let why = "TODO".to_owned();
    Err(RedisError::Address { why }.into())
}
