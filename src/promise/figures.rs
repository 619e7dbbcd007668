//! For how long was a promise late or broken, and from when to when? Sums over pieces of time.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Piece, Span};

/// Whose promise it was, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder<'a> {
    /// The team.
    pub team: &'a str,
    /// The tier.
    pub tier: &'a str,
}

/// How a promise was kept, in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// For how long something was promised, without what was paused.
    pub promised: TimeDelta,
    /// For how much of it the exposure was longer than the RPO.
    pub late: TimeDelta,
    /// For how much of that it was longer than the RPO and its tolerance.
    pub broken: TimeDelta,
    /// For how long it was paused.
    pub paused: TimeDelta,
    /// For how much of the promised time no producer was alive. It excuses nothing.
    pub down: TimeDelta,
    /// The longest exposure while something was promised.
    pub worst: TimeDelta,
    /// The RPO that was promised last.
    pub rpo: TimeDelta,
}

/// Returns the figures of some pieces, for each holder.
#[must_use]
pub fn figures<'a>(pieces: &[Piece<'a>]) -> BTreeMap<Holder<'a>, Figures> {
    let mut all: BTreeMap<Holder<'_>, Figures> = BTreeMap::new();
    for piece in pieces {
        let holder = Holder {
            team: &piece.change.team,
            tier: &piece.change.tier,
        };
        all.entry(holder).or_default().add(piece);
    }
    all
}

impl Figures {
    fn add(&mut self, piece: &Piece<'_>) {
        self.rpo = piece.terms.rpo;
        if piece.is_paused {
            self.paused += length(piece.span);
            return;
        }
        let over = |limit| piece.over(limit).map_or_else(TimeDelta::zero, length);
        self.promised += length(piece.span);
        self.late += over(piece.terms.rpo);
        self.broken += over(piece.terms.allowed);
        self.worst = self.worst.max(piece.worst());
        if piece.is_down {
            self.down += length(piece.span);
        }
    }
}

fn length(span: Span) -> TimeDelta {
    span.until - span.from
}

/// A time in which a promise was broken without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breach {
    /// When the exposure passed the RPO and its tolerance.
    pub from: DateTime<Utc>,
    /// When it ended, or the end of what was looked at.
    pub until: DateTime<Utc>,
    /// The longest exposure in it.
    pub worst: TimeDelta,
}

/// Returns when the promise was broken, oldest first. Pieces that follow each other make one breach.
#[must_use]
pub fn breaches(pieces: &[Piece<'_>]) -> Vec<Breach> {
    let mut found: Vec<Breach> = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_paused) {
        let Some(span) = piece.over(piece.terms.allowed) else {
            continue;
        };
        match found.last_mut().filter(|last| last.until == span.from) {
            Some(last) => {
                last.until = span.until;
                last.worst = last.worst.max(piece.worst());
            }
            None => found.push(Breach {
                from: span.from,
                until: span.until,
                worst: piece.worst(),
            }),
        }
    }
    found
}
