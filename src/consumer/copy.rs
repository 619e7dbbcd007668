//! Copies a restore point into another store.

use lastgood_jobs::{
    error::ErrorKind,
    job::{Copy, Job},
};

use super::Shared;
use crate::queue::{Failure, Outcome, Run};

/// Copies a restore point into another store.
pub(super) async fn copy(
    _run: &Run<Job>,
    _job: &Copy,
    _shared: &Shared,
) -> Result<Outcome, Failure> {
    Err(Failure::permanent(
        ErrorKind::Internal,
        "not built yet".to_owned(),
    ))
}
