//! What a run is, as closed sets: its kind, its state, what triggered it, its priority, and how an attempt ends.
//!
//! The names are stored, and appear as labels and fields elsewhere, so they must never change. A new kind breaks the build at every place
//! that has to learn it.

use lastgood_jobs::job::Job;
use sqlx::Type;

use crate::closed_set::closed_set;

closed_set!(
    /// What a run does.
    RunKind, "kind of run" {
        /// Makes a restore point.
        Backup,
        /// Restores from one.
        Restore,
        /// Drops a database that a restore replaced and kept.
        DropReplaced,
        /// Copies a restore point into another store.
        Copy,
        /// Reads a restore point back.
        Verify,
        /// Removes a restore point that retention has let go.
        Expire,
        /// Restores a restore point into a server of its own, and compares.
        Drill,
    }
);

closed_set!(
    /// The state of a run.
    RunState, "state of a run" {
        /// It waits to be claimed.
        Queued,
        /// A consumer executes it.
        Running,
        /// Its effects are recorded.
        Succeeded,
        /// It was given up.
        Failed,
        /// An operator ended it.
        Cancelled,
    }
);

closed_set!(
    /// What triggered a run.
    Trigger, "trigger" {
        /// The promise of a tier: one backup for each slot.
        Scheduled,
        /// Somebody's request.
        Adhoc,
        /// What restore points need after they are made.
        Upkeep,
    }
);

closed_set!(
    /// How an attempt ended.
    AttemptResult, "result of an attempt" {
        /// Its effects are recorded.
        Succeeded,
        /// It failed, and the run is tried again.
        Retried,
        /// It failed, and the run with it.
        Failed,
        /// Its lease ran out.
        Lost,
        /// It was handed back unspent.
        GivenBack,
        /// An operator ended the run.
        Cancelled,
    }
);

impl RunKind {
    /// Returns the kind of a job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        match job {
            Job::Backup {} => Self::Backup,
            Job::Restore(_) => Self::Restore,
            Job::DropReplaced(_) => Self::DropReplaced,
            Job::Copy(_) => Self::Copy,
            Job::Verify(_) => Self::Verify,
            Job::Expire(_) => Self::Expire,
            Job::Drill(_) => Self::Drill,
        }
    }
}

impl RunState {
    /// Returns whether the run's state is final, unless somebody retries it.
    #[must_use]
    pub fn has_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// How urgent a run is: higher priorities are claimed first. `lastgood.priority` assigns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Type)]
#[sqlx(transparent)]
pub struct Priority(pub i16);

impl Priority {
    /// The lowest possible priority.
    pub const LOWEST: Self = Self(i16::MIN);
    /// The highest priority of upkeep, which has slots of its own.
    pub const UPKEEP: Self = Self(-1);
    /// The lowest priority of upkeep.
    pub const UPKEEP_LOWEST: Self = Self(-999);
    /// The highest priority of drills, which have slots of their own as well.
    pub const DRILL: Self = Self(-1000);
    /// The lowest priority of runs that are promised, or that somebody waits for.
    pub const PROMISED: Self = Self(0);
    /// The highest possible priority.
    pub const HIGHEST: Self = Self(i16::MAX);
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use anyhow::{Context as _, Result};
    use clap::ValueEnum;
    use serde::Serialize;

    use super::*;
    use crate::{
        nouns::{ConsumerState, ResourceStatus},
        proof::{ProofKind, ProofOutcome},
    };

    fn is_called_the_same<T>(all: &[T], stored: fn(T) -> &'static str) -> Result<()>
    where
        T: Copy + Debug + PartialEq + Serialize + ValueEnum + std::str::FromStr,
    {
        for it in all {
            let name = stored(*it);
            assert_eq!(serde_json::to_value(it)?, name);
            let given = it.to_possible_value().context("not to be given")?;
            assert_eq!(given.get_name(), name);
            assert_eq!(name.parse().ok(), Some(*it));
        }
        Ok(())
    }

    /// Guards against a name that differs between the catalog, JSON and the command line.
    #[test]
    fn a_name_is_the_same_in_the_catalog_in_json_and_on_the_command_line() -> Result<()> {
        is_called_the_same(RunKind::ALL, RunKind::as_str)?;
        is_called_the_same(RunState::ALL, RunState::as_str)?;
        is_called_the_same(Trigger::ALL, Trigger::as_str)?;
        is_called_the_same(AttemptResult::ALL, AttemptResult::as_str)?;
        is_called_the_same(ProofKind::ALL, ProofKind::as_str)?;
        is_called_the_same(ProofOutcome::ALL, ProofOutcome::as_str)?;
        is_called_the_same(ConsumerState::ALL, ConsumerState::as_str)?;
        is_called_the_same(ResourceStatus::ALL, ResourceStatus::as_str)
    }
}
