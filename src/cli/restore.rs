//! `lastgood restore RESOURCE`.

mod from_manifest;
mod target;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use lastgood_jobs::{
    job::{Job, Restore},
    resource::ResourceId,
};
use uuid::Uuid;

use super::{
    output::{Output, instant, printable},
    wait::wait,
};
use crate::{
    catalog::{Catalog, NewRun, PointRow},
    config::{StorageArgs, ToolsArgs},
};

#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Args {
    /// The resource
    #[arg(required_unless_present = "from_manifest")]
    resource: Option<ResourceId>,
    /// Without a catalog and a consumer: restore the point whose manifest has this key in --storage, in this process. Needs
    /// --into `env:NAME` or `file:/path`
    #[arg(
        long,
        value_name = "KEY",
        requires = "into",
        conflicts_with_all = ["resource", "at", "point", "in_place", "idempotency_key", "wait"]
    )]
    from_manifest: Option<String>,
    /// Restore the newest point that is not younger than this instant, e.g. 2026-11-23T04:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "point", value_parser = parse_time)]
    at: Option<DateTime<Utc>>,
    /// Restore this point; default: the newest usable one
    #[arg(long, value_name = "ID")]
    point: Option<Uuid>,
    /// Try --point although it was found damaged: the archive's hash is verified all the same, before anything is changed
    #[arg(long, requires = "point")]
    even_quarantined: bool,
    /// Restore into an empty database: its name on the resource's server, or `env:NAME` or `file:/path` of its URL (Redis: the
    /// URL of an empty server). Default: PostgreSQL: a fresh database that swaps names with the resource's own, which is kept;
    /// MongoDB and Redis: the resource's own, which must be empty
    #[arg(long, value_name = "DATABASE")]
    into: Option<String>,
    /// Restore into the resource's own database, over what is there; needs --overwrite. PostgreSQL: in one transaction.
    /// MongoDB: replaces the backup's collections, leaves others. Redis: keys that the backup does not have are removed
    #[arg(long, conflicts_with = "into", requires = "overwrite")]
    in_place: bool,
    /// Repeat the resource's id, to allow --in-place
    #[arg(long, value_name = "RESOURCE_ID", requires = "in_place")]
    overwrite: Option<ResourceId>,
    /// Redis: with --in-place, keep the keys that the backup does not have
    #[arg(long, requires = "in_place")]
    merge: bool,
    /// PostgreSQL: leave owners out: everything belongs to the connecting role
    #[arg(long)]
    no_owner: bool,
    /// PostgreSQL: leave grants out
    #[arg(long)]
    no_acl: bool,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    tools: ToolsArgs,
    /// With --from-manifest: a file with the identity of age that opens the archive, or with the recovery identity, which opens
    /// the escrow of the archive's key in the same store
    #[arg(long, value_name = "FILE", requires = "from_manifest")]
    identity: Option<PathBuf>,
    /// With --from-manifest: where private files (password files, for the length of the restore) are kept
    #[arg(long, env = "LASTGOOD_WORK_DIR")]
    work_dir: Option<PathBuf>,
    /// A repeated request with the same key is the same request
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait for its end; exit code 1 if it fails
    #[arg(long)]
    wait: bool,
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|_| "give a time with its zone, e.g. 2026-11-23T04:00:00Z".to_owned())
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<ExitCode> {
    if let Some(key) = &args.from_manifest {
        return from_manifest::run(key, &args, output).await;
    }
    let resource = args.resource.as_ref().context("name the resource")?;
    let catalog = super::catalog().await?;
    let (run, point) = enqueue(&catalog, resource, &args).await?;
    output.note(&format!(
        "restoring {resource} to {} (restore point {})",
        instant(point.consistent_at),
        point.id
    ));
    if args.wait {
        return wait(&catalog, run, output).await;
    }
    output.show(
        &serde_json::json!({ "run": run, "point": point.id, "consistent_at": point.consistent_at }),
        |_| format!("run {run} enqueued: see `lastgood run show {run}`"),
    )?;
    Ok(ExitCode::SUCCESS)
}

async fn enqueue(
    catalog: &Catalog,
    resource: &ResourceId,
    args: &Args,
) -> anyhow::Result<(Uuid, PointRow)> {
    let row = catalog.resource(resource.as_str()).await?;
    let target = target::target(args, resource, row.engine.parse()?)?;
    let point = match repeated(catalog, resource, args).await? {
        Some(first) => catalog.point(first).await?,
        None => point(catalog, resource, args).await?,
    };
    let job = Job::Restore(Restore {
        point: point.id,
        target,
        no_owner: args.no_owner,
        no_acl: args.no_acl,
    });
    let new = NewRun {
        resource_id: &row.id,
        queue: &row.engine,
        job: &job,
        idempotency_key: args.idempotency_key.as_deref(),
    };
    Ok((catalog.enqueue(&new).await?.id(), point))
}

/// Returns the point that the first request with this key chose: "the newest" may be another one by now.
async fn repeated(
    catalog: &Catalog,
    resource: &ResourceId,
    args: &Args,
) -> anyhow::Result<Option<Uuid>> {
    let Some(key) = args
        .idempotency_key
        .as_deref()
        .filter(|_| args.point.is_none())
    else {
        return Ok(None);
    };
    let first = catalog.run_with_key(resource.as_str(), key).await?;
    Ok(
        first.and_then(|(_, asked)| match serde_json::from_value(asked) {
            Ok(Job::Restore(restore)) => Some(restore.point),
            Ok(
                Job::Backup {}
                | Job::DropReplaced(_)
                | Job::Copy(_)
                | Job::Verify(_)
                | Job::Expire(_),
            )
            | Err(_) => None,
        }),
    )
}

async fn point(catalog: &Catalog, resource: &ResourceId, args: &Args) -> anyhow::Result<PointRow> {
    if let Some(id) = args.point {
        let point = catalog.point(id).await?;
        anyhow::ensure!(
            point.resource_id == resource.as_str(),
            "restore point {id} is of {}, not of {}: see `lastgood backup list {}`",
            point.resource_id,
            resource,
            resource
        );
        anyhow::ensure!(
            point.expired_at.is_none(),
            "restore point {id} has expired and is being removed: see `lastgood backup list {resource}`"
        );
        anyhow::ensure!(
            point.quarantined_at.is_none() || args.even_quarantined,
            "restore point {id} was found damaged ({}): take another, see `lastgood backup list {}`; if the store has been \
             mended, `lastgood verify --point {id}` acquits it, or --even-quarantined tries it",
            printable(point.quarantined_because.as_deref().unwrap_or("no reason")),
            resource
        );
        return Ok(point);
    }
    let found = catalog.newest_point(resource.as_str(), args.at).await?;
    let found = found.ok_or_else(|| match args.at {
        Some(at) => anyhow::anyhow!(
            "{} has no restore point at or before {}: see `lastgood backup list {}`",
            resource,
            instant(at),
            resource
        ),
        None => anyhow::anyhow!(
            "{resource} has no usable restore point: it was never backed up, or see `lastgood backup list {resource}`"
        ),
    })?;
    has_its_key(catalog, resource, args.at, &found).await?;
    Ok(found)
}

/// A point whose key nobody has cannot be restored from, and an older one is not taken in its place unasked: it is named.
async fn has_its_key(
    catalog: &Catalog,
    resource: &ResourceId,
    at: Option<DateTime<Utc>>,
    newest: &PointRow,
) -> anyhow::Result<()> {
    let opens = catalog.newest_that_opens(resource.as_str(), at).await?;
    if opens.is_some_and(|opens| opens >= newest.consistent_at) {
        return Ok(());
    }
    let older = match opens {
        Some(at) => format!(
            "or take the newest that opens: `--at {}`",
            at.to_rfc3339_opts(SecondsFormat::Micros, true)
        ),
        None => format!("no restore point of {resource} opens without it"),
    };
    anyhow::bail!(
        "the newest restore point of {resource}, of {}, is encrypted to a key that is not on record here, or was shredded: \
         `lastgood key recover` brings keys back from their escrows; {older}",
        instant(newest.consistent_at)
    )
}
