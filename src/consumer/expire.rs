//! Removes a restore point that retention has let go.

use lastgood_jobs::{
    error::ErrorKind,
    job::{Expire, Job},
};

use super::Shared;
use crate::queue::{Failure, Outcome, Run};

/// Removes a restore point that retention has let go.
pub(super) async fn expire(
    _run: &Run<Job>,
    _job: &Expire,
    _shared: &Shared,
) -> Result<Outcome, Failure> {
    Err(Failure::permanent(
        ErrorKind::Internal,
        "not built yet".to_owned(),
    ))
}
