//! `lastgood restore RESOURCE`.

mod from_manifest;
mod from_store;
mod identity;
mod in_process;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::parser::ValueSource;
use lastgood_jobs::resource::{ResourceId, TeamId};
use uuid::Uuid;

use super::{
    output::{Output, instant_or_dash},
    read_back,
    run::details,
    wait::{exit_code, wait},
};
use crate::{
    catalog::Order,
    config::{StorageArgs, ToolsArgs},
    nouns::{ProblemKind, Restoring, Told},
    request::{RestoreRequest, RestoreWhere, restore},
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
    /// Without a catalog and a consumer: restore from this store (a directory, its URL, or its name in the stores file), in this
    /// process. Takes the newest point that is complete and not suspect. Needs --into `env:NAME` or `file:/path`
    #[arg(
        long,
        value_name = "STORE",
        group = "without_catalog",
        requires = "into",
        conflicts_with_all = ["even_quarantined", "in_place", "overwrite", "merge", "idempotency_key", "wait"]
    )]
    from: Option<String>,
    /// The same, from the point that has this manifest in --storage: its key (v1/…), its address (s3://…) or its path. Needs
    /// --into `env:NAME` or `file:/path`
    #[arg(
        long,
        value_name = "KEY",
        group = "without_catalog",
        requires = "into",
        conflicts_with_all = [
            "resource", "team", "installation", "at", "point", "even_quarantined", "in_place", "overwrite", "merge",
            "idempotency_key", "wait"
        ]
    )]
    from_manifest: Option<String>,
    /// With --from: the team, if several have a resource with this id
    #[arg(long, requires = "from")]
    team: Option<TeamId>,
    /// With --from: the installation, if several made points of this resource
    #[arg(long, value_name = "ID", requires = "from")]
    installation: Option<Uuid>,
    /// Restore the newest point at or before this instant, e.g. 2026-11-23T04:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "point", value_parser = parse_time)]
    at: Option<DateTime<Utc>>,
    /// Restore this point; default: the newest one that can be trusted
    #[arg(long, value_name = "ID")]
    point: Option<Uuid>,
    /// Try --point although it was found damaged: the archive's hash is still verified before anything is changed
    #[arg(long, requires = "point")]
    even_quarantined: bool,
    /// Restore from --point (or --from-manifest) although it is suspect: it was probably not made from the customer's data
    #[arg(long)]
    even_suspect: bool,
    /// Restore into an empty database: its name on the resource's server, or `env:NAME` or `file:/path` of its URL (Redis: the
    /// URL of an empty server). Default: PostgreSQL: a fresh database that swaps names with the resource's own, which is kept;
    /// MongoDB and Redis: the resource's own, which must be empty
    #[arg(long, value_name = "DATABASE")]
    into: Option<String>,
    /// Restore into the resource's own database, over what is there; needs --overwrite. PostgreSQL: in one transaction.
    /// MongoDB: replaces the backup's collections and leaves others as they are. Redis: removes keys that are not in the backup
    #[arg(long, conflicts_with = "into", requires = "overwrite")]
    in_place: bool,
    /// Repeat the resource's id, to confirm --in-place
    #[arg(long, value_name = "RESOURCE_ID", requires = "in_place")]
    overwrite: Option<ResourceId>,
    /// Redis: with --in-place, keep keys that are not in the backup
    #[arg(long, requires = "in_place")]
    merge: bool,
    /// PostgreSQL: leave owners out: everything belongs to the connecting role
    #[arg(long)]
    no_owner: bool,
    /// PostgreSQL: leave grants out
    #[arg(long)]
    no_acl: bool,
    /// PostgreSQL: restore although the URL's role is a superuser. Functions behind the database's constraints, indexes and
    /// triggers run as that role: use this only if you trust everybody who could write to the database
    #[arg(long)]
    as_superuser: bool,
    /// PostgreSQL: leave tablespaces out: everything goes into the database's own
    #[arg(long)]
    no_tablespaces: bool,
    /// PostgreSQL: swap in the fresh database although replication slots or subscriptions stay behind in the old one
    #[arg(long, conflicts_with_all = ["into", "in_place"])]
    break_replication: bool,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    tools: ToolsArgs,
    /// Without a catalog: a file with the age identity that opens the archive, or with the recovery identity, which opens the
    /// escrow of the archive's key in the same store
    #[arg(long, value_name = "FILE", requires = "without_catalog")]
    identity: Option<PathBuf>,
    /// Without a catalog: accept an archive that is not encrypted although its team's others are
    #[arg(long, requires = "without_catalog")]
    allow_unencrypted: bool,
    /// Without a catalog: where private files (password files, for the length of the restore) are kept
    #[arg(long, env = "LASTGOOD_WORK_DIR")]
    work_dir: Option<PathBuf>,
    /// Treat repeated requests with the same key as one request
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait for the run to end; exit code 1 if it fails
    #[arg(long)]
    wait: bool,
}

pub(super) fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|_| "give a time with its zone, e.g. 2026-11-23T04:00:00Z".to_owned())
}

/// Returns why a flag in `given` makes no sense together with the others, if so. Environment variables do not count: they are set for
/// every command.
pub(super) fn meaningless(given: &clap::ArgMatches) -> Option<&'static str> {
    let is_given = |flag| given.value_source(flag) == Some(ValueSource::CommandLine);
    (is_given("from") && is_given("storage"))
        .then_some("--storage cannot be used with --from, which names the store")
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<ExitCode> {
    if let Some(key) = &args.from_manifest {
        return from_manifest::run(key, &args, output).await;
    }
    let resource = args.resource.as_ref().context("name the resource")?;
    anyhow::ensure!(
        !args.even_suspect || args.point.is_some(),
        Told::new(
            ProblemKind::NotAccepted,
            "--even-suspect needs --point: a suspect restore point is restored only by its id"
                .to_owned()
        )
    );
    if let Some(store) = &args.from {
        return from_store::run(store, resource, &args, output).await;
    }
    let instead = format!("lastgood restore --from STORE {resource} --into env:NAME");
    let catalog = super::catalog_or(&instead).await?;
    let row = catalog.resource(resource.as_str()).await?;
    let restoring = restore(&catalog, &row, &request(&args), &Order::of_this_user(None)).await?;
    let run = restoring.enqueued.id();
    output.note(&format!(
        "restoring {resource} to {} (restore point {})",
        instant_or_dash(restoring.consistent_at),
        restoring.point
    ));
    let answer = Restoring {
        run: if args.wait {
            wait(&catalog, run, output).await?
        } else {
            read_back(&catalog, run).await?
        },
        point: restoring.point,
        consistent_at: restoring.consistent_at,
    };
    if args.wait {
        output.show(&answer, |answer| details(&answer.run))?;
        return Ok(exit_code(&answer.run));
    }
    output.show(&answer, |_| {
        format!("run {run} enqueued: see `lastgood run show {run}`")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the request that the flags make.
fn request(args: &Args) -> RestoreRequest {
    RestoreRequest {
        at: args.at,
        point: args.point,
        even_quarantined: args.even_quarantined,
        even_suspect: args.even_suspect,
        to: match &args.into {
            _ if args.in_place => RestoreWhere::InPlace {
                overwrite: args.overwrite.clone(),
                merge: args.merge,
            },
            Some(into) => RestoreWhere::Into(into.clone()),
            None => RestoreWhere::Own,
        },
        no_owner: args.no_owner,
        no_acl: args.no_acl,
        as_superuser: args.as_superuser,
        no_tablespaces: args.no_tablespaces,
        break_replication: args.break_replication,
        of_owner: false,
        idempotency_key: args.idempotency_key.clone(),
    }
}
