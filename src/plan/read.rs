//! What a plans file promises, or everything that is wrong with it: from values with lines to plans.

use std::collections::HashMap;

use chrono::TimeDelta;
use lastgood_jobs::resource::Tier;

use super::{
    Cadence, Plan, Protection, Rpo, Why,
    alias::{self, Alias, Draft},
    document::{self, Node, Value},
    fields::{self, At, Field, Problems},
    problem::PlanProblem,
};

const VERSION: i64 = 1;
const LONGEST_RETENTION_DAYS: i64 = 36_500;
const LONGEST_TOLERANCE_MINUTES: i64 = Rpo::LONGEST_MINUTES;

const TOP: [&str; 2] = ["version", "tiers"];
const TIER: [&str; 5] = [
    "rpo_minutes",
    "backup_retention_days",
    "cadence_minutes",
    "tolerance_minutes",
    "same_as",
];

type Fields<'a> = HashMap<&'a str, Field<'a>>;

/// Returns the plans of a file in its own order, or all of its problems in no order.
pub(super) fn plans(text: &str) -> Result<Vec<Plan>, Vec<PlanProblem>> {
    let (root, refused) = document::read(text).map_err(|problem| vec![problem])?;
    let mut problems = Problems(refused);
    let drafts = file(&root, &mut problems);
    let plans = alias::resolve(drafts, &mut problems);
    if problems.0.is_empty() {
        Ok(plans)
    } else {
        Err(problems.0)
    }
}

fn file<'a>(root: &'a Node, problems: &mut Problems) -> Vec<Draft<'a>> {
    let at = At::line(root.line);
    let Value::Mapping(entries) = &root.value else {
        let what = match &root.value {
            Value::Null => "the file is empty: it needs version and tiers".to_owned(),
            other => format!(
                "the file is {}: it needs version and tiers",
                fields::described(other)
            ),
        };
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
    match field.value {
        Value::Mapping(entries) if !entries.is_empty() => {
            let mut seen = HashMap::new();
            let mut read = |(key, value)| tier(key, value, &mut seen, problems);
            entries.iter().filter_map(|(k, v)| read((k, v))).collect()
        }
        Value::Mapping(_) | Value::Null => {
            problems.add(at, "there is no tier: list at least one");
            Vec::new()
        }
        other @ (Value::Bool(_)
        | Value::Whole(_)
        | Value::Huge(_)
        | Value::Fraction(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Tagged) => {
            let shown = fields::described(other);
            let what = format!("{shown}: write one `name:` a tier, with its fields below");
            problems.add(at, what);
            Vec::new()
        }
    }
}

/// Returns a tier as the file has it; `None` where even its name is in doubt.
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
            let what =
                "has no place beside same_as: remove it, or remove same_as and write all fields";
            problems.add(at.field(field.line, name), what);
        }
    }
    match target.value {
        Value::Text(name) => Draft::Alias(Alias {
            tier,
            line: target.line,
            target: name,
        }),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Whole(_)
        | Value::Huge(_)
        | Value::Fraction(_)
        | Value::List(_)
        | Value::Mapping(_)
        | Value::Tagged) => {
            let shown = fields::described(other);
            let what = format!("{shown} is not the name of a tier: write one of the others");
            problems.add(at.field(target.line, "same_as"), what);
            Draft::Broken(tier)
        }
    }
}

fn own(at: At<'_>, tier: &Tier, fields: &Fields<'_>, problems: &mut Problems) -> Option<Plan> {
    let mut number = |name: &'static str, check: fn(i64) -> Result<i64, String>| {
        number(at, name, fields.get(name)?, check, problems)
    };
    let rpo = number("rpo_minutes", |minutes| match Rpo::from_minutes(minutes) {
        Ok(_) => Ok(minutes),
        Err(why) => Err(why.to_string()),
    });
    let retention = number("backup_retention_days", retention);
    let cadence = number("cadence_minutes", Ok);
    let tolerance = number("tolerance_minutes", tolerance);
    for (name, hint) in [
        ("rpo_minutes", "the most minutes that may be lost"),
        ("backup_retention_days", "how many days to keep backups"),
    ] {
        if !fields.contains_key(name) {
            let what = format!("missing: write {hint}, or 0 for never");
            problems.add(at.field(at.line, name), what);
        }
    }
    let rpo = Rpo::from_minutes(rpo?).ok()?;
    for name in ["cadence_minutes", "tolerance_minutes"] {
        if let (Some(field), 0) = (fields.get(name), rpo.minutes()) {
            let what = "has no meaning where rpo_minutes is 0: remove it, or set an RPO";
            problems.add(at.field(field.line, name), what);
        }
    }
    let cadence = match (Cadence::for_rpo(rpo), cadence) {
        (Some(derived), Some(minutes)) => match own_cadence(derived, minutes) {
            Ok(cadence) => Some(cadence),
            Err(what) => {
                let line = fields.get("cadence_minutes").map_or(at.line, |at| at.line);
                problems.add(at.field(line, "cadence_minutes"), what);
                return None;
            }
        },
        (derived, _) => derived,
    };
    let retention_days = i32::try_from(retention?).ok()?;
    let tolerance = tolerance.map_or_else(|| default_tolerance(rpo), TimeDelta::minutes);
    Some(Plan {
        tier: tier.clone(),
        rpo,
        retention_days,
        protection: match cadence {
            None => Protection::Never(Why::ZeroRpo),
            Some(_) if retention_days == 0 => Protection::Never(Why::ZeroRetention),
            Some(cadence) => Protection::Every(cadence),
        },
        tolerance,
        same_as: None,
    })
}

fn number(
    at: At<'_>,
    name: &str,
    field: &Field<'_>,
    check: fn(i64) -> Result<i64, String>,
    problems: &mut Problems,
) -> Option<i64> {
    fields::whole(field.value)
        .and_then(check)
        .inspect_err(|what| problems.add(at.field(field.line, name), what.clone()))
        .ok()
}

fn retention(days: i64) -> Result<i64, String> {
    match days {
        ..0 => Err(format!("{days} is negative: use 0 for never, or days")),
        0..=LONGEST_RETENTION_DAYS => Ok(days),
        _ => Err(format!("{days} is too long: use 36500 (a century) at most")),
    }
}

fn tolerance(minutes: i64) -> Result<i64, String> {
    match minutes {
        ..0 => Err(format!("{minutes} is negative: use 0 or more")),
        0..=LONGEST_TOLERANCE_MINUTES => Ok(minutes),
        _ => Err(format!(
            "{minutes} is too long: use 525600 (a year) at most"
        )),
    }
}

fn own_cadence(derived: Cadence, minutes: i64) -> Result<Cadence, String> {
    let longest = derived.minutes();
    if minutes > longest.into() {
        return Err(format!(
            "{minutes} is too long for the RPO: use {longest} or less, or remove it for {longest}"
        ));
    }
    Cadence::from_minutes(minutes).map_err(|why| why.to_string())
}

/// A tenth of the RPO, rounded up, and 5 minutes at least.
fn default_tolerance(rpo: Rpo) -> TimeDelta {
    let tenth = i64::from(rpo.minutes()).div_euclid(10) + i64::from(rpo.minutes() % 10 != 0);
    TimeDelta::minutes(tenth.max(5))
}
