//! When a resource is due: slots, its own offset within them, and back-off. Pure; the producer's SQL mirrors it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::plan::Cadence;

mod exposure;
#[cfg(test)]
mod tests;

pub use exposure::{BELIEVED_AHEAD, Exposure, Verdict, exposure, verdict};

/// 2000-01-01T00:00:00Z, which slots are counted from, as `date_bin` is given it; any UTC midnight would do.
const ORIGIN_SECONDS: i64 = 946_684_800;
const HOUR: TimeDelta = TimeDelta::hours(1);

/// Where in its slots a resource runs: hashes of its own id and of its team's, as the catalog computed them.
///
/// Any numbers will do; 28 bits are what the catalog keeps, so that they are never negative in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The hash of the resource's id.
    pub resource: u32,
    /// The hash of the team's id.
    pub team: u32,
}

/// Returns the slot that a resource is in: it lasts from one turn of the resource to the next, and is named by the clock window
/// in UTC that its turn is in: the clock hour where the cadence is hourly, the day where it is daily.
///
/// A resource is due exactly when this slot has no queued, running or succeeded backup. So it has its turn at the same
/// point of every window, its exposure is never longer than the cadence and the time that a backup takes, and whatever
/// moved it (an outage, its registration), it is back on its own turn within one cadence.
#[must_use]
pub fn slot_start(cadence: Cadence, spread: Spread, now: DateTime<Utc>) -> DateTime<Utc> {
    let length = cadence.as_delta().num_seconds();
    let shifted = (now - offset(cadence, spread)).timestamp();
    let into = (shifted - ORIGIN_SECONDS).rem_euclid(length);
    // Out of range at the very beginning of chrono's calendar only.
    DateTime::from_timestamp(shifted - into, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Returns how far into each clock window the resource has its turn; always within the window.
///
/// Windows of an hour or less spread by the second, so that the top of the hour is no stampede. In longer ones a team keeps
/// its own hour, so that its backups stay together and at night if that is where they fell, and its resources spread
/// within that hour.
#[must_use]
pub fn offset(cadence: Cadence, spread: Spread) -> TimeDelta {
    let length = cadence.as_delta();
    if length <= HOUR {
        return TimeDelta::seconds(i64::from(spread.resource) % length.num_seconds());
    }
    let hours = i64::from(spread.team) % length.num_hours();
    let seconds = i64::from(spread.resource) % HOUR.num_seconds();
    TimeDelta::hours(hours) + TimeDelta::seconds(seconds)
}

/// Whether the current slot has a queued, running or succeeded backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// It has none.
    Free,
    /// It has one; the next backup is the next slot's.
    Taken,
}

/// Returns when the resource is due next: now where its slot is free, else at its next turn.
#[must_use]
pub fn next_due(cadence: Cadence, spread: Spread, now: DateTime<Utc>, slot: Slot) -> DateTime<Utc> {
    match slot {
        Slot::Free => now,
        Slot::Taken => {
            let turn = slot_start(cadence, spread, now) + offset(cadence, spread);
            turn + cadence.as_delta()
        }
    }
}

/// Returns how long to wait after a failed backup before the slot is tried again: 1 minute, doubled by each failure in a row.
///
/// Never longer than the cadence, nor than an hour. None without a failure.
#[must_use]
pub fn retry_delay(consecutive_failures: u32, cadence: Cadence) -> TimeDelta {
    let Some(doublings) = consecutive_failures.checked_sub(1) else {
        return TimeDelta::zero();
    };
    // Six doublings pass the hour already.
    let minutes = 1_i64 << doublings.min(6);
    TimeDelta::minutes(minutes)
        .min(cadence.as_delta())
        .min(HOUR)
}
