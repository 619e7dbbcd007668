//! A tier: what the plans promise under one name.

use std::num::NonZeroU32;

use serde::Serialize;
use utoipa::ToSchema;

use crate::plan::{Cadence, Hold, Keep, Objective, Plan, Plans, Protection, Why};

const GIB: u64 = 1 << 30;

/// The headings over [`Tier::cells`].
pub const HEADINGS: [&str; 10] = [
    "tier",
    "rpo",
    "backed up",
    "kept",
    "tolerance",
    "objective",
    "drilled",
    "rto",
    "same as",
    "why never",
];

/// One tier of the plans.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Tier {
    /// Its name.
    pub id: String,
    /// Its RPO in minutes; 0 promises nothing.
    pub rpo_minutes: i32,
    /// How often it is backed up, in words: `hourly`, `every 15 minutes`, `once a day`, `never`.
    pub cadence: String,
    /// The same in minutes; null for never.
    pub cadence_minutes: Option<i32>,
    /// How many days restore points are kept.
    pub retention_days: i32,
    /// Which of them are kept; null if all are.
    pub keep: Option<Keep>,
    /// How many of the newest are kept, however old they are.
    pub minimum_kept: u32,
    /// The largest dump that is accepted, in bytes; null if there is no limit.
    pub maximum_dump_bytes: Option<u64>,
    /// How far exposure may pass the RPO before the promise counts as broken, in minutes; null if it is never backed up.
    pub tolerance_minutes: Option<i64>,
    /// In how many percent of the minutes of 30 days the promise must have held; null if there is no objective.
    pub objective_percent: Option<f64>,
    /// How closely the RPO is held; null if it is never backed up.
    pub hold: Option<Hold>,
    /// Within how many days a restore point is drilled: 0 is never; null if it is never backed up.
    pub drill_within_days: Option<u32>,
    /// How long a restore may take, in minutes; null promises nothing.
    pub rto_minutes: Option<u32>,
    /// The tier that it is an alias of.
    pub same_as: Option<String>,
    /// Why it is never backed up.
    pub never_because: Option<Why>,
}

/// Returns the tiers of the plans, in the order of the file.
#[must_use]
pub fn tiers(plans: &Plans) -> Vec<Tier> {
    plans.iter().map(Tier::of).collect()
}

impl Tier {
    fn of(plan: &Plan) -> Self {
        let cadence = plan.protection.cadence();
        Self {
            id: plan.tier.to_string(),
            rpo_minutes: plan.rpo.minutes(),
            cadence: cadence.map_or_else(|| "never".to_owned(), |cadence| cadence.to_string()),
            cadence_minutes: cadence.map(Cadence::minutes),
            retention_days: plan.retention_days,
            keep: plan.keep,
            minimum_kept: plan.minimum_kept,
            maximum_dump_bytes: plan.maximum_dump_bytes(),
            tolerance_minutes: cadence.map(|_| plan.tolerance.num_minutes()),
            objective_percent: plan.objective.map(Objective::percent),
            hold: cadence.map(|_| plan.hold),
            drill_within_days: plan.drill_within_days,
            rto_minutes: plan.rto_minutes.map(NonZeroU32::get),
            same_as: plan.same_as.as_ref().map(ToString::to_string),
            never_because: match plan.protection {
                Protection::Every(_) => None,
                Protection::Never(why) => Some(why),
            },
        }
    }

    /// Returns the tier as text, with a cell for each of [`HEADINGS`]. A cell that does not apply is a dash.
    #[must_use]
    pub fn cells(&self) -> [String; 10] {
        let dash = || "-".to_owned();
        [
            self.id.clone(),
            match self.rpo_minutes {
                0 => dash(),
                minutes if self.hold == Some(Hold::Strict) => {
                    format!("{}, strict", span(minutes.into()))
                }
                minutes => span(minutes.into()),
            },
            match self.maximum_dump_bytes {
                None => self.cadence.clone(),
                Some(bytes) => format!("{}, {} GiB at most", self.cadence, bytes / GIB),
            },
            match self.retention_days {
                0 => dash(),
                days => self.kept(days),
            },
            self.tolerance_minutes.map_or_else(dash, span),
            self.objective_percent
                .map_or_else(dash, |percent| format!("{percent} %")),
            match self.drill_within_days {
                None => dash(),
                Some(0) => "never".to_owned(),
                Some(1) => "each day".to_owned(),
                Some(days) => format!("within {days} days"),
            },
            self.rto_minutes
                .map_or_else(dash, |minutes| span(minutes.into())),
            self.same_as.clone().unwrap_or_else(dash),
            self.never_because
                .map_or_else(dash, |why| why.as_str().to_owned()),
        ]
    }

    fn kept(&self, days: i32) -> String {
        let days = match days {
            1 => "1 day".to_owned(),
            days => format!("{days} days"),
        };
        let which = self.keep.map(|keep| format!(": {keep}"));
        let newest = Some(self.minimum_kept).filter(|minimum| *minimum > 1);
        let newest = newest.map(|minimum| format!("; the newest {minimum}"));
        [Some(days), which, newest].into_iter().flatten().collect()
    }
}

fn span(minutes: i64) -> String {
    if minutes > 0 && minutes % 60 == 0 {
        format!("{} h", minutes / 60)
    } else {
        format!("{minutes} min")
    }
}
