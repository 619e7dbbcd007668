//! `lastgood audit`: who took actions that cannot be undone, or that let data out.

use chrono::{DateTime, Utc};
use lastgood_jobs::resource::ResourceId;

use super::output::{Output, instant, table};
use crate::{catalog::AuditFilter, nouns::AuditEntry};

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
    let entries: Vec<AuditEntry> = super::catalog().await?.audited(&filter).await?;
    output.show(&entries, |entries| text(entries))
}

fn text(entries: &[AuditEntry]) -> String {
    table(
        ["at", "who", "what", "resource", "restore point", "detail"],
        entries.iter().map(|entry| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            [
                instant(entry.recorded_at),
                entry.by.clone(),
                entry.action.clone(),
                or_dash(entry.resource.clone()),
                or_dash(entry.point.map(|id| id.to_string())),
                entry.detail.to_string(),
            ]
        }),
    )
}
