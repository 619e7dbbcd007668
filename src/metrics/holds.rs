//! Which promises cannot be held to the minute?

use metrics::gauge;

use super::{described::INFEASIBLE, float};

/// Shows how many promises of each paid tier are held strictly and kept by no cadence; a tier without any is shown at zero.
pub fn infeasible(paid: &[String], counts: &[(String, i64)]) {
    for tier in paid {
        let found = counts.iter().find(|(name, _)| name == tier);
        gauge!(INFEASIBLE, "tier" => tier.clone())
            .set(found.map_or(0.0, |(_, count)| float(*count)));
    }
}
