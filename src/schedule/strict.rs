//! How often must a resource be backed up for its RPO to hold to the minute? `hold: strict`, decided from what its backups take.

use std::fmt;

use chrono::TimeDelta;

use crate::plan::{Cadence, Hold, Plan, Protection, Rpo};

#[cfg(test)]
mod tests;

/// With fewer backups on record than this, twice the last one is allowed for.
const FEW: u32 = 20;

/// What the scheduled backups of one resource took in the last 30 days: from when each was enqueued to its end, waits included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How many succeeded.
    pub backups: u32,
    /// What 99 of 100 took at most.
    pub p99: TimeDelta,
    /// What the last one took.
    pub last: TimeDelta,
}

impl Taken {
    /// Returns how long a backup may take that is allowed for; `None` if there is none to go by.
    #[must_use]
    pub fn allowed_for(self) -> Option<TimeDelta> {
        match self.backups {
            0 => None,
            1..FEW => Some(self.last * 2),
            FEW.. => Some(self.p99),
        }
    }
}

/// The tiers and figures that a strict hold is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    rpo: Rpo,
    /// The tier's own cadence, which may be a limit.
    ordinary: Cadence,
    /// How long after its turn a resource is noticed: one tick.
    notice: TimeDelta,
}

/// What was decided about a resource before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing, or nothing that still counts: its RPO was another one, or nothing was known of its backups.
    Nothing,
    /// This cadence.
    Every(Cadence),
    /// That no cadence holds its RPO.
    Infeasible,
}

/// How often a resource is backed up under a strict hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// At this cadence, the RPO holds.
    Every(Cadence),
    /// Nothing is known of its backups yet: half the RPO, until the first one has ended.
    Unknown(Cadence),
    /// No cadence holds the RPO. It is backed up at the longest cadence within half the RPO.
    Infeasible(Cadence, Infeasible),
}

/// Why no cadence holds a resource's RPO. Says in words what would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Infeasible {
    /// The RPO that it has.
    pub rpo: Rpo,
    /// What its backups take, waits and the tick included.
    pub takes: TimeDelta,
}

impl Terms {
    /// Returns the terms of a plan that holds its RPO strictly; `None` for any other plan. `tick` is how often the producer looks.
    #[must_use]
    pub fn of(plan: &Plan, tick: TimeDelta) -> Option<Self> {
        match (plan.hold, plan.protection) {
            (Hold::Strict, Protection::Every(ordinary)) => Some(Self {
                rpo: plan.rpo,
                ordinary,
                notice: tick,
            }),
            (Hold::Strict | Hold::Cadence, Protection::Never(_))
            | (Hold::Cadence, Protection::Every(_)) => None,
        }
    }

    /// Returns the cadence of a resource of whose backups nothing is known: the longest within half the RPO.
    #[must_use]
    pub fn first(self) -> Cadence {
        let half = self.rpo.as_delta() / 2;
        let within = |cadence: &Cadence| cadence.as_delta() <= half;
        self.longest_first().find(within).unwrap_or(self.shortest())
    }

    /// Returns how often a resource is backed up whose backups took what is on `record`.
    ///
    /// At the cadence that is returned, the cadence, the tick and a backup fit into the RPO, and a backup ends before the next is due.
    /// It is the longest such cadence, with one exception: a longer one than before is taken only if a backup that takes a tenth more
    /// would fit as well, and so is any after none was found. A resource whose backups vary by less than that does not change to and fro.
    #[must_use]
    pub fn hold(self, record: Taken, before: Before) -> Held {
        let Some(backup) = record.allowed_for() else {
            return Held::Unknown(self.first());
        };
        let takes = backup + self.notice;
        let with_margin = backup + backup / 10 + self.notice;
        let longest = self.longest_first().find(|it| self.fits(*it, takes));
        let roomy = self.longest_first().find(|it| self.fits(*it, with_margin));
        let found = match before {
            Before::Nothing => longest,
            Before::Infeasible => roomy,
            // The current one or a shorter one at once, a longer one with the margin. Without any of these, the current one is too short.
            Before::Every(current) => {
                let shorter = self.longest_first().filter(|it| *it <= current);
                let shorter = shorter.into_iter().find(|it| self.fits(*it, takes));
                roomy.max(shorter).or(longest)
            }
        };
        found.map_or(
            Held::Infeasible(
                self.first(),
                Infeasible {
                    rpo: self.rpo,
                    takes,
                },
            ),
            Held::Every,
        )
    }

    fn fits(self, cadence: Cadence, takes: TimeDelta) -> bool {
        // One backup of a resource runs at a time: one that outlasts its cadence delays the next.
        takes <= cadence.as_delta() && cadence.as_delta() + takes <= self.rpo.as_delta()
    }

    /// Returns the cadences to choose from. A shorter `cadence_minutes` of the tier's own is a limit.
    fn longest_first(self) -> impl Iterator<Item = Cadence> {
        let derived = Cadence::for_rpo(self.rpo);
        let is_own = derived.is_some_and(|derived| self.ordinary < derived);
        Cadence::HELD
            .into_iter()
            .rev()
            .filter(move |cadence| !is_own || *cadence <= self.ordinary)
    }

    fn shortest(self) -> Cadence {
        Cadence::HELD.into_iter().next().unwrap_or(self.ordinary)
    }
}

impl Held {
    /// Returns the cadence at which the resource is backed up.
    #[must_use]
    pub fn cadence(self) -> Cadence {
        match self {
            Self::Every(cadence) | Self::Unknown(cadence) | Self::Infeasible(cadence, _) => cadence,
        }
    }
}

impl Infeasible {
    /// Returns the shortest RPO, in whole minutes, that some cadence would hold; `None` if a backup takes longer than any cadence.
    #[must_use]
    pub fn rpo_that_holds_minutes(self) -> Option<i64> {
        let takes = |cadence: &Cadence| self.takes <= cadence.as_delta();
        let cadence = Cadence::HELD.into_iter().find(takes)?;
        Some(whole_minutes(cadence.as_delta() + self.takes))
    }

    /// Returns the longest that a backup may take, with its wait and the tick, for the RPO to hold; `None` if the RPO is too short for any.
    #[must_use]
    pub fn most(self) -> Option<TimeDelta> {
        let room =
            |cadence: Cadence| (self.rpo.as_delta() - cadence.as_delta()).min(cadence.as_delta());
        let most = Cadence::HELD.into_iter().map(room).max()?;
        Some(most).filter(|most| *most > TimeDelta::zero())
    }
}

fn whole_minutes(delta: TimeDelta) -> i64 {
    (delta.num_seconds() + 59).div_euclid(60)
}

/// Says what would make the promise feasible: `an RPO of 60 minutes needs backups that take 30 minutes at most …`.
impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rpo = self.rpo.minutes();
        write!(
            f,
            "its backups take {} minutes with their wait; ",
            whole_minutes(self.takes)
        )?;
        match self.most() {
            Some(most) => write!(
                f,
                "an RPO of {rpo} minutes holds if they take {} minutes at most",
                most.num_minutes()
            )?,
            None => write!(f, "no cadence holds an RPO of {rpo} minutes")?,
        }
        match self.rpo_that_holds_minutes() {
            Some(minutes) => write!(f, ", one of {minutes} minutes or more as they are"),
            None => Ok(()),
        }
    }
}
