//! `lastgood audit`: who took actions that cannot be undone, or that let data out.

use chrono::{DateTime, Utc};
use lastgood_jobs::resource::ResourceId;

use super::output::{Output, instant, table};
use crate::catalog::{AuditFilter, AuditRow};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: super::OneResource,
    /// Nothing older than this: a time, e.g. 2026-11-23T04:00:00Z, or how long ago, e.g. 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<DateTime<Utc>>,
    /// Show at most this many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
    limit: i64,
}

/// Parses a time, or how long ago it was.
pub(super) fn since(text: &str) -> Result<DateTime<Utc>, String> {
    let at = text.parse().ok();
    let ago = || {
        let ago = humantime::parse_duration(text).ok()?;
        Utc::now().checked_sub_signed(chrono::TimeDelta::from_std(ago).ok()?)
    };
    at.or_else(ago).ok_or_else(|| {
        "give a time with its zone, e.g. 2026-11-23T04:00:00Z, or how long ago, e.g. 7d".to_owned()
    })
}

pub(super) async fn run(args: &Args, output: &Output) -> anyhow::Result<()> {
    let filter = AuditFilter {
        resource_id: args.of.resource().map(ResourceId::as_str),
        since: args.since,
        limit: args.limit,
    };
    let acts = super::catalog().await?.audited(&filter).await?;
    output.show(&acts, |acts| text(acts))
}

fn text(acts: &[AuditRow]) -> String {
    table(
        ["at", "who", "what", "resource", "restore point", "detail"],
        acts.iter().map(|act| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            [
                instant(act.at),
                act.actor.clone(),
                act.action.clone(),
                or_dash(act.resource_id.clone()),
                or_dash(act.point_id.map(|id| id.to_string())),
                act.detail.to_string(),
            ]
        }),
    )
}
