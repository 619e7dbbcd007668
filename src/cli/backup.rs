//! `lastgood backup now|list|show|download|url|pin|unpin|hold|release|confirm`.

mod custody;
mod download;
mod url;

use std::process::ExitCode;

use lastgood_jobs::{job::Job, resource::ResourceId};
use serde::Serialize;
use uuid::Uuid;

use self::custody::{KeepArgs, NoMoreArgs};
use super::{
    output::{Output, bytes, instant, printable, table},
    wait::wait,
};
use crate::{
    catalog::{Catalog, Custody, Enqueued, NewRun, Order, PointRow, ResourceStatus},
    standing::Standing,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a restore point now, outside the schedule
    Now {
        /// The resource
        resource: ResourceId,
        /// Wait for its end; exit code 1 if it fails
        #[arg(long)]
        wait: bool,
        /// A repeated request with the same key is the same request
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// List restore points, newest first
    List {
        /// Only this resource's
        resource: Option<ResourceId>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Bring a restore point's archive to a file, as it is stored; recorded in the audit log
    Download(download::Args),
    /// Print an address from which the archive can be fetched for a while, where the store can; recorded in the audit log
    Url(url::Args),
    /// Show a restore point's manifest
    Show {
        /// Its id
        id: Uuid,
    },
    /// Keep a restore point, whatever was promised
    Pin(KeepArgs),
    /// Let a pinned restore point expire as was promised
    Unpin(NoMoreArgs),
    /// Put a restore point on legal hold: kept, whatever was promised, pinned or not
    Hold(KeepArgs),
    /// Trust a suspect restore point: somebody looked, and it is right. Recorded in the audit log
    Confirm(KeepArgs),
    /// End a restore point's legal hold
    Release(NoMoreArgs),
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = if matches!(command, Command::List { .. }) {
        super::catalog_or("lastgood point list --from STORE").await?
    } else {
        super::catalog().await?
    };
    match command {
        Command::Now {
            resource,
            wait: waits,
            idempotency_key,
        } => {
            let row = catalog.resource(resource.as_str()).await?;
            anyhow::ensure!(
                row.status != ResourceStatus::Removed,
                "{resource} was removed: it cannot be backed up"
            );
            let new = NewRun {
                resource_id: resource.as_str(),
                queue: &row.engine,
                job: &Job::Backup {},
                idempotency_key: idempotency_key.as_deref(),
                asked: None,
            };
            let enqueued = catalog
                .enqueue_by(&new, Some(&Order::of_this_user(None)))
                .await?;
            let run = enqueued.id();
            if waits {
                return wait(&catalog, run, output).await;
            }
            let duplicate = matches!(enqueued, Enqueued::Duplicate(_));
            output.show(
                &serde_json::json!({ "run": run, "duplicate": duplicate }),
                |_| {
                    let what = if duplicate {
                        "was enqueued by an earlier request with this key"
                    } else {
                        "enqueued"
                    };
                    format!("run {run} {what}: see `lastgood run show {run}`")
                },
            )?;
        }
        Command::List { resource, limit } => {
            let points = catalog
                .points(resource.as_ref().map(ResourceId::as_str), limit)
                .await?;
            let points = placed(&catalog, points).await?;
            output.show(&points, |points| list(points))?;
        }
        Command::Confirm(args) => custody::confirm(&catalog, &args, output).await?,
        Command::Pin(args) => custody::keep(&catalog, Custody::Pin, &args, output).await?,
        Command::Hold(args) => custody::keep(&catalog, Custody::Hold, &args, output).await?,
        Command::Unpin(args) => {
            custody::keep_no_more(&catalog, Custody::Pin, &args, output).await?;
        }
        Command::Release(args) => {
            custody::keep_no_more(&catalog, Custody::Hold, &args, output).await?;
        }
        Command::Download(args) => download::run(&catalog, &args, output).await?,
        Command::Url(args) => url::run(&catalog, &args, output).await?,
        Command::Show { id } => {
            let points = placed(&catalog, vec![catalog.point(id).await?]).await?;
            for Placed { stores, .. } in &points {
                output.note(&format!("in the stores: {}", stores.join(", ")));
            }
            for Placed { point, .. } in &points {
                if let (Some(_), Some(because)) = (point.suspected_at, &point.suspected_because) {
                    output.note(&format!("SUSPECT: {}", printable(because)));
                }
            }
            if let Some(point) = points.first() {
                output.show(point, |Placed { point, .. }| {
                    serde_json::to_string_pretty(&point.manifest).unwrap_or_default()
                })?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A restore point and the stores that have it.
#[derive(Serialize)]
struct Placed {
    #[serde(flatten)]
    point: PointRow,
    stores: Vec<String>,
}

async fn placed(catalog: &Catalog, points: Vec<PointRow>) -> anyhow::Result<Vec<Placed>> {
    let ids: Vec<Uuid> = points.iter().map(|point| point.id).collect();
    let mut stores = catalog.stores_of(&ids).await?;
    let placed = points.into_iter().map(|point| Placed {
        stores: stores.remove(&point.id).unwrap_or_default(),
        point,
    });
    Ok(placed.collect())
}

fn list(points: &[Placed]) -> String {
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
        points.iter().map(|Placed { point, stores }| {
            [
                point.id.to_string(),
                point.resource_id.clone(),
                instant(point.consistent_at),
                bytes(point.dump_bytes),
                bytes(point.stored_bytes),
                state(point),
                stores.join(", "),
            ]
        }),
    )
}

/// Returns what to expect of a restore from the point.
fn state(point: &PointRow) -> String {
    let kept = [(point.held_at, ", held"), (point.pinned_at, ", pinned")];
    let kept = kept
        .into_iter()
        .filter(|(at, _)| at.is_some())
        .map(|(_, word)| word);
    std::iter::once(proof(point))
        .chain(kept.map(str::to_owned))
        .collect()
}

fn proof(point: &PointRow) -> String {
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
