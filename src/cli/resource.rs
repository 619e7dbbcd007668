//! `lastgood resource add|set|list|show|pause|resume|remove|drop-replaced`.

mod options;

use std::{io::Read as _, path::PathBuf};

use lastgood_jobs::{
    job::{DropReplaced, Job},
    resource::{Engine, ResourceId, ResourceOptions, TeamId, Tier},
};
use secrecy::SecretString;

use self::options::OptionsArgs;
use super::{
    output::{Output, instant_or_dash, printable, table},
    read_back,
};
use crate::{
    catalog::{
        Catalog, NewResource, NewRun, Order, OwnRetention, ResourceChange, ResourceFilter,
        StoredConnection,
    },
    config::{self, PlansArgs},
    nouns::{ProblemKind, Resource, ResourceStatus, Told},
    plan::PlansFile,
    proof::ProofOutcome,
    request,
    secret::{self, MasterKeys, Reference},
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
        #[command(flatten)]
        plans: PlansArgs,
    },
    /// Show one resource
    Show(OneArgs),
    /// Suspend a resource's backups; waiting runs are cancelled
    Pause(OneArgs),
    /// Resume a resource's backups
    Resume(OneArgs),
    /// Stop protecting a resource permanently; its restore points stay until they expire
    Remove(OneArgs),
    /// Drop a database that a restore replaced and kept (`…__before_restore_…`)
    DropReplaced {
        /// The resource's id
        id: ResourceId,
        /// The kept database's whole name
        database: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct OneArgs {
    /// Its id
    id: ResourceId,
    #[command(flatten)]
    plans: PlansArgs,
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
            plans,
        } => {
            let here = Here::open(plans, output).await?;
            let filter = ResourceFilter {
                team,
                with_removed: removed,
                limit,
                after: None,
            };
            let rows = here.catalog.resources(&filter).await?;
            output.show(&here.shown().all(rows).await?, |resources| list(resources))
        }
        Command::Show(args) => {
            let here = Here::open(args.plans, output).await?;
            output.show(&here.shown().one(args.id.as_str()).await?, details)
        }
        Command::Pause(args) => {
            let text = "paused: it is not backed up until `lastgood resource resume`";
            set(args, ResourceStatus::Paused, text, output).await
        }
        Command::Resume(args) => {
            let text = "active: the producer's next tick looks at it";
            set(args, ResourceStatus::Active, text, output).await
        }
        Command::Remove(args) => {
            let text = "removed: its restore points stay";
            set(args, ResourceStatus::Removed, text, output).await
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
            let enqueued = catalog.enqueue(&new, &Order::of_this_user(None)).await?;
            let run = read_back(&catalog, enqueued.id()).await?;
            output.show(&run, |run| {
                format!(
                    "run {} enqueued: see `lastgood run show {}`",
                    run.id, run.id
                )
            })
        }
    }
}

/// The catalog, and what a resource is shown with.
struct Here {
    catalog: Catalog,
    plans: PlansFile,
    master_keys: Option<MasterKeys>,
}

impl Here {
    async fn open(plans: PlansArgs, output: &Output) -> anyhow::Result<Self> {
        let plans = PlansFile::load(plans.plans);
        if let Some(fault) = plans.fault() {
            output.note(&format!(
                "{fault}\nwhat is promised is told by the built-in plans"
            ));
        }
        Ok(Self {
            plans,
            // Showing resources needs no key, so an unreadable one is ignored here. The doctor reports it.
            master_keys: config::master_keys().ok().flatten(),
            catalog: super::catalog().await?,
        })
    }

    fn shown(&self) -> request::Shown<'_> {
        request::Shown {
            catalog: &self.catalog,
            plans: self.plans.plans(),
            master_keys: self.master_keys.as_ref(),
        }
    }
}

async fn add(args: AddArgs, output: &Output) -> anyhow::Result<()> {
    let options = args
        .options
        .apply(args.engine, ResourceOptions::default())?;
    let here = Here::open(args.plans, output).await?;
    let new = NewResource {
        connection: connection(&args.connection, &args.id, args.engine, &here.catalog).await?,
        id: args.id,
        team: args.team,
        tier: args.tier,
        engine: args.engine.to_string(),
        retention_days: args.retention_days,
        options,
    };
    let order = Order::of_this_user(None);
    here.catalog.register_resource(&new, &order).await?;
    let added = here.shown().one(new.id.as_str()).await?;
    output.show(&added, |it| format!("added {}: {}", it.id, it.promise))
}

async fn change(args: SetArgs, output: &Output) -> anyhow::Result<()> {
    let nothing = args.tier.is_none()
        && args.retention_days.is_none()
        && args.connection.is_none()
        && !args.options.is_given();
    anyhow::ensure!(
        !nothing,
        Told::new(
            ProblemKind::NotAccepted,
            "say what to change: --tier, --retention-days, a connection, or an option of its engine".to_owned()
        )
    );
    let here = Here::open(args.plans, output).await?;
    let before = here.catalog.resource(args.id.as_str()).await?;
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
        Some(given) => Some(connection(given, &args.id, engine, &here.catalog).await?),
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
    let (id, order) = (args.id.as_str(), Order::of_this_user(None));
    here.catalog
        .alter_resource(id, &change, None, &order)
        .await?;
    let changed = here.shown().one(id).await?;
    output.show(&changed, |it| format!("changed {}: {}", it.id, it.promise))
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
    args: OneArgs,
    status: ResourceStatus,
    text: &str,
    output: &Output,
) -> anyhow::Result<()> {
    let (nothing_else, order) = (ResourceChange::default(), Order::of_this_user(None));
    let (here, id) = (Here::open(args.plans, output).await?, args.id.as_str());
    match status {
        ResourceStatus::Removed => here.catalog.remove_resource(id, &order).await?,
        ResourceStatus::Active | ResourceStatus::Paused => {
            let change = here
                .catalog
                .alter_resource(id, &nothing_else, Some(status), &order);
            change.await?;
        }
    }
    output.show(&here.shown().one(id).await?, |it| {
        format!("{} is {text}", it.id)
    })
}

fn list(resources: &[Resource]) -> String {
    let lost = resources.iter().filter_map(|it| {
        let because = it.lost()?;
        Some(format!(
            "DOES NOT OPEN: the URL of {} was {because}\n",
            it.id
        ))
    });
    let lost: String = lost.collect();
    rows(resources) + &lost
}

fn rows(resources: &[Resource]) -> String {
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
        resources.iter().map(|row| {
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

fn details(row: &Resource) -> String {
    let connection = match (&row.connection, row.sealed_under) {
        (Some(_), Some(_)) => row
            .lost()
            .unwrap_or_else(|| "sealed in the catalog".to_owned()),
        (Some(reference), None) => reference.clone(),
        (None, _) => "none: give it one with `lastgood resource set`, then resume it".to_owned(),
    };
    let cadence = row.cadence_minutes.map_or_else(
        || "not backed up, or not looked at yet".to_owned(),
        |minutes| format!("every {minutes} minutes"),
    );
    format!(
        "{id}\n  team        {team}\n  tier        {tier}\n  engine      {engine}\n  status      {status}\n  connection  {connection}\n  \
         options     {options}\n  cadence     {cadence}\n  newest      {newest}\n  next due    {next}\n  failures    {failures} in a row\n  registered  {created}\n  proven      {proven}{drill}\n  restore     {restore}",
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
        proven = instant_or_dash(row.proven_at),
        drill = last_drill(row),
        restore = row.restore_seconds.map_or_else(
            || "not measured".to_owned(),
            |seconds| format!(
                "took {seconds:.0} s, {}",
                instant_or_dash(row.restore_measured_at)
            ),
        ),
    )
}

/// Returns what the last drill found, unless it proved a point.
fn last_drill(row: &Resource) -> String {
    match row.drill_outcome {
        None | Some(ProofOutcome::Proven) => String::new(),
        Some(outcome) => format!(
            " (the last drill, {}: {outcome}: {})",
            instant_or_dash(row.drilled_at),
            printable(row.drill_because.as_deref().unwrap_or_default())
        ),
    }
}
