//! When a resource is due: slots, its own offset within them, and back-off. Pure; the producer's SQL mirrors it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::plan::Cadence;

mod exposure;
#[cfg(test)]
mod tests;

pub use exposure::{Exposure, Verdict, exposure, verdict};

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

/// Returns the start of the slot that `now` is in: the clock hour where the cadence is hourly, midnight where it is daily, in UTC.
#[must_use]
pub fn slot_start(cadence: Cadence, now: DateTime<Utc>) -> DateTime<Utc> {
    let length = cadence.as_delta().num_seconds();
    let into = (now.timestamp() - ORIGIN_SECONDS).rem_euclid(length);
    // Out of range at the very beginning of chrono's calendar only.
    DateTime::from_timestamp(now.timestamp() - into, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Returns how far into each slot the resource has its turn; always within the slot.
///
/// Slots of an hour or less spread by the second. In longer ones a team keeps its own hour, so that its backups stay
/// together and at night if that is where they fell, and its resources spread within that hour.
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

/// Whether a resource is due, given that its current slot has no queued, running or succeeded backup.
///
/// `newest` is the newest restorable instant. It is due when it has none, when its exposure has reached the cadence, or
/// when its turn has come, even where an ad-hoc backup was made just before: skipping that turn would move the resource
/// to the hour of the ad-hoc backup.
///
/// The trap: exposure must not pass the cadence and a slot runs once, so a resource can move to an earlier turn but not
/// to a later one. One that was first backed up earlier in its slot than its own offset stays where it was.
#[must_use]
pub fn is_due(
    cadence: Cadence,
    spread: Spread,
    newest: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> bool {
    let turn = slot_start(cadence, now) + offset(cadence, spread);
    newest.is_none_or(|newest| now - newest >= cadence.as_delta()) || now >= turn
}

/// Whether the current slot has a queued, running or succeeded backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// It has none.
    Free,
    /// It has one; the next backup is the next slot's.
    Taken,
}

/// Returns when the resource is due next, if nothing else happens; `now` where it is due already.
#[must_use]
pub fn next_due(
    cadence: Cadence,
    spread: Spread,
    newest: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    slot: Slot,
) -> DateTime<Utc> {
    let current = slot_start(cadence, now);
    let turn = offset(cadence, spread);
    let aged = newest.map(|newest| newest + cadence.as_delta());
    match slot {
        Slot::Free => aged.map_or(now, |aged| aged.min(current + turn)).max(now),
        Slot::Taken => {
            let next = current + cadence.as_delta();
            aged.map_or(next + turn, |aged| aged.min(next + turn))
                .max(next)
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
