//! Which promises are held strictly and kept by no cadence, and what would help.

use super::{Status, printable};

/// Describes each, and how many there are where not all are shown.
pub(super) fn told(status: &Status) -> Vec<String> {
    let mut told: Vec<_> = status
        .infeasible
        .iter()
        .map(|it| {
            format!(
                "INFEASIBLE: the RPO of {} cannot be held to the minute: {}",
                printable(&it.resource),
                it.infeasible_because
            )
        })
        .collect();
    let all: i64 = status.tiers.iter().map(|tier| tier.infeasible).sum();
    if all > i64::try_from(told.len()).unwrap_or(i64::MAX) {
        told.push(format!(
            "INFEASIBLE: {all} promises in all, {} of them shown here",
            told.len()
        ));
    }
    told
}
