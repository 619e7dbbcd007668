//! What do other plans change for whom? Tiers that come, go, or promise something else, field by field.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::fleet::Resource;
use crate::{nouns::tiers, plan::Plans};

/// What happens to one tier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TierChange {
    /// The tier.
    pub tier: String,
    /// Its active resources.
    pub resources: usize,
    /// What happens to it.
    pub change: Change,
    /// The fields that change, of a tier that stays.
    pub fields: Vec<FieldChange>,
}

/// What happens to a tier. Serialized names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is no longer there: its resources are not backed up.
    Removed,
    /// It promises something else.
    Changed,
}

/// One field of a tier, as `lastgood plans show --json` names and shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// What it was.
    pub before: Value,
    /// What it becomes.
    pub after: Value,
}

/// Returns what `after` changes against `before`, in the order of the tiers' names.
#[must_use]
pub fn changes(before: &Plans, after: &Plans, fleet: &[Resource]) -> Vec<TierChange> {
    let (before, after) = (by_name(before), by_name(after));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let (change, fields) = match (before.get(name), after.get(name)) {
                (None, _) => (Change::Added, Vec::new()),
                (_, None) => (Change::Removed, Vec::new()),
                (Some(before), Some(after)) => (Change::Changed, fields(before, after)),
            };
            let of_tier = |resource: &&Resource| resource.tier.as_str() == name;
            (change != Change::Changed || !fields.is_empty()).then(|| TierChange {
                tier: name.clone(),
                resources: fleet.iter().filter(of_tier).count(),
                change,
                fields,
            })
        })
        .collect()
}

fn by_name(plans: &Plans) -> HashMap<String, Map<String, Value>> {
    tiers(plans)
        .into_iter()
        .filter_map(|tier| match serde_json::to_value(&tier) {
            Ok(Value::Object(fields)) => Some((tier.id, fields)),
            Ok(_) | Err(_) => None,
        })
        .collect()
}

fn fields(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<FieldChange> {
    let of =
        |fields: &Map<String, Value>, name: &String| fields.get(name).cloned().unwrap_or_default();
    after
        .keys()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            before: of(before, name),
            after: of(after, name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_that_come_go_and_change_are_told_apart() -> anyhow::Result<()> {
        let plans = |tiers: &str| Plans::parse(&format!("version: 1\ntiers:\n{tiers}"));
        let before = plans(
            "  a: {rpo_minutes: 60, backup_retention_days: 7}\n  b: {rpo_minutes: 60, backup_retention_days: 7}\n  c: {rpo_minutes: 5, backup_retention_days: 7}\n",
        )?;
        let after = plans(
            "  b: {rpo_minutes: 30, backup_retention_days: 7}\n  c: {rpo_minutes: 5, backup_retention_days: 7}\n  d: {rpo_minutes: 5, backup_retention_days: 1}\n",
        )?;
        let found = changes(&before, &after, &[]);
        let told: Vec<_> = found
            .iter()
            .map(|it| (it.tier.as_str(), it.change))
            .collect();
        assert_eq!(
            told,
            [
                ("a", Change::Removed),
                ("b", Change::Changed),
                ("d", Change::Added)
            ]
        );
        let fields: Vec<_> = found[1].fields.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "rpo_minutes",
                "cadence",
                "cadence_minutes",
                "tolerance_minutes"
            ]
        );
        assert_eq!(changes(&before, &before, &[]), []);
        Ok(())
    }
}
