//! The tiers and what each is promised: `plans.yaml`, parsed and checked as a whole.

use std::{fmt::Write as _, num::NonZeroU32};

use chrono::TimeDelta;
use lastgood_jobs::resource::Tier;
use serde::Serialize;
use utoipa::ToSchema;

mod alias;
mod cadence;
mod document;
mod doubt;
mod fields;
mod file;
mod hold;
mod keep;
mod objective;
mod problem;
mod read;
#[cfg(test)]
mod tests;

pub use cadence::{Cadence, CadenceError, Rpo, RpoError};
pub use doubt::doubts;
pub use file::{PlansFile, PlansFileError, Reload, Source, check};
pub use hold::Hold;
pub use keep::Keep;
pub use objective::{Objective, ObjectiveError};
pub use problem::{PlanProblem, PlanProblems};

/// Within how many days a point is drilled where the tier does not say.
const DEFAULT_DRILL_DAYS: u32 = 7;

/// What one tier is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The tier's name.
    pub tier: Tier,
    /// The most data that may be lost, in time.
    pub rpo: Rpo,
    /// How many days restore points are kept, 0 or more.
    pub retention_days: i32,
    /// Which of them are kept; `None` keeps all.
    pub keep: Option<Keep>,
    /// How many of the newest usable ones are kept, whatever their age, while the resource lives; 1 or more.
    pub minimum_kept: u32,
    /// The largest dump that is accepted, in GiB; `None` sets no limit.
    pub maximum_dump_gib: Option<NonZeroU32>,
    /// How often it is backed up, or why never.
    pub protection: Protection,
    /// How far exposure may pass the RPO before the promise counts as broken.
    pub tolerance: TimeDelta,
    /// In how many of the minutes of 30 days the promise must have held; `None` sets no objective.
    pub objective: Option<Objective>,
    /// How closely the RPO is held.
    pub hold: Hold,
    /// Within how many days a restore point is drilled: 0 is never. `None` if the tier is never backed up.
    pub drill_within_days: Option<u32>,
    /// How long a restore may take, in minutes; `None` promises nothing.
    pub rto_minutes: Option<NonZeroU32>,
    /// The tier that it is an alias of, as written. The other fields are already that tier's.
    pub same_as: Option<Tier>,
}

impl Plan {
    /// Returns the largest dump that is accepted, in bytes.
    #[must_use]
    pub fn maximum_dump_bytes(&self) -> Option<u64> {
        let gib = self.maximum_dump_gib?;
        Some(u64::from(gib.get()) << 30)
    }

    /// Writes what the fingerprint has to say about how the promise is held and proven: nothing for a plan that leaves it at the defaults.
    fn write_proof(&self, text: &mut String) {
        if let Some(objective) = self.objective {
            let _ = write!(text, ",objective={}", objective.percent());
        }
        if self.hold != Hold::default() {
            let _ = write!(text, ",hold={}", self.hold);
        }
        if let Some(days) = self.drill_within_days
            && days != DEFAULT_DRILL_DAYS
        {
            let _ = write!(text, ",drill={days}");
        }
        if let Some(minutes) = self.rto_minutes {
            let _ = write!(text, ",rto={minutes}");
        }
    }

    /// Returns the exposure above which the promise counts as broken.
    #[must_use]
    pub fn allowed(&self) -> TimeDelta {
        self.rpo.as_delta() + self.tolerance
    }
}

/// How often a tier is backed up, or why never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Once in every slot of the cadence.
    Every(Cadence),
    /// Never.
    Never(Why),
}

impl Protection {
    /// Returns the cadence, or `None` for never.
    #[must_use]
    pub fn cadence(self) -> Option<Cadence> {
        match self {
            Self::Every(cadence) => Some(cadence),
            Self::Never(_) => None,
        }
    }
}

/// Why a tier is never backed up. Serialized names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its `rpo_minutes` is 0.
    ZeroRpo,
    /// Its `backup_retention_days` is 0, whatever its RPO says.
    ZeroRetention,
}

impl Why {
    /// Returns the reason as an operator reads it, in the file's own words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ZeroRpo => "rpo_minutes is 0",
            Self::ZeroRetention => "backup_retention_days is 0",
        }
    }
}

/// The plans of one file, in its order. Two are equal if they promise the same tiers the same things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans(Vec<Plan>);

impl Plans {
    /// The largest plans file that is read, in bytes.
    pub const LIMIT_BYTES: usize = 1024 * 1024;

    /// Returns the plans that a YAML text states, or every problem with it.
    ///
    /// A byte-order mark and Windows line endings are accepted.
    pub fn parse(text: &str) -> Result<Self, PlanProblems> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(line) = too_deep(text) {
            let what = "brackets are nested too deeply: is this the right file?";
            return Err(PlanProblems::at_line(line, what));
        }
        read::plans(text).map(Self).map_err(PlanProblems::new)
    }

    /// Returns the plans that a file's bytes state. A file that is too large or not UTF-8 is refused like any other bad text.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, PlanProblems> {
        if bytes.len() > Self::LIMIT_BYTES {
            let what = format!(
                "larger than {} bytes: is this the right file?",
                Self::LIMIT_BYTES
            );
            return Err(PlanProblems::at_line(1, what));
        }
        let text = std::str::from_utf8(bytes).map_err(|why| {
            let good = bytes.iter().take(why.valid_up_to());
            let line = good.filter(|byte| **byte == b'\n').count() + 1;
            PlanProblems::at_line(line, "not UTF-8: save the file as UTF-8 text")
        })?;
        Self::parse(text)
    }

    /// Returns the built-in plans, compiled in from the repository's `plans.yaml`.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "the text is a constant, and a test proves that it parses"
    )]
    pub fn built_in() -> Self {
        Self::parse(include_str!("../plans.yaml")).expect("a test proves that plans.yaml parses")
    }

    /// Returns what a tier is promised, or `None` for a tier that the file does not name.
    #[must_use]
    pub fn get(&self, tier: &Tier) -> Option<&Plan> {
        self.iter().find(|plan| plan.tier == *tier)
    }

    /// Returns every plan, aliases too, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Plan> {
        self.0.iter()
    }

    /// Returns the tiers that are drilled, and within how many days, as two lists for a statement.
    #[must_use]
    pub fn drilled(&self) -> (Vec<String>, Vec<i32>) {
        let drilled = self.iter().filter_map(|plan| {
            let days = plan.drill_within_days.filter(|days| *days > 0)?;
            Some((plan.tier.to_string(), i32::try_from(days).ok()?))
        });
        drilled.unzip()
    }

    /// Returns the plans that are backed up, with their cadences.
    pub fn paid(&self) -> impl Iterator<Item = (&Plan, Cadence)> {
        self.iter()
            .filter_map(|plan| Some((plan, plan.protection.cadence()?)))
    }

    /// Returns a text that is equal for equal promises, whatever their order and spelling in the file.
    ///
    /// The catalog records it to know which plans it was reconciled with. It is only compared, never parsed.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut plans: Vec<&Plan> = self.iter().collect();
        plans.sort_by(|a, b| a.tier.cmp(&b.tier));
        let mut text = "v1".to_owned();
        for plan in plans {
            let cadence = plan.protection.cadence().map_or(0, Cadence::minutes);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                ";{}:rpo={},every={},keep={},tolerance={}",
                plan.tier,
                plan.rpo.minutes(),
                cadence,
                plan.retention_days,
                plan.tolerance.num_minutes(),
            );
            if let Some(keep) = plan.keep {
                let _ = write!(text, ",thinned={keep}");
            }
            if plan.minimum_kept > 1 {
                let _ = write!(text, ",minimum={}", plan.minimum_kept);
            }
            if let Some(gib) = plan.maximum_dump_gib {
                let _ = write!(text, ",dump={gib}");
            }
            plan.write_proof(&mut text);
        }
        text
    }
}

/// Returns the first line at which more than 1000 brackets are open, which no plans file needs.
///
/// The parser's time grows with the square of the depth, and a running producer waits for it. The limit is generous because brackets in
/// comments count too.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, line) in text.lines().enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if depth > 1000 {
            return Some(index + 1);
        }
    }
    None
}
