//! What can be promised now: whether backup, restore and verification are available for each tier and engine, and if not, why. Pure:
//! the processes that are alive are an argument.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use lastgood_jobs::{engine::Capability, resource::Engine};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    nouns::Pause,
    plan::{Cadence, Plan, Plans, Protection},
};

/// The processes that would keep the promises.
#[derive(Debug, Clone, Default)]
pub struct Alive {
    /// The consumers that are running and were seen lately, without those that drain: they take no new runs.
    pub consumers: Vec<LiveConsumer>,
    /// Whether a producer ticks, and by these plans.
    pub scheduling: Scheduling,
    /// Whether restore points are read back (`--verify-within` is not 0).
    pub is_verifying: bool,
    /// The pauses in force.
    pub pauses: Vec<Pause>,
    /// What the ledger shows: the oldest proof of each tier and engine that has restore points.
    pub proofs: Vec<OldestProof>,
    /// The time by the catalog's clock.
    pub now: DateTime<Utc>,
}

/// How long ago the last drill proved the resource of a tier and engine for which that is longest ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldestProof {
    /// The tier.
    pub tier: String,
    /// The engine.
    pub engine: String,
    /// When; `None` if some resource was never proven.
    pub at: Option<DateTime<Utc>>,
}

/// Whether what the plans say is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheduling {
    /// No producer ticks.
    #[default]
    Nobody,
    /// Every ticking producer goes by these plans, as far as is known.
    ThesePlans,
    /// A ticking producer goes by other plans, so what these plans promise may not be scheduled.
    OtherPlans,
}

/// A consumer as it has registered.
#[derive(Debug, Clone)]
pub struct LiveConsumer {
    /// The queues it claims from.
    pub queues: Vec<String>,
    /// What it can do, as its probes at start found.
    pub capabilities: Vec<Capability>,
}

/// What one tier promises, and what is available now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TierCapabilities {
    /// The tier's name.
    pub id: String,
    /// The most data that may be lost, in minutes; 0 promises nothing.
    pub rpo_minutes: i32,
    /// How often it is backed up, in words.
    pub cadence: String,
    /// The same in minutes; null for never.
    pub cadence_minutes: Option<i32>,
    /// How many days restore points are kept.
    pub retention_days: i32,
    /// Within how many days each resource is proven restorable by a drill; 0 is never, null if the tier is never backed up.
    pub drill_within_days: Option<u32>,
    /// What is available for each engine.
    pub engines: Vec<EngineCapabilities>,
}

/// What is available for one engine on one tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EngineCapabilities {
    /// The engine.
    #[schema(example = "postgres")]
    pub engine: String,
    /// Backups as often as the cadence says.
    pub backup: Availability,
    /// Restores.
    pub restore: Availability,
    /// Reading restore points back.
    pub verification: Availability,
    /// Proof by drills: each resource's restore points were proven restorable within `drill_within_days`, as the ledger shows.
    pub proof: Availability,
    /// PostgreSQL and pgvector: the major versions that running consumers have client tools for. Tools serve only their own major version:
    /// backups and restores are available only on servers of these versions. Null for engines that need no tools.
    #[schema(example = json!([17, 18]))]
    pub server_majors: Option<Vec<u32>>,
}

/// Whether something is available now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Availability {
    /// Whether it is available.
    pub is_available: bool,
    /// Why not; null if it is available.
    pub because: Option<String>,
}

impl Availability {
    /// Returns "available" if there are no reasons against it, otherwise the first reason.
    fn unless(reasons: impl IntoIterator<Item = Option<String>>) -> Self {
        let because = reasons.into_iter().flatten().next();
        Self {
            is_available: because.is_none(),
            because,
        }
    }
}

/// Returns what each tier promises and what is available now, in the order of the plans.
#[must_use]
pub fn capabilities(plans: &Plans, alive: &Alive) -> Vec<TierCapabilities> {
    plans
        .iter()
        .map(|plan| {
            let cadence = plan.protection.cadence();
            TierCapabilities {
                id: plan.tier.to_string(),
                rpo_minutes: plan.rpo.minutes(),
                cadence: cadence.map_or_else(|| "never".to_owned(), |cadence| cadence.to_string()),
                cadence_minutes: cadence.map(Cadence::minutes),
                retention_days: plan.retention_days,
                drill_within_days: plan.drill_within_days,
                engines: Engine::ALL
                    .into_iter()
                    .map(|engine| of(plan, engine, alive))
                    .collect(),
            }
        })
        .collect()
}

fn of(plan: &Plan, engine: Engine, alive: &Alive) -> EngineCapabilities {
    let never = match plan.protection {
        Protection::Every(_) => None,
        Protection::Never(why) => Some(format!("this tier is never backed up: {}", why.as_str())),
    };
    let paused = alive.paused(plan, engine);
    let nobody_ticks = (alive.scheduling == Scheduling::Nobody)
        .then(|| "no producer ticks: nothing is scheduled".to_owned());
    let other_plans = (alive.scheduling == Scheduling::OtherPlans).then(|| {
        "the producer's plans differ from this API's: one of them has another plans file, or could not use it"
            .to_owned()
    });
    let not_verified = (!alive.is_verifying)
        .then(|| "restore points are not read back: --verify-within is 0".to_owned());
    EngineCapabilities {
        engine: engine.to_string(),
        backup: Availability::unless([
            never.clone(),
            alive.lacks(engine, "backup"),
            nobody_ticks.clone(),
            other_plans,
            paused.clone(),
        ]),
        restore: Availability::unless([
            never.clone(),
            alive.lacks(engine, "restore"),
            paused.clone(),
        ]),
        proof: Availability::unless([never.clone(), alive.unproven(plan, engine)]),
        verification: Availability::unless([
            never,
            not_verified,
            alive.nobody_serves(engine),
            nobody_ticks,
            paused,
        ]),
        server_majors: match engine {
            Engine::Postgres | Engine::Vector => Some(alive.server_majors(engine)),
            Engine::Mongodb | Engine::Redis => None,
        },
    }
}

impl Alive {
    fn serving(&self, engine: Engine) -> impl Iterator<Item = &LiveConsumer> {
        let serves =
            move |it: &&LiveConsumer| it.queues.iter().any(|queue| queue == engine.as_str());
        self.consumers.iter().filter(serves)
    }

    /// Returns what the ledger does not show of a tier's resources of this engine.
    fn unproven(&self, plan: &Plan, engine: Engine) -> Option<String> {
        let Some(days) = plan.drill_within_days.filter(|days| *days > 0) else {
            return Some("this tier is never drilled: drill_within_days is 0".to_owned());
        };
        let oldest = self
            .proofs
            .iter()
            .find(|proof| proof.tier == plan.tier.as_str() && proof.engine == engine.as_str());
        let since = self.now - TimeDelta::days(i64::from(days));
        match oldest.map(|proof| proof.at) {
            None => Some("no restore point of this tier and engine is on record".to_owned()),
            Some(Some(at)) if at >= since => None,
            Some(Some(_)) => Some(format!(
                "not every resource was proven by a drill within {days} days"
            )),
            Some(None) => Some("some resource was never proven by a drill".to_owned()),
        }
    }

    fn nobody_serves(&self, engine: Engine) -> Option<String> {
        let nobody = self.serving(engine).next().is_none();
        nobody.then(|| format!("no consumer that serves {engine} is running"))
    }

    /// Returns the major versions in ascending order, without duplicates.
    fn server_majors(&self, engine: Engine) -> Vec<u32> {
        let capable = self.serving(engine).flat_map(|it| &it.capabilities);
        let tools = capable
            .filter(|capability| capability.engine == engine)
            .flat_map(|capability| &capability.tools);
        let majors: BTreeSet<u32> = tools.filter_map(|tool| major(tool)).collect();
        majors.into_iter().collect()
    }

    fn lacks(&self, engine: Engine, operation: &str) -> Option<String> {
        let can = |it: &LiveConsumer| {
            let of_engine = |capability: &&Capability| capability.engine == engine;
            let offers =
                |capability: &Capability| capability.operations.iter().any(|it| it == operation);
            it.capabilities.iter().filter(of_engine).any(offers)
        };
        self.nobody_serves(engine).or_else(|| {
            let none_can = !self.serving(engine).any(can);
            none_can
                .then(|| format!("no running consumer has the tools for a {operation} of {engine}"))
        })
    }

    /// Returns why the tier is paused, if it is. A pause of a single team does not change what the tier promises.
    fn paused(&self, plan: &Plan, engine: Engine) -> Option<String> {
        let covers = |pause: &&Pause| {
            pause.team.is_none()
                && pause
                    .engine
                    .as_deref()
                    .is_none_or(|it| it == engine.as_str())
                && pause
                    .tier
                    .as_deref()
                    .is_none_or(|it| it == plan.tier.as_str())
        };
        let pause = self.pauses.iter().find(covers)?;
        Some(format!(
            "paused since {}",
            pause
                .created_at
                .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        ))
    }
}

/// Returns the 18 of `pg_dump (PostgreSQL) 18.6 in /usr/lib/postgresql/18/bin`, the form in which a consumer registers its tools.
fn major(tool: &str) -> Option<u32> {
    let (_, version) = tool.split_once("(PostgreSQL) ")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};
    use chrono::DateTime;
    use rstest::rstest;

    use super::*;

    fn consumer(engine: Engine, operations: &[&str]) -> LiveConsumer {
        LiveConsumer {
            queues: vec![engine.to_string()],
            capabilities: vec![Capability {
                engine,
                operations: operations.iter().map(ToString::to_string).collect(),
                tools: Vec::new(),
            }],
        }
    }

    fn all_well() -> Alive {
        let can = |engine| consumer(engine, &["backup", "restore"]);
        Alive {
            consumers: Engine::ALL.into_iter().map(can).collect(),
            scheduling: Scheduling::ThesePlans,
            is_verifying: true,
            ..Alive::default()
        }
    }

    #[rstest]
    #[case::nothing_on_record(&[], false)]
    #[case::one_never_proven(&[None], false)]
    #[case::proven_long_ago(&[Some(1)], false)]
    #[case::proven_lately(&[Some(4)], true)]
    fn a_tier_is_proven_only_where_the_ledger_shows_it(
        #[case] oldest: &[Option<i64>],
        #[case] expected: bool,
    ) -> Result<()> {
        let day = |day| DateTime::UNIX_EPOCH + TimeDelta::days(day);
        let plans = Plans::parse(
            "version: 1\ntiers:\n  pro: {rpo_minutes: 60, backup_retention_days: 30}\n  \
             undrilled: {rpo_minutes: 60, backup_retention_days: 30, drill_within_days: 0}\n",
        )?;
        let of = |tier: &str| {
            let proof = |at: &Option<i64>| OldestProof {
                tier: tier.to_owned(),
                engine: "redis".to_owned(),
                at: at.map(day),
            };
            Alive {
                proofs: oldest.iter().map(proof).collect(),
                now: day(10),
                ..all_well()
            }
        };
        let proven = |tier: &str| {
            let tiers = capabilities(&plans, &of(tier));
            let tier = tiers.into_iter().find(|it| it.id == tier);
            let engines = tier.map(|it| it.engines).unwrap_or_default();
            engines
                .into_iter()
                .any(|it| it.engine == "redis" && it.proof.is_available)
        };
        assert_eq!(proven("pro"), expected);
        assert!(!proven("undrilled"));
        Ok(())
    }

    fn pause(engine: Option<&str>, tier: Option<&str>, team: Option<&str>) -> Pause {
        Pause {
            engine: engine.map(str::to_owned),
            tier: tier.map(str::to_owned),
            team: team.map(str::to_owned),
            reason: "a test".to_owned(),
            by: "root".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    fn found(alive: &Alive, tier: &str, engine: &str) -> Result<[bool; 3]> {
        let plans = Plans::parse(
            "version: 1\ntiers:\n  pro: {rpo_minutes: 60, backup_retention_days: 30}\n  free: {rpo_minutes: 0, backup_retention_days: 0}\n",
        )?;
        let tiers = capabilities(&plans, alive);
        let tier = tiers
            .iter()
            .find(|it| it.id == tier)
            .context("no such tier")?;
        let it = tier
            .engines
            .iter()
            .find(|it| it.engine == engine)
            .context("no such engine")?;
        for each in [&it.backup, &it.restore, &it.verification] {
            assert_eq!(
                each.is_available,
                each.because.is_none(),
                "what is not available says why"
            );
        }
        Ok([
            it.backup.is_available,
            it.restore.is_available,
            it.verification.is_available,
        ])
    }

    #[rstest]
    #[case::all_is_well(all_well(), "pro", [true, true, true])]
    #[case::a_tier_without_backups(all_well(), "free", [false, false, false])]
    #[case::nobody_is_alive(Alive::default(), "pro", [false, false, false])]
    #[case::nobody_schedules(Alive { scheduling: Scheduling::Nobody, ..all_well() }, "pro", [false, true, false])]
    #[case::other_plans_are_scheduled(Alive { scheduling: Scheduling::OtherPlans, ..all_well() }, "pro", [false, true, true])]
    #[case::nobody_verifies(Alive { is_verifying: false, ..all_well() }, "pro", [true, true, false])]
    #[case::no_tools(Alive { consumers: vec![consumer(Engine::Mongodb, &[])], ..all_well() }, "pro", [false, false, true])]
    #[case::only_restores(Alive { consumers: vec![consumer(Engine::Mongodb, &["restore"])], ..all_well() }, "pro", [false, true, true])]
    #[case::others_alone(Alive { consumers: vec![consumer(Engine::Redis, &["backup", "restore"])], ..all_well() }, "pro", [false, false, false])]
    #[case::everything_paused(Alive { pauses: vec![pause(None, None, None)], ..all_well() }, "pro", [false, false, false])]
    #[case::the_engine_paused(Alive { pauses: vec![pause(Some("mongodb"), None, None)], ..all_well() }, "pro", [false, false, false])]
    #[case::another_engine_paused(Alive { pauses: vec![pause(Some("redis"), None, None)], ..all_well() }, "pro", [true, true, true])]
    #[case::the_tier_paused(Alive { pauses: vec![pause(None, Some("pro"), None)], ..all_well() }, "pro", [false, false, false])]
    #[case::one_team_paused(Alive { pauses: vec![pause(None, None, Some("acme"))], ..all_well() }, "pro", [true, true, true])]
    fn what_is_available_is_what_somebody_alive_can_do(
        #[case] alive: Alive,
        #[case] tier: &str,
        #[case] expected: [bool; 3],
    ) -> Result<()> {
        assert_eq!(found(&alive, tier, "mongodb")?, expected);
        Ok(())
    }
    #[test]
    fn the_servers_that_somebody_has_the_tools_of_are_named() -> Result<()> {
        let with = |engine, tools: &[&str]| {
            let mut consumer = consumer(engine, &["backup", "restore"]);
            for capability in &mut consumer.capabilities {
                capability.tools = tools.iter().map(ToString::to_string).collect();
            }
            consumer
        };
        let alive = Alive {
            consumers: vec![
                with(
                    Engine::Postgres,
                    &[
                        "pg_dump (PostgreSQL) 18.6 in /a/18",
                        "pg_restore (PostgreSQL) 18.6 in /a/18",
                    ],
                ),
                with(
                    Engine::Postgres,
                    &[
                        "pg_dump (PostgreSQL) 9.6.24 in /b",
                        "pg_dump (PostgreSQL) 17.10 in /a/17",
                        "a tool",
                    ],
                ),
                with(Engine::Redis, &["replication protocol 9"]),
            ],
            ..all_well()
        };
        let tiers = capabilities(&Plans::built_in(), &alive);
        let engines = &tiers.first().context("no tier")?.engines;
        let majors: Vec<_> = engines
            .iter()
            .map(|it| (it.engine.as_str(), it.server_majors.clone()))
            .collect();
        for (engine, expected) in [
            ("postgres", Some(vec![9, 17, 18])),
            ("vector", Some(Vec::new())),
            ("mongodb", None),
            ("redis", None),
        ] {
            assert!(majors.contains(&(engine, expected)), "{engine}: {majors:?}");
        }
        Ok(())
    }
}
