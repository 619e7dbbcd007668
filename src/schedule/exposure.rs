//! What a failure right now would lose, and whether that is within the promise.

use chrono::{DateTime, TimeDelta, Utc};

use crate::plan::{Plan, Protection};

/// What a failure right now would lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Everything: there is no restore point. The time is how long the resource has been registered.
    Never(TimeDelta),
    /// Everything since the newest restorable instant, so long ago.
    Age(TimeDelta),
}

impl Exposure {
    /// Returns how long the resource has been without a restore point to now; from its registration where it never had one.
    #[must_use]
    pub fn age(self) -> TimeDelta {
        match self {
            Self::Never(age) | Self::Age(age) => age,
        }
    }
}

/// Returns the exposure of a resource from the newest instant it can be restored to and the instant it was registered.
///
/// An instant in the future, which clocks that disagree can produce, counts as now.
#[must_use]
pub fn exposure(
    now: DateTime<Utc>,
    newest: Option<DateTime<Utc>>,
    registered: DateTime<Utc>,
) -> Exposure {
    let since = |instant: DateTime<Utc>| (now - instant).max(TimeDelta::zero());
    match newest {
        None => Exposure::Never(since(registered)),
        Some(newest) => Exposure::Age(since(newest)),
    }
}

/// Whether an exposure is within what a plan promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within the RPO.
    Kept,
    /// Past the RPO, within the tolerance: a backup takes time.
    Late,
    /// Past the tolerance too.
    Broken,
}

/// Returns whether an exposure is within what the plan promises, or `None` where it promises nothing.
#[must_use]
pub fn verdict(plan: &Plan, exposure: Exposure) -> Option<Verdict> {
    match plan.protection {
        Protection::Never(_) => None,
        Protection::Every(_) => Some(judged(plan, exposure.age())),
    }
}

fn judged(plan: &Plan, age: TimeDelta) -> Verdict {
    let rpo = plan.rpo.as_delta();
    if age <= rpo {
        Verdict::Kept
    } else if age <= plan.allowed() {
        Verdict::Late
    } else {
        Verdict::Broken
    }
}
