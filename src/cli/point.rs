//! `lastgood point list|show|download|url|pin|unpin|hold|release|confirm`.

mod custody;
mod download;
mod in_store;
mod url;

use std::{path::PathBuf, process::ExitCode};

use chrono::{DateTime, TimeDelta, Utc};
use lastgood_jobs::resource::{ResourceId, TeamId};
use uuid::Uuid;

use self::custody::{KeepArgs, NoMoreArgs};
use super::{
    output::{Output, bytes, instant, printable, table},
    restore::parse_time,
};
use crate::{
    catalog::{Catalog, Custody, PointFilter},
    nouns::Point,
    standing::Standing,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List restore points, newest first: those of the catalog, or with --from those that a store has manifests of
    List(ListArgs),
    /// Show a restore point's manifest
    Show {
        /// Its id
        id: Uuid,
    },
    /// Download a restore point's archive to a file, as it is stored; recorded in the audit log
    Download(download::Args),
    /// Print an address from which the archive can be fetched for a while, if the store is a bucket; recorded in the audit log
    Url(url::Args),
    /// Keep a restore point, whatever its retention says
    Pin(KeepArgs),
    /// Let a pinned restore point expire as its retention says
    Unpin(NoMoreArgs),
    /// Put a restore point on legal hold: it is kept, whatever its retention says, pinned or not
    Hold(KeepArgs),
    /// End a restore point's legal hold
    Release(NoMoreArgs),
    /// Trust a suspect restore point that somebody has checked; recorded in the audit log
    Confirm(KeepArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    of: super::OneResource,
    /// Only this team's
    #[arg(long)]
    team: Option<TeamId>,
    /// Only those at or before this instant, e.g. 2026-11-23T04:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<DateTime<Utc>>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// List from this store's manifests alone: a directory, its URL, or its name in the stores file. Needs no catalog, and so cannot
    /// show what only a catalog knows: which points were confirmed, pinned, verified or found damaged, and how long each is kept
    #[arg(long, value_name = "STORE")]
    from: Option<String>,
    /// With --from: the stores file, if STORE is a name or an address in it
    #[arg(long, env = "LASTGOOD_STORES", value_name = "FILE")]
    stores: Option<PathBuf>,
    /// With --from: only those that this installation made
    #[arg(long, value_name = "ID", requires = "from")]
    installation: Option<Uuid>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => return list(args, output).await,
        Command::Show { id } => show(&super::catalog().await?, id, output).await?,
        Command::Download(args) => download::run(&super::catalog().await?, &args, output).await?,
        Command::Url(args) => url::run(&super::catalog().await?, &args, output).await?,
        Command::Pin(args) => custody::keep(Custody::Pin, &args, output).await?,
        Command::Unpin(args) => custody::keep_no_more(Custody::Pin, &args, output).await?,
        Command::Hold(args) => custody::keep(Custody::Hold, &args, output).await?,
        Command::Release(args) => custody::keep_no_more(Custody::Hold, &args, output).await?,
        Command::Confirm(args) => custody::confirm(&args, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists restore points, from the catalog or from a store.
pub(super) async fn list(args: ListArgs, output: &Output) -> anyhow::Result<ExitCode> {
    if let Some(store) = &args.from {
        return in_store::list(store, &args, output).await;
    }
    let catalog = super::catalog_or("lastgood point list --from STORE").await?;
    let filter = PointFilter {
        resource_id: args.of.resource().map(ResourceId::to_string),
        team: args.team.map(|team| team.to_string()),
        before: args.at.map(|at| at + TimeDelta::microseconds(1)),
        limit: i64::from(args.limit),
    };
    let points = catalog.with_stores(catalog.points(&filter).await?).await?;
    output.show(&points, |points| listed(points))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(catalog: &Catalog, id: Uuid, output: &Output) -> anyhow::Result<()> {
    let shown = catalog.shown_point(id).await?;
    let point = &shown.point;
    output.note(&format!("in the stores: {}", point.stores.join(", ")));
    if let (Some(_), Some(because)) = (point.suspected_at, &point.suspected_because) {
        output.note(&format!("SUSPECT: {}", printable(because)));
    }
    output.show(&shown, |shown| {
        serde_json::to_string_pretty(&shown.manifest).unwrap_or_default()
    })
}

fn listed(points: &[Point]) -> String {
    table(
        [
            "id",
            "resource",
            "consistent at",
            "dump",
            "stored",
            "state",
            "stores",
        ],
        points.iter().map(|point| {
            [
                point.id.to_string(),
                point.resource.clone(),
                instant(point.consistent_at),
                bytes(point.dump_bytes),
                bytes(point.stored_bytes),
                state(point),
                point.stores.join(", "),
            ]
        }),
    )
}

/// Returns what to expect of a restore from the point.
fn state(point: &Point) -> String {
    let kept = [(point.held_at, ", held"), (point.pinned_at, ", pinned")];
    let kept = kept
        .into_iter()
        .filter(|(at, _)| at.is_some())
        .map(|(_, word)| word);
    std::iter::once(proof(point))
        .chain(kept.map(str::to_owned))
        .collect()
}

fn proof(point: &Point) -> String {
    // Of a damaged point, the damage matters more than that it has expired.
    if point.quarantined_at.is_some() {
        return "QUARANTINED".to_owned();
    }
    match (point.standing(), point.verified_at) {
        (Standing::Quarantined, _) => "QUARANTINED".to_owned(),
        (Standing::Expired, _) => "expired".to_owned(),
        (Standing::Suspect, _) => {
            let reasons = point.suspected_of.as_deref().unwrap_or_default().join(", ");
            format!("SUSPECT ({reasons})")
        }
        (Standing::Trusted, Some(at)) => format!("verified {}", instant(at)),
        (Standing::Trusted, None) => "stored".to_owned(),
    }
}
