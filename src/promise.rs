//! How was the promise kept? Exposure over time and the breaches of the RPO, from facts that are on record. Pure.
//!
//! docs/explanation/attained-rpo.md says the rules in words; each of them is a test.

mod figures;
mod moment;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

pub use figures::{Breach, Figures, Holder, breaches, figures};
pub use moment::{Day, Month, MonthError};
pub use timeline::{Piece, timeline};

/// A stretch of time, without its last instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub until: DateTime<Utc>,
}

impl Span {
    fn has(self, at: DateTime<Utc>) -> bool {
        self.from <= at && at < self.until
    }
}

/// A restore point while it could have been restored from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The instant that it brings back. Before it, the point counts for nothing.
    pub consistent_at: DateTime<Utc>,
    /// When it came to exist, or was confirmed if it was suspect.
    pub from: DateTime<Utc>,
    /// When it counted no more; `None`: it still counts.
    pub until: Option<DateTime<Utc>>,
}

/// Whether a resource is to be backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// As its tier says.
    Active,
    /// Not for now: it is paused, or its own retention vetoes it.
    Suspended,
    /// No more.
    Removed,
}

/// What a resource was from an instant on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The instant.
    pub at: DateTime<Utc>,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// Whether it is to be backed up.
    pub service: Service,
}

/// What is on record of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was registered: until its first restore point it is exposed since then.
    pub registered_at: DateTime<Utc>,
    /// What it was and when, oldest first.
    pub changes: Vec<Change>,
    /// Its restore points, in any order.
    pub points: Vec<Counted>,
}

/// What a tier promises from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The instant.
    pub since: DateTime<Utc>,
    /// The RPO; zero promises nothing.
    pub rpo: TimeDelta,
    /// The exposure above which the promise is broken: the RPO and its tolerance.
    pub allowed: TimeDelta,
}

/// An operator's pause of the queue. A scope of `None` covers any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// One engine.
    pub engine: Option<String>,
    /// One tier.
    pub tier: Option<String>,
    /// One team.
    pub team: Option<String>,
    /// When.
    pub span: Span,
}

impl Paused {
    fn covers(&self, change: &Change, at: DateTime<Utc>) -> bool {
        let is =
            |scope: &Option<String>, it: &String| scope.as_ref().is_none_or(|scope| scope == it);
        self.span.has(at)
            && is(&self.engine, &change.engine)
            && is(&self.tier, &change.tier)
            && is(&self.team, &change.team)
    }
}

/// What is on record of the whole fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// What each tier promised and since when, oldest first. Before its first entry a tier promised nothing that is on record.
    pub terms: HashMap<String, Vec<Terms>>,
    /// The pauses.
    pub pauses: Vec<Paused>,
    /// When no producer was alive, oldest first; none overlaps another.
    pub down: Vec<Span>,
}

impl Fleet {
    /// Returns what a tier promised at an instant, if it promised anything.
    fn terms_at(&self, tier: &str, at: DateTime<Utc>) -> Option<Terms> {
        let since = self.terms.get(tier)?.iter().rev();
        since
            .copied()
            .find(|terms| terms.since <= at)
            .filter(|terms| terms.rpo > TimeDelta::zero())
    }
}
