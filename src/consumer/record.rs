//! The catalog's own record of a restore point: what a store says about it is not enough.

use lastgood_jobs::{error::ErrorKind, manifest::Manifest, sought::Sought};

use crate::{catalog::PointRow, queue::Failure};

/// Returns the manifest that the catalog recorded.
pub(super) fn recorded(point: &PointRow) -> Result<Manifest, Failure> {
    point.recorded().map_err(|error| {
        let message = format!(
            "the catalog's copy of the manifest of {}: {error}",
            point.id
        );
        Failure::permanent(ErrorKind::Config, message)
    })
}

/// Returns what a job has to look for: the point with the recorded manifest, and no other under its key.
pub(super) fn sought<'a>(point: &'a PointRow, recorded: &'a Manifest) -> Sought<'a> {
    Sought {
        manifest_key: &point.manifest_key,
        recorded: Some(recorded),
    }
}
