//! Which plan does a tier with `same_as` have? The one at the end of its chain.

use std::collections::HashMap;

use lastgood_jobs::resource::Tier;

use super::{
    Plan,
    fields::{At, Problems, nearest},
    problem::shortened,
};

/// A tier as the file has it, before aliases are followed.
pub(super) enum Draft<'a> {
    Own(Plan),
    Alias(Alias<'a>),
    /// Its problems have been reported. Aliases of it report none of their own.
    Broken(Tier),
}

/// A tier that is promised the same as another.
pub(super) struct Alias<'a> {
    pub(super) tier: Tier,
    pub(super) line: usize,
    pub(super) target: &'a str,
}

impl Draft<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Own(plan) => plan.tier.as_str(),
            Self::Alias(alias) => alias.tier.as_str(),
            Self::Broken(tier) => tier.as_str(),
        }
    }
}

type ByName<'a> = HashMap<&'a str, &'a Draft<'a>>;

/// Returns the plans in the order of the drafts. An alias that leads nowhere becomes a problem.
pub(super) fn resolve(drafts: &[Draft<'_>], problems: &mut Problems) -> Vec<Plan> {
    let by_name: ByName<'_> = drafts.iter().map(|draft| (draft.name(), draft)).collect();
    let mut resolved = Vec::with_capacity(drafts.len());
    for draft in drafts {
        match draft {
            Draft::Own(plan) => resolved.push(plan.clone()),
            Draft::Alias(alias) => resolved.extend(follow(alias, &by_name, problems)),
            Draft::Broken(_) => {}
        }
    }
    resolved
}

fn follow(start: &Alias<'_>, by_name: &ByName<'_>, problems: &mut Problems) -> Option<Plan> {
    let at = At::tier(start.line, start.tier.as_str()).field(start.line, "same_as");
    let mut chain = vec![start];
    let mut target = start.target;
    loop {
        match by_name.get(target) {
            Some(Draft::Own(plan)) => return Some(promised_alike(start, plan)),
            Some(Draft::Alias(next)) => {
                if let Some(back) = chain.iter().position(|seen| seen.tier == next.tier) {
                    report_loop(at, back, &chain, problems);
                    return None;
                }
                chain.push(next);
                target = next.target;
            }
            None if chain.len() == 1 => {
                problems.add(at, unknown(start, by_name));
                return None;
            }
            Some(Draft::Broken(_)) | None => return None,
        }
    }
}

fn promised_alike(alias: &Alias<'_>, plan: &Plan) -> Plan {
    Plan {
        tier: alias.tier.clone(),
        same_as: alias.target.parse().ok(),
        ..plan.clone()
    }
}

/// Reports a loop once, at its first line, and not at aliases that only lead into it.
fn report_loop(at: At<'_>, back: usize, chain: &[&Alias<'_>], problems: &mut Problems) {
    let first = chain.iter().map(|alias| alias.line).min();
    if back == 0 && first == Some(at.line) {
        let names: Vec<&str> = chain
            .iter()
            .chain(chain.first())
            .map(|alias| alias.tier.as_str())
            .collect();
        let path = names.join(" -> ");
        let what = format!("goes in a circle ({path}): give one of them its own fields");
        problems.add(at, what);
    }
}

fn unknown(alias: &Alias<'_>, by_name: &ByName<'_>) -> String {
    let shown = shortened(alias.target);
    let others = by_name.keys().copied();
    let mut names: Vec<&str> = others.filter(|name| *name != alias.tier.as_str()).collect();
    // A map's order differs from run to run, which would make the suggestion random.
    names.sort_unstable();
    match nearest(alias.target, names.into_iter()) {
        Some(near) => format!("{shown:?} is not a tier of this file: did you mean {near:?}?"),
        None => format!("{shown:?} is not a tier of this file: name one that is"),
    }
}
