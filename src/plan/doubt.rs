//! What does a valid plans file say that its author may not have meant?

use std::collections::HashMap;

use super::{Plan, Plans, Protection, Why};

/// In percent. Below it, something else is meant: a share of 1, or the minutes that may be lost.
const LOWEST_LIKELY_OBJECTIVE: f64 = 50.0;

/// Returns what is valid but doubtful, one sentence each. The strict check refuses a file with any doubt.
#[must_use]
pub fn doubts(plans: &Plans) -> Vec<String> {
    let mut doubts: Vec<String> = plans
        .iter()
        // An alias would repeat the doubt about its base.
        .filter(|plan| plan.same_as.is_none())
        .flat_map(of_plan)
        .collect();
    doubts.extend(of_names(plans));
    if plans.paid().next().is_none() {
        doubts.push("no tier is ever backed up: is this the right file?".to_owned());
    }
    doubts
}

fn of_plan(plan: &Plan) -> Vec<String> {
    let tier = plan.tier.as_str();
    let rpo = plan.rpo.minutes();
    let days = plan.retention_days;
    let mut doubts = Vec::new();
    match plan.protection {
        Protection::Never(Why::ZeroRetention) => doubts.push(format!(
            "tier {tier:?}: promises an RPO of {rpo} minutes but keeps nothing, so it is never backed up: \
             set backup_retention_days, or rpo_minutes to 0"
        )),
        Protection::Never(Why::ZeroRpo) if days > 0 => doubts.push(format!(
            "tier {tier:?}: keeps backups for {days} days but never makes any: \
             set rpo_minutes, or backup_retention_days to 0"
        )),
        Protection::Every(_) if i64::from(days) * 1440 < rpo.into() => doubts.push(format!(
            "tier {tier:?}: keeps backups for {days} days, which is shorter than its RPO of {rpo} minutes: \
             keep them longer"
        )),
        Protection::Never(Why::ZeroRpo) | Protection::Every(_) => {}
    }
    if plan.rpo.minutes() > 0 && plan.tolerance > plan.rpo.as_delta() {
        doubts.push(format!(
            "tier {tier:?}: tolerance_minutes is {}, longer than the RPO of {rpo}: a missed backup would go unnoticed",
            plan.tolerance.num_minutes()
        ));
    }
    if let (Some(keep), Protection::Every(cadence)) = (plan.keep, plan.protection)
        && keep.hourly > 0
        && cadence.minutes() > 60
    {
        doubts.push(format!(
            "tier {tier:?}: keep has {} hourly, but the tier is backed up {cadence}: did you mean daily?",
            keep.hourly
        ));
    }
    doubts.extend(of_proof(plan));
    doubts
}

fn of_proof(plan: &Plan) -> Vec<String> {
    let tier = plan.tier.as_str();
    let mut doubts = Vec::new();
    if let Some(objective) = plan.objective
        && objective.percent() < LOWEST_LIKELY_OBJECTIVE
    {
        doubts.push(format!(
            "tier {tier:?}: objective is {objective}, so the promise may be broken for days on end: did you mean a share, such as 99.9?",
        ));
    }
    if let (Some(minutes), Some(0)) = (plan.rto_minutes, plan.drill_within_days) {
        doubts.push(format!(
            "tier {tier:?}: promises an RTO of {minutes} minutes, but drill_within_days is 0: only a real restore would tell whether it holds"
        ));
    }
    doubts
}

fn of_names(plans: &Plans) -> Vec<String> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut doubts = Vec::new();
    for plan in plans.iter() {
        let tier = plan.tier.as_str();
        if let Some(other) = seen.insert(tier.to_lowercase(), tier) {
            doubts.push(format!(
                "tiers {other:?} and {tier:?} differ only in case: which one is meant?"
            ));
        }
    }
    doubts
}
