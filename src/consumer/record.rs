//! What has the catalog recorded of a restore point? A store's own word for it is not enough.

use lastgood_jobs::{error::ErrorKind, manifest::Manifest, sought::Sought};

use crate::{catalog::PointRow, queue::Failure};

/// Returns the manifest as the catalog has it.
pub(super) fn recorded(point: &PointRow) -> Result<Manifest, Failure> {
    point.recorded().map_err(|error| {
        let message = format!(
            "the catalog's copy of the manifest of {}: {error}",
            point.id
        );
        Failure::permanent(ErrorKind::Config, message)
    })
}

/// Returns what a job is to look for: the point whose manifest is the recorded one, and no other under its key.
pub(super) fn sought<'a>(point: &'a PointRow, recorded: &'a Manifest) -> Sought<'a> {
    Sought {
        manifest_key: &point.manifest_key,
        recorded: Some(recorded),
    }
}
