//! The plans in force as a table, as `lastgood plans show` prints it.

use std::num::NonZeroU32;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Cadence, Keep, Plan, Plans, Protection, Why};

/// The headings over [`Row::cells`].
pub const HEADINGS: [&str; 7] = [
    "tier",
    "rpo",
    "backed up",
    "kept",
    "tolerance",
    "same as",
    "why never",
];

/// One tier of the plans. Serialized, it is a line of `lastgood plans show --json`, with the file's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Row {
    /// The tier's name.
    pub tier: String,
    /// Its RPO in minutes; 0 promises nothing.
    pub rpo_minutes: i32,
    /// How often it is backed up, in words: `hourly`, `every 15 minutes`, `once a day`, `never`.
    pub cadence: String,
    /// The same in minutes; null for never.
    pub cadence_minutes: Option<i32>,
    /// How many days restore points are kept.
    pub backup_retention_days: i32,
    /// Which of them are kept; absent if all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// How many of the newest are kept, however old they are.
    pub minimum_kept: u32,
    /// The largest dump that is accepted, in GiB; absent if there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_dump_gib: Option<u32>,
    /// How far exposure may pass the RPO before the promise counts as broken, in minutes; null if it is never backed up.
    pub tolerance_minutes: Option<i64>,
    /// The tier that it is an alias of.
    pub same_as: Option<String>,
    /// Why it is never backed up.
    pub never_because: Option<Why>,
}

/// Returns a row for each plan, in the order of the file.
#[must_use]
pub fn rows(plans: &Plans) -> Vec<Row> {
    plans.iter().map(Row::of).collect()
}

impl Row {
    fn of(plan: &Plan) -> Self {
        let cadence = plan.protection.cadence();
        Self {
            tier: plan.tier.to_string(),
            rpo_minutes: plan.rpo.minutes(),
            cadence: cadence.map_or_else(|| "never".to_owned(), |cadence| cadence.to_string()),
            cadence_minutes: cadence.map(Cadence::minutes),
            backup_retention_days: plan.retention_days,
            keep: plan.keep,
            minimum_kept: plan.minimum_kept,
            maximum_dump_gib: plan.maximum_dump_gib.map(NonZeroU32::get),
            tolerance_minutes: cadence.map(|_| plan.tolerance.num_minutes()),
            same_as: plan.same_as.as_ref().map(ToString::to_string),
            never_because: match plan.protection {
                Protection::Every(_) => None,
                Protection::Never(why) => Some(why),
            },
        }
    }

    /// Returns the row as text, with a cell for each of [`HEADINGS`]. A cell that does not apply is a dash.
    #[must_use]
    pub fn cells(&self) -> [String; 7] {
        let dash = || "-".to_owned();
        [
            self.tier.clone(),
            match self.rpo_minutes {
                0 => dash(),
                minutes => span(minutes.into()),
            },
            match self.maximum_dump_gib {
                None => self.cadence.clone(),
                Some(gib) => format!("{}, {gib} GiB at most", self.cadence),
            },
            match self.backup_retention_days {
                0 => dash(),
                days => self.kept(days),
            },
            self.tolerance_minutes.map_or_else(dash, span),
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
