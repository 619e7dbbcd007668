//! Reads how a tier's promise is held and proven: its objective, how closely the RPO is held, its drills and its RTO.

use std::num::NonZeroU32;

use super::{Fields, number};
use crate::plan::{
    DEFAULT_DRILL_DAYS, Hold, Objective, Protection,
    document::Value,
    fields::{self, At, Problems},
};

const LONGEST_DRILL_DAYS: u32 = 3_660;
/// A year.
const LONGEST_RTO_MINUTES: u32 = 525_600;

/// The fields of this file, as a tier gives them.
pub(super) struct Proof {
    pub(super) objective: Option<Objective>,
    pub(super) hold: Option<Hold>,
    pub(super) rto_minutes: Option<NonZeroU32>,
    drill_within_days: Option<u32>,
}

impl Proof {
    /// Returns the fields that are given. Each that is wrong becomes a problem.
    pub(super) fn read(at: At<'_>, fields: &Fields<'_>, problems: &mut Problems) -> Self {
        Self {
            objective: value(at, "objective", fields, problems, objective),
            hold: value(at, "hold", fields, problems, hold),
            rto_minutes: number(at, "rto_minutes", fields, problems, rto),
            drill_within_days: number(at, "drill_within_days", fields, problems, drill),
        }
    }

    /// Returns within how many days a point is drilled: 0 for never, `None` where there are no backups to drill.
    pub(super) fn drill_within_days(&self, protection: Protection) -> Option<u32> {
        match protection {
            Protection::Every(_) => Some(self.drill_within_days.unwrap_or(DEFAULT_DRILL_DAYS)),
            Protection::Never(_) => None,
        }
    }
}

/// Returns the meaning of a field, or `None` if it is absent or wrong. A wrong one becomes a problem.
fn value<T>(
    at: At<'_>,
    name: &str,
    fields: &Fields<'_>,
    problems: &mut Problems,
    meaning: impl Fn(&Value) -> Result<T, String>,
) -> Option<T> {
    let field = fields.get(name)?;
    meaning(field.value)
        .map_err(|what| problems.add(at.field(field.line, name), what))
        .ok()
}

fn objective(value: &Value) -> Result<Objective, String> {
    let shown = fields::described(value);
    let percent = match value {
        Value::Fraction(percent) => *percent,
        Value::Whole(percent) => i32::try_from(*percent)
            .map(f64::from)
            .map_err(|_| format!("{shown} is not a percentage: use one such as 99.9"))?,
        Value::Text(text) if text.trim().parse::<f64>().is_ok() => {
            return Err(format!("{shown} is text: write the number without quotes"));
        }
        Value::Null
        | Value::Bool(_)
        | Value::Huge(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Mapping(_)
        | Value::Tagged => {
            return Err(format!(
                "{shown} is not a number: write one such as 99.9, without quotes or unit"
            ));
        }
    };
    Objective::from_percent(percent).map_err(|why| why.to_string())
}

fn hold(value: &Value) -> Result<Hold, String> {
    let named = match value {
        Value::Text(name) => Hold::from_name(name),
        Value::Null
        | Value::Bool(_)
        | Value::Whole(_)
        | Value::Huge(_)
        | Value::Fraction(_)
        | Value::List(_)
        | Value::Mapping(_)
        | Value::Tagged => None,
    };
    named.ok_or_else(|| {
        let shown = fields::described(value);
        let known = Hold::ALL.map(Hold::as_str).join(" or ");
        format!("{shown} is not known: use {known}")
    })
}

fn drill(days: i64) -> Result<u32, String> {
    match u32::try_from(days) {
        Ok(days @ 0..=LONGEST_DRILL_DAYS) => Ok(days),
        Ok(_) | Err(_) if days < 0 => Err(format!(
            "{days} is negative: use 0 for never, or a number of days"
        )),
        Ok(_) | Err(_) => Err(format!(
            "{days} is too long: use {LONGEST_DRILL_DAYS} (ten years) at most, or 0 for never"
        )),
    }
}

fn rto(minutes: i64) -> Result<NonZeroU32, String> {
    let number = u32::try_from(minutes).ok().and_then(NonZeroU32::new);
    match number.filter(|number| number.get() <= LONGEST_RTO_MINUTES) {
        Some(number) => Ok(number),
        None if minutes < 1 => Err(format!(
            "{minutes} is too short: use 1 or more, or remove it"
        )),
        None => Err(format!(
            "{minutes} is too long: use {LONGEST_RTO_MINUTES} (a year) at most, or remove it"
        )),
    }
}
