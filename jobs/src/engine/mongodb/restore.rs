//! A restore, native.

use secrecy::SecretString;

use super::error::MongodbError;
use crate::{
    error::JobError,
    job::{Attempt, Restore},
    manifest::Manifest,
    resource::Resource,
    restore::Restored,
    worker::Worker,
};

/// Restores the point that `manifest` describes to where `job` says.
pub(crate) async fn restore(
    attempt: Attempt,
    resource: &Resource,
    job: &Restore,
    manifest: &Manifest,
    target_url: Option<&SecretString>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let _ = (attempt, resource, job, manifest, target_url, worker);
    let why = "TODO".to_owned();
    Err(MongodbError::Address { why }.into())
}
