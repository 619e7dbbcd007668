//! One restore, end to end: verify the archive, then bring it back without harming what is there.

use secrecy::SecretString;

use crate::{
    error::JobError,
    job::{Attempt, DropReplaced, Restore},
    resource::Resource,
    worker::Worker,
};

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// The database that holds the data now.
    pub database: String,
    /// The database that was replaced and kept, if any.
    pub kept: Option<String>,
    /// Tables brought back.
    pub tables: u64,
    /// Bytes of the dump.
    pub dump_bytes: u64,
    /// What the reader should know besides.
    pub notes: Vec<String>,
}

/// Restores the point whose manifest is at `manifest_key`.
///
/// `target_url` is the resolved secret reference of [`crate::job::RestoreTarget::Reference`], else `None`.
/// Safe to run twice: a second delivery after the swap finds it done.
pub async fn restore(
    _attempt: Attempt,
    _resource: &Resource,
    _job: &Restore,
    _manifest_key: &str,
    _target_url: Option<SecretString>,
    _worker: &Worker,
) -> Result<Restored, JobError> {
    todo!()
}

/// Drops a database that a restore of this resource replaced and kept. Dropping what is gone already succeeds.
pub async fn drop_replaced(_resource: &Resource, _job: &DropReplaced) -> Result<(), JobError> {
    todo!()
}
