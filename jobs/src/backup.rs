//! One backup, end to end: dump, compress, hash, store, check, and last of all the manifest.

use crate::{
    error::JobError, job::Attempt, manifest::Manifest, resource::Resource, worker::Worker,
};

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// Where its manifest is.
    pub manifest_key: String,
    /// What the manifest says.
    pub manifest: Manifest,
}

/// Makes a restore point, or adopts the one that an earlier attempt of this run has committed.
///
/// Cancel-safe: dropping the future kills the tool and aborts the upload.
/// `previous_dump_bytes` is the size of the resource's last dump, to notice one that shrank by more than half.
pub async fn backup(
    _attempt: Attempt,
    _resource: &Resource,
    _previous_dump_bytes: Option<u64>,
    _worker: &Worker,
) -> Result<RestorePoint, JobError> {
    todo!()
}
