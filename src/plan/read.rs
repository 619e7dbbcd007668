//! Turns the values of a plans file into plans, or reports everything that is wrong with it.

mod proof;

use std::{collections::HashMap, num::NonZeroU32};

use chrono::TimeDelta;
use lastgood_jobs::resource::Tier;

use super::{
    Cadence, Keep, Plan, Protection, Rpo, Why,
    alias::{self, Alias, Draft},
    document::{self, Node, Value},
    fields::{self, At, Field, Problems},
    problem::PlanProblem,
};

use proof::Proof;

const VERSION: i64 = 1;
const LONGEST_RETENTION_DAYS: i32 = 36_500;
const LONGEST_TOLERANCE_MINUTES: i64 = Rpo::LONGEST_MINUTES;

/// One PiB, more than a store takes in one object.
const LARGEST_DUMP_GIB: u32 = 1024 * 1024;

const TOP: [&str; 2] = ["version", "tiers"];
/// The highest count in `keep` and `minimum_kept`: more than a century of days.
const MOST_KEPT: u32 = 36_600;
const TIER: [&str; 12] = [
    "rpo_minutes",
    "backup_retention_days",
    "keep",
    "minimum_kept",
    "cadence_minutes",
    "tolerance_minutes",
    "maximum_dump_gib",
    "objective",
    "hold",
    "drill_within_days",
    "rto_minutes",
    "same_as",
];

const KEEP: [&str; 4] = ["hourly", "daily", "weekly", "monthly"];

type Fields<'a> = HashMap<&'a str, Field<'a>>;

/// Returns the plans in the order of the file, or all of its problems in no particular order.
pub(super) fn plans(text: &str) -> Result<Vec<Plan>, Vec<PlanProblem>> {
    let (root, refused) = document::read(text).map_err(|problem| vec![problem])?;
    let mut problems = Problems(refused);
    let drafts = file(&root, &mut problems);
    let plans = alias::resolve(&drafts, &mut problems);
    if problems.0.is_empty() {
        Ok(plans)
    } else {
        Err(problems.0)
    }
}

fn file<'a>(root: &'a Node, problems: &mut Problems) -> Vec<Draft<'a>> {
    let at = At::line(root.line);
    let Value::Mapping(entries) = &root.value else {
        let shown = if matches!(root.value, Value::Null) {
            "empty".to_owned()
        } else {
            fields::described(&root.value)
        };
        let what = format!("the file is {shown}: it needs version and tiers");
        problems.add(at, what);
        return Vec::new();
    };
    let fields = fields::known(at, entries, &TOP, problems);
    version(at, fields.get("version"), problems);
    tiers(at, fields.get("tiers"), problems)
}

fn version(at: At<'_>, field: Option<&Field<'_>>, problems: &mut Problems) {
    let Some(field) = field else {
        let at = at.field(at.line, "version");
        return problems.add(at, "missing: write `version: 1` above the tiers");
    };
    let at = at.field(field.line, "version");
    match fields::whole(field.value) {
        Ok(VERSION) => {}
        Ok(_) => {
            let shown = fields::described(field.value);
            problems.add(at, format!("{shown} is not known to this build: use 1"));
        }
        Err(what) => problems.add(at, what),
    }
}

fn tiers<'a>(at: At<'_>, field: Option<&Field<'a>>, problems: &mut Problems) -> Vec<Draft<'a>> {
    let Some(field) = field else {
        problems.add(at.field(at.line, "tiers"), "missing: list the tiers");
        return Vec::new();
    };
    let at = at.field(field.line, "tiers");
    if let Value::Mapping(entries) = field.value
        && !entries.is_empty()
    {
        let mut seen = HashMap::new();
        let mut read = |(key, value)| tier(key, value, &mut seen, problems);
        return entries.iter().filter_map(|(k, v)| read((k, v))).collect();
    }
    if matches!(field.value, Value::Mapping(_) | Value::Null) {
        problems.add(at, "there is no tier: list at least one");
    } else {
        let shown = fields::described(field.value);
        let what = format!("{shown}: write one `name:` per tier, with its fields below");
        problems.add(at, what);
    }
    Vec::new()
}

/// Returns a tier as the file states it, or `None` if even its name is in doubt.
fn tier<'a>(
    key: &'a Node,
    value: &'a Node,
    seen: &mut HashMap<&'a str, usize>,
    problems: &mut Problems,
) -> Option<Draft<'a>> {
    let name = fields::name(At::line(key.line), key, problems)?;
    let at = At::tier(key.line, name);
    let tier: Tier = name
        .parse()
        .inspect_err(|why| problems.add(at, format!("{why}")))
        .ok()?;
    if let Some(first) = seen.insert(name, key.line) {
        problems.add(at, format!("given twice, first on line {first}: keep one"));
        return None;
    }
    let Value::Mapping(entries) = &value.value else {
        let shown = fields::described(&value.value);
        let what =
            format!("{shown}: give it rpo_minutes and backup_retention_days, or only same_as");
        problems.add(at, what);
        return Some(Draft::Broken(tier));
    };
    let fields = fields::known(at, entries, &TIER, problems);
    Some(match fields.get("same_as") {
        Some(target) => aliased(at, tier, *target, &fields, problems),
        None => match own(at, &tier, &fields, problems) {
            Some(plan) => Draft::Own(plan),
            None => Draft::Broken(tier),
        },
    })
}

fn aliased<'a>(
    at: At<'_>,
    tier: Tier,
    target: Field<'a>,
    fields: &Fields<'_>,
    problems: &mut Problems,
) -> Draft<'a> {
    for (name, field) in fields {
        if *name != "same_as" {
            let what = "cannot be combined with same_as: remove it, or remove same_as and write all fields";
            problems.add(at.field(field.line, name), what);
        }
    }
    let Value::Text(name) = target.value else {
        let shown = fields::described(target.value);
        let what = format!("{shown} is not the name of a tier: name one of the others");
        problems.add(at.field(target.line, "same_as"), what);
        return Draft::Broken(tier);
    };
    Draft::Alias(Alias {
        tier,
        line: target.line,
        target: name,
    })
}

fn own(at: At<'_>, tier: &Tier, fields: &Fields<'_>, problems: &mut Problems) -> Option<Plan> {
    missing(at, fields, problems);
    let rpo = number(at, "rpo_minutes", fields, problems, rpo);
    let retention_days = number(at, "backup_retention_days", fields, problems, retention);
    let tolerance = number(at, "tolerance_minutes", fields, problems, tolerance);
    let cadence = match rpo {
        None => {
            // Whether it is a number does not depend on the RPO, so report at least that.
            number(at, "cadence_minutes", fields, problems, |_| Ok(()));
            None
        }
        Some(rpo) => {
            meaningless(at, rpo, fields, problems);
            let derived = Cadence::for_rpo(rpo);
            let own = number(at, "cadence_minutes", fields, problems, |minutes| {
                derived
                    .map(|derived| own_cadence(derived, minutes))
                    .transpose()
            });
            own.unwrap_or(derived)
        }
    };
    let minimum_kept = number(at, "minimum_kept", fields, problems, kept);
    let maximum_dump_gib = number(at, "maximum_dump_gib", fields, problems, dump_gib);
    let keep = keep(at, retention_days, fields, problems);
    let proof = Proof::read(at, fields, problems);
    let (rpo, retention_days) = (rpo?, retention_days?);
    let protection = match cadence {
        None => Protection::Never(Why::ZeroRpo),
        Some(_) if retention_days == 0 => Protection::Never(Why::ZeroRetention),
        Some(cadence) => Protection::Every(cadence),
    };
    Some(Plan {
        tier: tier.clone(),
        rpo,
        retention_days,
        keep,
        minimum_kept: minimum_kept.unwrap_or(1),
        maximum_dump_gib,
        protection,
        tolerance: tolerance.unwrap_or_else(|| default_tolerance(rpo)),
        objective: proof.objective,
        hold: proof.hold.unwrap_or_default(),
        drill_within_days: proof.drill_within_days(protection),
        rto_minutes: proof.rto_minutes,
        same_as: None,
    })
}

fn missing(at: At<'_>, fields: &Fields<'_>, problems: &mut Problems) {
    for (name, hint) in [
        ("rpo_minutes", "the most minutes that may be lost"),
        ("backup_retention_days", "how many days to keep backups"),
    ] {
        if !fields.contains_key(name) {
            let what = format!("missing: write {hint}, or 0 for never");
            problems.add(at.field(at.line, name), what);
        }
    }
}

/// Returns which points are kept. Windows that reach less far back than the retention promises are a problem.
fn keep(
    at: At<'_>,
    retention_days: Option<i32>,
    fields: &Fields<'_>,
    problems: &mut Problems,
) -> Option<Keep> {
    for name in ["keep", "minimum_kept"] {
        if let (Some(field), Some(0)) = (fields.get(name), retention_days) {
            let what =
                "has no meaning where backup_retention_days is 0: remove it, or set a retention";
            problems.add(at.field(field.line, name), what);
        }
    }
    let field = fields.get("keep")?;
    let here = at.field(field.line, "keep");
    let Value::Mapping(entries) = field.value else {
        let shown = fields::described(field.value);
        let what = format!(
            "{shown}: write one or more of hourly, daily, weekly and monthly, each with a number"
        );
        problems.add(here, what);
        return None;
    };
    let windows = fields::known(here, entries, &KEEP, problems);
    if entries.is_empty() {
        problems.add(
            here,
            "it keeps nothing: name hourly, daily, weekly or monthly, or remove it",
        );
        return None;
    }
    let mut count = |name| {
        if windows.contains_key(name) {
            number(at, name, &windows, problems, kept)
        } else {
            Some(0)
        }
    };
    // Read all of them before returning, so that every problem is reported.
    let counts = KEEP.map(&mut count);
    let [Some(hourly), Some(daily), Some(weekly), Some(monthly)] = counts else {
        return None;
    };
    let keep = Keep {
        hourly,
        daily,
        weekly,
        monthly,
    };
    let days = retention_days.and_then(|days| u32::try_from(days).ok())?;
    if keep.reach_days() < days {
        let reach = keep.reach_days();
        let what = format!(
            "reaches {reach} days back, and backup_retention_days promises {days}: keep more, or promise less"
        );
        problems.add(here, what);
    }
    Some(keep)
}

fn kept(number: i64) -> Result<u32, String> {
    match u32::try_from(number) {
        Ok(number @ 1..=MOST_KEPT) => Ok(number),
        Ok(_) | Err(_) if number < 1 => Err(format!(
            "{number} keeps nothing: use 1 or more, or remove it"
        )),
        Ok(_) | Err(_) => Err(format!("{number} is too many: use {MOST_KEPT} at most")),
    }
}

fn meaningless(at: At<'_>, rpo: Rpo, fields: &Fields<'_>, problems: &mut Problems) {
    for name in [
        "cadence_minutes",
        "tolerance_minutes",
        "objective",
        "hold",
        "drill_within_days",
        "rto_minutes",
    ] {
        if let (Some(field), 0) = (fields.get(name), rpo.minutes()) {
            let what = "has no meaning where rpo_minutes is 0: remove it, or set an RPO";
            problems.add(at.field(field.line, name), what);
        }
    }
}

/// Returns the meaning of a field's number, or `None` if the field is absent or wrong. A wrong one becomes a problem.
fn number<T>(
    at: At<'_>,
    name: &str,
    fields: &Fields<'_>,
    problems: &mut Problems,
    meaning: impl Fn(i64) -> Result<T, String>,
) -> Option<T> {
    let field = fields.get(name)?;
    fields::whole(field.value)
        .and_then(meaning)
        .map_err(|what| problems.add(at.field(field.line, name), what))
        .ok()
}

fn rpo(minutes: i64) -> Result<Rpo, String> {
    Rpo::from_minutes(minutes).map_err(|why| why.to_string())
}

fn retention(days: i64) -> Result<i32, String> {
    match i32::try_from(days) {
        Ok(days @ 0..=LONGEST_RETENTION_DAYS) => Ok(days),
        Ok(_) | Err(_) if days < 0 => Err(format!(
            "{days} is negative: use 0 for never, or a number of days"
        )),
        Ok(_) | Err(_) => Err(format!("{days} is too long: use 36500 (a century) at most")),
    }
}

fn dump_gib(gib: i64) -> Result<NonZeroU32, String> {
    let number = u32::try_from(gib).ok().and_then(NonZeroU32::new);
    match number.filter(|number| number.get() <= LARGEST_DUMP_GIB) {
        Some(number) => Ok(number),
        None if gib < 1 => Err(format!("{gib} allows no dump: use 1 or more, or remove it")),
        None => Err(format!(
            "{gib} is too large: use {LARGEST_DUMP_GIB} at most, or remove it"
        )),
    }
}

fn tolerance(minutes: i64) -> Result<TimeDelta, String> {
    match minutes {
        ..0 => Err(format!("{minutes} is negative: use 0 or more")),
        0..=LONGEST_TOLERANCE_MINUTES => Ok(TimeDelta::minutes(minutes)),
        _ => Err(format!(
            "{minutes} is too long: use 525600 (a year) at most"
        )),
    }
}

fn own_cadence(derived: Cadence, minutes: i64) -> Result<Cadence, String> {
    let longest = derived.minutes();
    if minutes > longest.into() {
        return Err(format!(
            "{minutes} is too long for the RPO: use {longest} or less, or remove it to use {longest}"
        ));
    }
    Cadence::from_minutes(minutes).map_err(|why| why.to_string())
}

/// Returns a tenth of the RPO, rounded up, but at least 5 minutes.
fn default_tolerance(rpo: Rpo) -> TimeDelta {
    let tenth = i64::from(rpo.minutes()).div_euclid(10) + i64::from(rpo.minutes() % 10 != 0);
    TimeDelta::minutes(tenth.max(5))
}
