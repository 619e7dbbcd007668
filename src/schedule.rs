//! When a resource is due: slots, its own offset within them, and back-off. Pure; the producer's SQL mirrors these functions.

use chrono::{DateTime, TimeDelta, Utc};

use crate::plan::Cadence;

mod exposure;
mod strict;
#[cfg(test)]
mod tests;

pub use exposure::{BELIEVED_AHEAD, Exposure, Verdict, exposure, verdict};
pub use strict::{Before, Held, Infeasible, Taken, Terms};

/// 2000-01-01T00:00:00Z, from which slots are counted, as in the SQL's `date_bin`. Any UTC midnight would do.
const ORIGIN_SECONDS: i64 = 946_684_800;
const HOUR: TimeDelta = TimeDelta::hours(1);

/// Where in its slots a resource runs: hashes of its own id and of its team's, as the catalog computed them.
///
/// Any numbers will do. The catalog keeps 28 bits, so that they are never negative in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The hash of the resource's id.
    pub resource: u32,
    /// The hash of the team's id.
    pub team: u32,
}

/// Returns the slot that a resource is in.
///
/// A slot lasts from one turn of the resource to the next. It is named by the clock window in UTC that contains its turn: the clock hour
/// for an hourly cadence, the day for a daily one.
///
/// A resource is due exactly when this slot has no queued, running or succeeded backup. So it has its turn at the same
/// point of every window, and its exposure is never longer than the cadence plus the time that a backup takes. Whatever moved it, such as
/// an outage or its registration, it is back on its own turn within one cadence.
#[must_use]
pub fn slot_start(cadence: Cadence, spread: Spread, now: DateTime<Utc>) -> DateTime<Utc> {
    let length = cadence.as_delta().num_seconds();
    let shifted = (now - offset(cadence, spread)).timestamp();
    let into = (shifted - ORIGIN_SECONDS).rem_euclid(length);
    // Out of range only at the very beginning of chrono's calendar.
    DateTime::from_timestamp(shifted - into, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Returns how far into each clock window the resource has its turn; always within the window.
///
/// In windows of an hour or less, resources are spread by the second, so that they do not all start at the top of the hour. In longer
/// windows a team keeps its own hour, so that its backups stay together (and at night, if that is where they fell), and its resources are
/// spread within that hour.
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
    /// It has one: the next backup belongs to the next slot.
    Taken,
}

/// Returns when the resource is due next: now if its slot is free, else at its next turn.
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
/// Never longer than the cadence or an hour. Zero without a failure.
#[must_use]
pub fn retry_delay(consecutive_failures: u32, cadence: Cadence) -> TimeDelta {
    let Some(doublings) = consecutive_failures.checked_sub(1) else {
        return TimeDelta::zero();
    };
    // Six doublings exceed the hour already.
    let minutes = 1_i64 << doublings.min(6);
    TimeDelta::minutes(minutes)
        .min(cadence.as_delta())
        .min(HOUR)
}
