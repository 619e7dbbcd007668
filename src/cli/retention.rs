//! `lastgood retention plan`: what is kept and what expires, why and when.

use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::output::{Output, bytes, instant, instant_or_dash, printable, table};
use crate::{
    catalog::{Catalog, Fate, Retained},
    config::{PlansArgs, RetentionArgs},
    nouns::ResourceStatus,
    plan::{Plans, PlansFile, Source},
    retention::{Decision, Expired, decide},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Explain what retention keeps and what expires: each restore point of a resource, or one line for each resource. Changes nothing
    Plan {
        #[command(flatten)]
        of: super::OneResource,
        #[command(flatten)]
        plans: PlansArgs,
        #[command(flatten)]
        retention: RetentionArgs,
    },
}

/// The decision about one restore point.
#[derive(Debug, Serialize)]
struct PointPlan {
    id: Uuid,
    consistent_at: DateTime<Utc>,
    stored_bytes: i64,
    /// `keep`, `expire` (with the next upkeep), or `expired` (waits for its removal).
    decision: &'static str,
    because: String,
    /// The latest time at which the promise that keeps it ends; null if that does not depend on time.
    expires_at: Option<DateTime<Utc>>,
    /// The reason that an operator gave for keeping it.
    kept_reason: Option<String>,
    /// Why the store refused to remove it.
    refused_because: Option<String>,
}

/// The decisions about one resource.
#[derive(Debug, Serialize)]
struct Summary {
    resource: String,
    tier: String,
    status: ResourceStatus,
    kept: usize,
    to_expire: usize,
    awaiting_removal: usize,
    stored_bytes: i64,
    /// When the next of its points expires.
    next_expires_at: Option<DateTime<Utc>>,
}

/// What the decisions are based on.
struct Judge<'a> {
    catalog: &'a Catalog,
    plans: &'a Plans,
    grace: TimeDelta,
    now: DateTime<Utc>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    let Command::Plan {
        of,
        plans,
        retention,
    } = command;
    let file = PlansFile::load(&plans.plans);
    if let Some(fault) = file.fault() {
        output.note(&format!("{fault}\nthe built-in plans are shown instead"));
    }
    if file.source() == Source::BuiltIn {
        output.note("while the built-in plans are in force, nothing expires");
    }
    let catalog = super::catalog().await?;
    let judge = Judge {
        now: catalog.now().await?,
        catalog: &catalog,
        plans: file.plans(),
        grace: retention.grace(),
    };
    match of.resource() {
        Some(id) => {
            let retained = catalog.retained(id.as_str()).await?;
            output.show(&judge.points(&retained).await?, |points| {
                point_table(points)
            })?;
        }
        None => output.show(&judge.all().await?, |all| summary_table(all))?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Judge<'_> {
    async fn points(&self, retained: &Retained) -> anyhow::Result<Vec<PointPlan>> {
        let policy = retained.policy(self.plans, self.grace, self.now)?;
        let fates = self.catalog.points_with_fate(&retained.id).await?;
        let points: Vec<_> = fates.iter().map(|fate| fate.point.clone()).collect();
        let verdicts = decide(&points, &policy, self.now);
        let plans = fates.into_iter().zip(verdicts);
        Ok(plans
            .map(|(fate, verdict)| plan(fate, &verdict.decision))
            .collect())
    }

    async fn all(&self) -> anyhow::Result<Vec<Summary>> {
        let mut summaries: Vec<Summary> = Vec::new();
        loop {
            let last = summaries.last().map(|summary| summary.resource.as_str());
            let page = self.catalog.retained_after(last, 100).await?;
            if page.is_empty() {
                return Ok(summaries);
            }
            for retained in page {
                let points = self.points(&retained).await?;
                summaries.push(summary(retained, &points));
            }
        }
    }
}

fn plan(fate: Fate, decision: &Decision) -> PointPlan {
    let (word, expires_at) = match decision {
        Decision::Keep(kept) => ("keep", kept.until()),
        Decision::Expire(Expired::Already) => ("expired", fate.point.expired_at),
        Decision::Expire(_) => ("expire", None),
    };
    PointPlan {
        id: fate.point.id,
        consistent_at: fate.point.consistent_at,
        stored_bytes: fate.stored_bytes,
        decision: word,
        because: match (decision, &fate.expired_because) {
            (Decision::Expire(Expired::Already), Some(because)) => because.clone(),
            _ => decision.to_string(),
        },
        expires_at,
        kept_reason: fate.kept_because,
        refused_because: fate.refused_because,
    }
}

fn summary(retained: Retained, points: &[PointPlan]) -> Summary {
    let count = |word| points.iter().filter(|point| point.decision == word).count();
    let kept = points.iter().filter(|point| point.decision == "keep");
    Summary {
        resource: retained.id,
        tier: retained.tier,
        status: retained.status,
        kept: count("keep"),
        to_expire: count("expire"),
        awaiting_removal: count("expired"),
        stored_bytes: points.iter().map(|point| point.stored_bytes).sum(),
        next_expires_at: kept.filter_map(|point| point.expires_at).min(),
    }
}

fn point_table(points: &[PointPlan]) -> String {
    table(
        [
            "id",
            "consistent at",
            "stored",
            "decision",
            "expires",
            "why",
        ],
        points.iter().map(|point| {
            let mut why = point.because.clone();
            for (what, text) in [
                ("", &point.kept_reason),
                ("the store refuses: ", &point.refused_because),
            ] {
                if let Some(text) = text {
                    why = format!("{why}: {what}{}", printable(text));
                }
            }
            [
                point.id.to_string(),
                instant(point.consistent_at),
                bytes(point.stored_bytes),
                point.decision.to_owned(),
                instant_or_dash(point.expires_at),
                why,
            ]
        }),
    )
}

fn summary_table(summaries: &[Summary]) -> String {
    table(
        [
            "resource",
            "tier",
            "status",
            "kept",
            "to expire",
            "awaiting removal",
            "stored",
            "next expires",
        ],
        summaries.iter().map(|summary| {
            [
                summary.resource.clone(),
                summary.tier.clone(),
                summary.status.to_string(),
                summary.kept.to_string(),
                summary.to_expire.to_string(),
                summary.awaiting_removal.to_string(),
                bytes(summary.stored_bytes),
                instant_or_dash(summary.next_expires_at),
            ]
        }),
    )
}
