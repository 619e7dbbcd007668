//! Reads a restore point back, all of it.

use lastgood_jobs::{
    error::ErrorKind,
    job::{Job, Verify},
};

use super::Shared;
use crate::queue::{Failure, Outcome, Run};

/// Reads a restore point back, all of it.
pub(super) async fn verify(
    _run: &Run<Job>,
    _job: &Verify,
    _shared: &Shared,
) -> Result<Outcome, Failure> {
    Err(Failure::permanent(
        ErrorKind::Internal,
        "not built yet".to_owned(),
    ))
}
