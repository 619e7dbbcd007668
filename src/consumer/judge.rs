//! Whether an error condemns a restore point, or only the moment: a store that is away has lost nothing.

use lastgood_jobs::{
    error::{Damage, ErrorKind, JobError},
    manifest::VERSION,
};

use super::Shared;
use crate::{catalog::PointRow, queue::Failure};

/// Returns the failure that a job's errors are, one from each store that it tried to read a restore point from, the first store
/// first; and condemns the point if it is to blame. A store that could not be read may hold it whole: then it is not.
pub(super) async fn judge(errors: Vec<JobError>, point: &PointRow, shared: &Shared) -> Failure {
    let mut errors = errors.into_iter();
    let Some(error) = errors.next() else {
        return Failure::permanent(ErrorKind::Config, "no store is configured");
    };
    if matches!(blame(&error), Blame::Elsewhere) {
        return error.into();
    }
    if let Some(other) = errors.find(|other| matches!(blame(other), Blame::Elsewhere)) {
        let message = format!(
            "{}: and another store cannot be read: {}",
            error.report(),
            other.report()
        );
        return Failure::retryable(other.kind(), message);
    }
    let verdict = match blame(&error) {
        Blame::Elsewhere => Verdict::NotProven,
        Blame::Point | Blame::Absence if is_beyond_us(point) => Verdict::NotProven,
        Blame::Point => Verdict::Guilty,
        Blame::Absence => is_missed_alone(point, shared).await,
    };
    let failure = Failure::from(error);
    match verdict {
        Verdict::NotProven => failure,
        Verdict::Guilty => Failure {
            permanent: true,
            condemned: Some(point.id),
            ..failure
        },
        Verdict::WrongStore => Failure::retryable(
            ErrorKind::Storage,
            format!(
                "{}: but other restore points are missing too: see that this worker's store is mounted and the right one \
                 (--storage); nothing was quarantined",
                failure.message
            ),
        ),
    }
}

/// What retention has let go is being removed, and a manifest of another version, as in the middle of an upgrade, is nothing
/// that this build may judge.
fn is_beyond_us(point: &PointRow) -> bool {
    let version = point
        .manifest
        .get("version")
        .and_then(serde_json::Value::as_u64);
    point.expired_at.is_some() || version != Some(VERSION.into())
}

enum Blame {
    /// Bytes were read, and they are wrong.
    Point,
    /// Nothing was found where it should be.
    Absence,
    /// Nothing is known about the point.
    Elsewhere,
}

enum Verdict {
    Guilty,
    NotProven,
    WrongStore,
}

fn blame(error: &JobError) -> Blame {
    if let JobError::NoSuchPoint { .. }
    | JobError::Damaged {
        source: Damage::Missing,
        ..
    } = error
    {
        return Blame::Absence;
    }
    match error.kind() {
        ErrorKind::Corrupt => Blame::Point,
        ErrorKind::Config
        | ErrorKind::Auth
        | ErrorKind::Connect
        | ErrorKind::Tool
        | ErrorKind::Dump
        | ErrorKind::Storage
        | ErrorKind::Target
        | ErrorKind::Restore
        | ErrorKind::LeaseLost
        | ErrorKind::Internal => Blame::Elsewhere,
    }
}

/// A directory that is not mounted, or the wrong bucket, misses everything: then no point is to blame.
async fn is_missed_alone(point: &PointRow, shared: &Shared) -> Verdict {
    let Ok(others) = shared.catalog.other_manifest_keys(point.id).await else {
        return Verdict::NotProven;
    };
    if others.is_empty() {
        return Verdict::Guilty;
    }
    for key in others {
        match shared.stores.primary().storage.manifest(&key).await {
            Ok(Some(_)) | Err(JobError::BadManifest { .. }) => return Verdict::Guilty,
            Ok(None) => {}
            Err(_) => return Verdict::NotProven,
        }
    }
    Verdict::WrongStore
}
