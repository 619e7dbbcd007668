//! A dump, native.

use super::error::MongodbError;
use crate::{backup::Dumped, error::JobError, resource::Resource, worker::Worker};

/// Dumps the resource's database or deployment into `key`. Any failure leaves no object.
pub(crate) async fn dump(
    resource: &Resource,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    let _ = (resource, key, worker);
    let why = "TODO".to_owned();
    Err(MongodbError::Address { why }.into())
}
