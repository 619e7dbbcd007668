//! What a failure right now would lose, and whether that is within the promise.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::plan::{Plan, Protection};

/// How far ahead an instant may be and still be believed, since two clocks never agree exactly. An instant that is further ahead comes from
/// a clock that was wrong, and says nothing.
pub const BELIEVED_AHEAD: Duration = Duration::from_mins(5);

/// What a failure right now would lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Everything: there is no restore point. The time is how long the resource has been registered.
    Never(TimeDelta),
    /// Everything since the newest restorable instant, which is this long ago.
    Age(TimeDelta),
}

impl Exposure {
    /// Returns how old the newest restore point's data is, or how long the resource has been registered if it never had one.
    #[must_use]
    pub fn age(self) -> TimeDelta {
        match self {
            Self::Never(age) | Self::Age(age) => age,
        }
    }
}

/// Returns the exposure of a resource, given its newest restorable instant and when it was registered.
///
/// An instant slightly in the future, as clocks that disagree produce, counts as now. One further ahead is not believed. The resource then
/// counts as exposed since its registration or, if that is too far ahead as well, since the year 2000, because nobody knows since when.
#[must_use]
pub fn exposure(
    now: DateTime<Utc>,
    newest: Option<DateTime<Utc>>,
    registered: DateTime<Utc>,
) -> Exposure {
    let ahead = TimeDelta::from_std(BELIEVED_AHEAD).unwrap_or_default();
    let believed = |instant: &DateTime<Utc>| *instant <= now + ahead;
    let candidates = [newest.unwrap_or(registered), registered];
    let since = candidates.into_iter().find(believed);
    let age = (now - since.unwrap_or_else(nobody_knows)).max(TimeDelta::zero());
    match newest {
        None => Exposure::Never(age),
        Some(_) => Exposure::Age(age),
    }
}

/// Returns an instant before any resource was registered.
fn nobody_knows() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(946_684_800)
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

/// Returns whether an exposure is within what the plan promises, or `None` if it promises nothing.
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
