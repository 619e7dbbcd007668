//! Which tiers are backed up, how often, and against which RPO. Ticks use these figures, even while the plans file is missing.

use chrono::TimeDelta;

use crate::{
    catalog::{Catalog, CatalogError, PlansOnRecord},
    plan::{Plans, PlansFile, Source},
    schedule::Terms,
};

/// The tiers that are backed up, in the form that statements take: one list per column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paid {
    pub(super) tiers: Vec<String>,
    pub(super) cadences: Vec<i32>,
    pub(super) rpos: Vec<i32>,
    /// Which of the tiers are held strictly.
    pub(super) strict: Vec<String>,
}

impl Paid {
    /// Returns the tiers that these plans back up.
    #[must_use]
    pub fn of(plans: &Plans) -> Self {
        let mut paid = Self::default();
        for (plan, cadence) in plans.paid() {
            // A tick of none: the first cadence does not depend on it.
            let strict = Terms::of(plan, TimeDelta::zero());
            let cadence = strict.map_or(cadence, Terms::first);
            paid.push(plan.tier.as_str(), cadence.minutes(), plan.rpo.minutes());
            if strict.is_some() {
                paid.strict.push(plan.tier.to_string());
            }
        }
        paid
    }

    /// Returns the tiers that a producer with this file backs up, and records them, so that a producer without its file does the same.
    ///
    /// The built-in plans stand in for a file that is missing or broken. They decide nothing about a tier that a producer's file covered,
    /// because a replica without its file must not undo what others plan beside it, or planned before it.
    pub async fn of_file(catalog: &Catalog, file: &PlansFile) -> Result<Self, CatalogError> {
        let own = Self::of(file.plans());
        match file.source() {
            Source::File => {
                let known = file.plans().iter().map(|plan| plan.tier.to_string());
                catalog
                    .record_plans(&PlansOnRecord {
                        known: known.collect(),
                        tiers: own.tiers.clone(),
                        cadences: own.cadences.clone(),
                        rpos: own.rpos.clone(),
                        strict: own.strict.clone(),
                    })
                    .await?;
                Ok(own)
            }
            Source::BuiltIn => Ok(match catalog.plans_on_record().await? {
                Some(recorded) => own.under(&recorded),
                None => own,
            }),
        }
    }

    /// Returns the recorded tiers, and those of `self` that the record does not know.
    fn under(self, recorded: &PlansOnRecord) -> Self {
        let mut paid = Self {
            tiers: recorded.tiers.clone(),
            cadences: recorded.cadences.clone(),
            rpos: recorded.rpos.clone(),
            strict: recorded.strict.clone(),
        };
        let is_new = |tier: &&String| !recorded.known.contains(tier);
        paid.strict
            .extend(self.strict.iter().filter(is_new).cloned());
        let own = self.tiers.iter().zip(&self.cadences).zip(&self.rpos);
        for ((tier, cadence), rpo) in own {
            if !recorded.known.contains(tier) {
                paid.push(tier, *cadence, *rpo);
            }
        }
        paid
    }

    fn push(&mut self, tier: &str, cadence: i32, rpo: i32) {
        self.tiers.push(tier.to_owned());
        self.cadences.push(cadence);
        self.rpos.push(rpo);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_covered_is_decided_by_it_and_the_rest_by_the_built_in_plans() {
        let list =
            |tiers: &[&str]| -> Vec<String> { tiers.iter().map(ToString::to_string).collect() };
        let recorded = PlansOnRecord {
            known: list(&["gold", "pro", "free"]),
            tiers: list(&["gold", "pro"]),
            cadences: vec![5, 30],
            rpos: vec![5, 30],
            strict: list(&["gold"]),
        };
        let built_in = Paid {
            tiers: list(&["pro", "free", "team"]),
            cadences: vec![60, 60, 60],
            rpos: vec![60, 60, 60],
            strict: list(&["pro", "team"]),
        };
        let expected = Paid {
            tiers: list(&["gold", "pro", "team"]),
            cadences: vec![5, 30, 60],
            rpos: vec![5, 30, 60],
            strict: list(&["gold", "team"]),
        };
        assert_eq!(built_in.under(&recorded), expected);
    }
}
