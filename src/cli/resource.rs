//! `lastgood resource add|set|list|show|pause|resume|remove|drop-replaced`.

mod options;
mod sealed;

use std::{io::Read as _, path::PathBuf};

use lastgood_jobs::{
    job::{DropReplaced, Job},
    resource::{Engine, ResourceId, ResourceOptions, TeamId, Tier},
};
use secrecy::SecretString;

use self::{
    options::OptionsArgs,
    sealed::{Known, known},
};
use super::output::{Output, instant_or_dash, table};
use crate::{
    catalog::{
        Catalog, NewResource, NewRun, Order, OwnRetention, ResourceChange, ResourceFilter,
        ResourceStatus, StoredConnection,
    },
    config::{self, PlansArgs},
    plan::PlansFile,
    request,
    secret::{self, Reference},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Register a database to protect
    Add(AddArgs),
    /// Change a resource's tier, retention or connection, e.g. after its password was rotated
    Set(SetArgs),
    /// List resources
    List {
        /// Only this team's
        #[arg(long)]
        team: Option<String>,
        /// Include removed ones
        #[arg(long)]
        removed: bool,
        /// At most this many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Show one resource
    Show {
        /// Its id
        id: ResourceId,
    },
    /// Suspend a resource's backups; waiting runs are cancelled
    Pause {
        /// Its id
        id: ResourceId,
    },
    /// Resume a resource's backups
    Resume {
        /// Its id
        id: ResourceId,
    },
    /// Stop protecting a resource permanently; its restore points stay until they expire
    Remove {
        /// Its id
        id: ResourceId,
    },
    /// Drop a database that a restore replaced and kept (`…__before_restore_…`)
    DropReplaced {
        /// The resource's id
        id: ResourceId,
        /// The kept database's whole name
        database: String,
    },
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("reached").required(true).args(["connection", "url_stdin", "url_file"])))]
pub(super) struct AddArgs {
    /// Its id, unique for all time
    id: ResourceId,
    /// The team that owns it
    #[arg(long)]
    team: TeamId,
    /// Its tier in plans.yaml
    #[arg(long)]
    tier: Tier,
    /// Its engine
    #[arg(long)]
    engine: Engine,
    /// Keep its restore points for this many days, whatever the tier says; 0 vetoes backups
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    retention_days: Option<i32>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    options: OptionsArgs,
    #[command(flatten)]
    plans: PlansArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    /// Its id
    id: ResourceId,
    /// Its tier in the plans
    #[arg(long)]
    tier: Option<Tier>,
    /// Keep its restore points for this many days, whatever the tier says; 0 vetoes backups
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    retention_days: Option<i32>,
    #[command(flatten)]
    connection: Option<ConnectionArgs>,
    #[command(flatten)]
    options: OptionsArgs,
    #[command(flatten)]
    plans: PlansArgs,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct ConnectionArgs {
    /// Where consumers find the URL: `env:NAME` or `file:/path`
    #[arg(long, value_name = "REFERENCE")]
    connection: Option<String>,
    /// Read the URL from standard input and keep it sealed
    #[arg(long)]
    url_stdin: bool,
    /// Read the URL from a file and keep it sealed
    #[arg(long, value_name = "PATH")]
    url_file: Option<PathBuf>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    match command {
        Command::Add(args) => add(args, output).await,
        Command::Set(args) => change(args, output).await,
        Command::List {
            team,
            removed,
            limit,
        } => {
            let catalog = super::catalog().await?;
            let rows = catalog
                .resources(&ResourceFilter {
                    team,
                    with_removed: removed,
                    limit,
                    after: None,
                })
                .await?;
            output.show(&known(&catalog, rows).await?, |rows| list(rows))
        }
        Command::Show { id } => {
            let catalog = super::catalog().await?;
            let row = catalog.resource(id.as_str()).await?;
            let known = known(&catalog, vec![row]).await?;
            output.show(&known.first(), |known| {
                known.map_or_else(String::new, details)
            })
        }
        Command::Pause { id } => {
            set(
                &id,
                ResourceStatus::Paused,
                "paused: it is not backed up until `lastgood resource resume`",
                output,
            )
            .await
        }
        Command::Resume { id } => {
            set(
                &id,
                ResourceStatus::Active,
                "active: the producer's next tick looks at it",
                output,
            )
            .await
        }
        Command::Remove { id } => {
            set(
                &id,
                ResourceStatus::Removed,
                "removed: its restore points stay",
                output,
            )
            .await
        }
        Command::DropReplaced { id, database } => {
            let catalog = super::catalog().await?;
            let row = catalog.resource(id.as_str()).await?;
            let job = Job::DropReplaced(DropReplaced { database });
            let new = NewRun {
                resource_id: id.as_str(),
                queue: &row.engine,
                job: &job,
                idempotency_key: None,
                asked: None,
            };
            let run = catalog
                .enqueue(&new, &Order::of_this_user(None))
                .await?
                .id();
            output.show(&serde_json::json!({ "run": run }), |_| {
                format!("run {run} enqueued: see `lastgood run show {run}`")
            })
        }
    }
}

async fn add(args: AddArgs, output: &Output) -> anyhow::Result<()> {
    let options = args
        .options
        .apply(args.engine, ResourceOptions::default())?;
    let catalog = super::catalog().await?;
    let connection = connection(&args.connection, &args.id, args.engine, &catalog).await?;
    let plans = PlansFile::load(args.plans.plans);
    let new = NewResource {
        id: args.id,
        team: args.team,
        tier: args.tier,
        engine: args.engine.to_string(),
        retention_days: args.retention_days,
        connection,
        options,
    };
    catalog
        .register_resource(&new, &Order::of_this_user(None))
        .await?;
    let promise = request::promise(plans.plans(), &new.tier, new.retention_days).to_string();
    let answer = serde_json::json!({ "added": new.id, "promise": promise });
    output.show(&answer, |_| format!("added {}: {promise}", new.id))
}

async fn change(args: SetArgs, output: &Output) -> anyhow::Result<()> {
    let nothing = args.tier.is_none()
        && args.retention_days.is_none()
        && args.connection.is_none()
        && !args.options.is_given();
    anyhow::ensure!(
        !nothing,
        "say what to change: --tier, --retention-days, a connection, or an option of its engine"
    );
    let plans = PlansFile::load(args.plans.plans);
    let catalog = super::catalog().await?;
    let before = catalog.resource(args.id.as_str()).await?;
    let engine = before.engine.parse()?;
    let options = if args.options.is_given() {
        Some(
            args.options
                .apply(engine, request::stored_options(&before)?)?,
        )
    } else {
        None
    };
    let connection = match &args.connection {
        Some(given) => Some(connection(given, &args.id, engine, &catalog).await?),
        None => None,
    };
    let change = ResourceChange {
        tier: args.tier,
        retention: args
            .retention_days
            .map_or(OwnRetention::Same, OwnRetention::Days),
        connection,
        options,
    };
    catalog
        .alter_resource(args.id.as_str(), &change, None, &Order::of_this_user(None))
        .await?;
    let after = catalog.resource(args.id.as_str()).await?;
    let promise =
        request::promise(plans.plans(), &after.tier.parse()?, after.retention_days).to_string();
    let answer = serde_json::json!({ "changed": args.id, "promise": promise });
    output.show(&answer, |_| format!("changed {}: {promise}", args.id))
}

/// Returns the connection to store. A URL goes straight from its source to the seal, through no argument, log or error.
async fn connection(
    given: &ConnectionArgs,
    id: &ResourceId,
    engine: Engine,
    catalog: &Catalog,
) -> anyhow::Result<StoredConnection> {
    if let Some(reference) = &given.connection {
        let reference = reference.parse::<Reference>()?;
        return Ok(StoredConnection::Reference(reference.to_string()));
    }
    let url = match &given.url_file {
        Some(path) => secret::read_secret_file(&path.to_string_lossy())?,
        None => read_stdin()?,
    };
    Ok(request::seal(catalog, config::master_keys()?.as_ref(), id, engine, &url).await?)
}

fn read_stdin() -> anyhow::Result<SecretString> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(64 * 1024 + 1)
        .read_to_end(&mut bytes)?;
    Ok(secret::secret(bytes, "standard input")?)
}

async fn set(
    id: &ResourceId,
    status: ResourceStatus,
    text: &str,
    output: &Output,
) -> anyhow::Result<()> {
    let (nothing_else, order) = (ResourceChange::default(), Order::of_this_user(None));
    let catalog = super::catalog().await?;
    match status {
        ResourceStatus::Removed => catalog.remove_resource(id.as_str(), &order).await?,
        ResourceStatus::Active | ResourceStatus::Paused => {
            let change = catalog.alter_resource(id.as_str(), &nothing_else, Some(status), &order);
            change.await?;
        }
    }
    output.show(
        &serde_json::json!({ "id": id, "status": status.as_str() }),
        |_| format!("{id} is {text}"),
    )
}

fn list(rows: &[Known]) -> String {
    let lost = rows.iter().filter_map(|it| {
        let why = it.lost()?;
        Some(format!(
            "DOES NOT OPEN: the URL of {} was {why}\n",
            it.row.id
        ))
    });
    let lost: String = lost.collect();
    resources(rows) + &lost
}

fn resources(rows: &[Known]) -> String {
    table(
        [
            "id",
            "team",
            "tier",
            "engine",
            "status",
            "newest restore point",
            "next due",
        ],
        rows.iter().map(|Known { row, .. }| {
            [
                row.id.clone(),
                row.team.clone(),
                row.tier.clone(),
                row.engine.clone(),
                row.status.to_string(),
                instant_or_dash(row.newest_consistent_at),
                instant_or_dash(row.next_due_at),
            ]
        }),
    )
}

fn details(known: &Known) -> String {
    let row = &known.row;
    let connection = match (&row.connection_ref, row.is_sealed) {
        (Some(reference), _) => reference.clone(),
        (None, true) => known
            .lost()
            .unwrap_or_else(|| "sealed in the catalog".to_owned()),
        (None, false) => {
            "none: give it one with `lastgood resource set`, then resume it".to_owned()
        }
    };
    let cadence = row.cadence_minutes.map_or_else(
        || "not backed up, or not looked at yet".to_owned(),
        |minutes| format!("every {minutes} minutes"),
    );
    format!(
        "{id}\n  team        {team}\n  tier        {tier}\n  engine      {engine}\n  status      {status}\n  connection  {connection}\n  \
         options     {options}\n  cadence     {cadence}\n  newest      {newest}\n  next due    {next}\n  failures    {failures} in a row\n  registered  {created}",
        id = row.id,
        team = row.team,
        tier = row.tier,
        engine = row.engine,
        status = row.status,
        options = row.options,
        newest = instant_or_dash(row.newest_consistent_at),
        next = instant_or_dash(row.next_due_at),
        failures = row.failures_in_a_row,
        created = instant_or_dash(Some(row.created_at)),
    )
}
