//! What drills have shown, in figures.

use lastgood_jobs::resource::Engine;
use metrics::{counter, gauge};

use super::{
    described::{DRILLS, UNPROVEN, UNPROVEN_OVERDUE, WANTING},
    float,
};
use crate::{catalog::UnprovenCount, proof::ProofOutcome};

/// Shows the consumer's series at zero.
pub(super) fn prime() {
    for engine in Engine::ALL {
        for outcome in ProofOutcome::ALL {
            counter!(DRILLS, "engine" => engine.as_str(), "outcome" => outcome.as_str())
                .absolute(0);
        }
    }
}

/// Counts a drill.
pub fn drilled(engine: &str, outcome: ProofOutcome) {
    counter!(DRILLS, "engine" => engine.to_owned(), "outcome" => outcome.as_str()).increment(1);
}

/// Shows how many resources are not proven restorable; an engine without any is shown at zero.
pub fn unproven(counts: &[UnprovenCount]) {
    for engine in Engine::ALL {
        let found = counts.iter().find(|count| count.engine == engine.as_str());
        let show = |name: &'static str, count: fn(&UnprovenCount) -> i64| {
            let count = found.map_or(0.0, |found| float(count(found)));
            gauge!(name, "engine" => engine.as_str()).set(count);
        };
        show(UNPROVEN_OVERDUE, |count| count.overdue);
        show(WANTING, |count| count.wanting);
        show(UNPROVEN, |count| count.not_possible);
    }
}
