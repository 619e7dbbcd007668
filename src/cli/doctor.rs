//! `lastgood doctor`: really tries the database, the stores, the client tools, the clock and the keys, all at the same time.

mod keys;
mod round;
mod stores;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::Utc;
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, FutureExt as _, Shared},
};
use lastgood_jobs::{
    clients::Toolbox,
    detached,
    engine::capabilities,
    error::chain,
    key::Keyring as _,
    resource::Engine,
    storage::{Patience, Storage},
    verify,
};
use tokio::time::timeout;

use self::round::{Check, Impossible, Round, read};
use super::output::{Output, counted};
use crate::{
    catalog::{Catalog, KeySample},
    config::{self, PlansArgs, StorageArgs, ToolsArgs},
    keys::CatalogKeyring,
    plan,
    stores::{Candidate, candidates},
};

/// For how many teams with keys of their own a restore point is opened.
const TEAMS_SAMPLED: i64 = 20;
/// How many resources a check names.
const NAMED: i64 = 20;
/// How many keys are opened, chosen at random each time.
const KEYS_SAMPLED: usize = 50;
/// How many keys or restore points are opened at once.
const AT_ONCE: usize = 8;
/// How many connections to the catalog the checks share.
const CONNECTIONS: u32 = 4;
/// The fraction of the time (one third) within which the stores' configuration must be read.
const PART_FOR_CONFIGURATION: u32 = 3;
/// How long abandoned work may take to clean up.
const SETTLED_WITHIN: Duration = Duration::from_millis(500);

const SEE_CATALOG: &str = "check that the server in DATABASE_URL is running, and that nothing between here and there drops packets";
const NEEDS_CATALOG: &str = "it needs the catalog";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    tools: ToolsArgs,
    #[command(flatten)]
    plans: PlansArgs,
    /// Fail if a server is reached without proof of its identity: set it if the consumers have it set
    #[arg(long, env = "LASTGOOD_REQUIRE_VERIFIED_TLS", value_parser = crate::config::flag)]
    require_verified_tls: bool,
    /// How long to wait for all answers together: raise it if a store is slow to reach
    #[arg(long, default_value = "9s", value_name = "TIME", value_parser = config::some_time)]
    within: Duration,
}

pub(super) async fn run(args: &Args, output: &Output) -> anyhow::Result<ExitCode> {
    let checks = examine(Arc::new(args.clone())).await;
    output.show(&checks, |checks| checks.iter().map(Check::line).collect())?;
    // Without this wait, the janitor would have to remove what abandoned checks left behind.
    drop(timeout(SETTLED_WITHIN, detached::settled()).await);
    let all_good = checks.iter().all(|check| check.is_good);
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts all checks at once and returns their findings in the order of this list. Each check is independent of the others.
async fn examine(args: Arc<Args>) -> Vec<Check> {
    let mut round = Round::begin(args.within);
    let found = configured(&args).await;
    let all: &[Candidate] = found.as_deref().unwrap_or_default();
    let primary = all.first().cloned();
    let names: Vec<String> = all.iter().map(|store| store.name().to_owned()).collect();
    let catalog = connecting();

    let see_plans = format!("check the file system of {}", args.plans.plans.display());
    round.ask("plans", see_plans, plans(Arc::clone(&args)));
    round.ask("catalog", SEE_CATALOG, connected(catalog.clone()));
    let needs_catalog = Some(("catalog", Impossible(NEEDS_CATALOG)));
    let mut of_catalog = |name, check| round.ask_where(name, NEEDS_CATALOG, needs_catalog, check);
    of_catalog("clock", with(&catalog, clock));
    of_catalog(
        "keys",
        with(
            &catalog,
            |catalog| async move { keys::keys(&catalog).await },
        ),
    );
    of_catalog(
        "encryption",
        with(&catalog, |catalog| encryption(catalog, primary)),
    );
    if found.is_ok() {
        let compared = with(&catalog, |catalog| stores::names(names, catalog));
        of_catalog("store names", compared);
    }
    of_catalog("consumers", with(&catalog, consumers));
    let ours = Arc::clone(&args);
    of_catalog(
        "transport",
        with(&catalog, |catalog| transport(catalog, ours)),
    );
    of_catalog("superusers", with(&catalog, superusers));
    for store in all {
        let see_store = format!(
            "{} ({}): check the connection from here to it; if it is only slow, use --within 1m",
            store.name(),
            store.url()
        );
        let (tried, ours) = (store.clone(), Arc::clone(&args));
        let compared = with(&catalog, |catalog| stores::identity(tried, ours, catalog));
        let looked_at = store.clone();
        let escrows = with(&catalog, |catalog| stores::escrows(looked_at, catalog));
        round.ask("store", &*see_store, stores::is_usable(store.clone()));
        round.ask_where("store id", &*see_store, needs_catalog, compared);
        round.ask_where("escrows", &*see_store, needs_catalog, escrows);
    }
    if let Err(error) = found {
        round.ask("store", "", async { Err(error) });
    }
    round.ask_where(
        "store faults",
        NEEDS_CATALOG,
        needs_catalog,
        with(&catalog, stores::faults),
    );
    let tools = discovered(Arc::clone(&args));
    for engine in Engine::ALL {
        let tools = tools.clone();
        let see_tools = format!("{engine}: a client tool does not report its version");
        round.ask("engine", see_tools, async move {
            let tools = tools.await;
            client_tools(&tools, engine)
        });
    }
    round.answers().await
}

/// A connection that every check awaits and shares. Why it failed is reported by its own check.
type Connecting = Shared<BoxFuture<'static, Result<Catalog, String>>>;

fn connecting() -> Connecting {
    let connecting = async {
        let url = read(config::database_url).await??;
        Ok::<_, anyhow::Error>(Catalog::connect_at_once(&url, CONNECTIONS).await?)
    };
    connecting
        .map(|connected| connected.map_err(|error| chain(error.as_ref())))
        .boxed()
        .shared()
}

fn with<Looking>(
    catalog: &Connecting,
    check: impl FnOnce(Catalog) -> Looking + Send + 'static,
) -> BoxFuture<'static, anyhow::Result<String>>
where
    Looking: Future<Output = anyhow::Result<String>> + Send + 'static,
{
    let catalog = catalog.clone();
    async move {
        let catalog = catalog.await.map_err(|_| Impossible(NEEDS_CATALOG))?;
        check(catalog).await
    }
    .boxed()
}

async fn connected(catalog: Connecting) -> anyhow::Result<String> {
    schema(catalog.await.map_err(anyhow::Error::msg)?).await
}

async fn configured(args: &Args) -> anyhow::Result<Vec<Candidate>> {
    let (storage, patience) = (args.storage.clone(), Patience::brief(args.within));
    let reading = read(move || candidates(&storage, patience));
    let read = timeout(args.within / PART_FOR_CONFIGURATION, reading).await;
    Ok(read.context(
        "the stores file, or a file with keys, cannot be read: its file system does not answer",
    )???)
}

fn discovered(args: Arc<Args>) -> Shared<BoxFuture<'static, Arc<Toolbox>>> {
    async move { Arc::new(args.tools.discover().await) }
        .boxed()
        .shared()
}

/// Names the resources whose servers are reached without proof of their identity.
async fn transport(catalog: Catalog, args: Arc<Args>) -> anyhow::Result<String> {
    let (found, all) = catalog.unverified_transports(NAMED).await?;
    if found.is_empty() {
        return Ok(
            "no resource is known to be reached without proof of its server's identity".to_owned(),
        );
    }
    let named: Vec<_> = found
        .iter()
        .map(|it| format!("{} ({})", it.resource, it.because))
        .collect();
    let told = format!(
        "{all} resources are reached without proof of their servers' identity: {}; see docs/explanation/transport.md",
        named.join(", ")
    );
    anyhow::ensure!(!args.require_verified_tls, "{told}");
    Ok(told)
}

/// Names the resources whose URLs are those of superusers: with a superuser's rights, a restore would run what a customer wrote.
async fn superusers(catalog: Catalog) -> anyhow::Result<String> {
    let (named, all) = catalog.backed_up_as_superuser(NAMED).await?;
    if named.is_empty() {
        return Ok("no resource is known to have a superuser's URL".to_owned());
    }
    let have = if all == 1 { "has" } else { "have" };
    Ok(format!(
        "{} {have} a superuser's URL: {}; see docs/how-to/restore.md, \"With a superuser's URL\"",
        counted(all, "resource"),
        named.join(", ")
    ))
}

async fn plans(args: Arc<Args>) -> anyhow::Result<String> {
    let file = args.plans.plans.clone();
    let problems = read(move || plan::check(&file)).await?;
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(format!("{} is good", args.plans.plans.display()))
}

async fn schema(catalog: Catalog) -> anyhow::Result<String> {
    catalog.check_schema().await?;
    let faults = catalog.faults().await?;
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    let version = catalog.server_version_num().await?;
    Ok(format!(
        "PostgreSQL {}, schema up to date",
        version / 10_000
    ))
}

async fn clock(catalog: Catalog) -> anyhow::Result<String> {
    // The first query may have to wait for a connection, which would distort the measurement.
    catalog.now().await?;
    let before = Utc::now();
    let theirs = catalog.now().await?;
    let ours = before + (Utc::now() - before) / 2;
    let skew = (ours - theirs).as_seconds_f64();
    anyhow::ensure!(
        skew.abs() < 5.0,
        "this machine's clock is {skew:.1} s ahead of the catalog's: fix NTP, or exposure will be wrong by as much"
    );
    Ok(format!("{skew:+.3} s against the catalog"))
}

/// Proves that the keys here open the newest restore points: the platform's, and those of a few teams.
async fn encryption(catalog: Catalog, primary: Option<Candidate>) -> anyhow::Result<String> {
    let mut keys = catalog.keys().await?;
    keys.retain(|key| key.shredded_at.is_none());
    let living = keys.len();
    if living == 0 {
        return Ok(
            "archives are NOT encrypted: `lastgood key create --platform` changes that".to_owned(),
        );
    }
    let keyring = &CatalogKeyring {
        catalog: catalog.clone(),
        master: read(config::master_keys).await??,
    };
    fastrand::shuffle(&mut keys);
    let some = keys.into_iter().take(KEYS_SAMPLED).map(anyhow::Ok);
    futures::stream::iter(some)
        .try_for_each_concurrent(AT_ONCE, |key| async move {
            keyring.identity(key.id, &key.recipient.parse()?).await?;
            Ok(())
        })
        .await?;
    let Some(primary) = primary else {
        return Err(Impossible("it needs the primary store").into());
    };
    let storage = &primary.open().await?.storage;
    let samples = catalog.key_samples(TEAMS_SAMPLED).await?;
    let opened: Vec<bool> = futures::stream::iter(samples)
        .map(|sample| async move {
            let opened = opens(storage, &sample, keyring).await;
            opened.with_context(|| format!("the newest restore point of {}", sample.resource_id))
        })
        .buffer_unordered(AT_ONCE)
        .map_ok(|key| key.is_some())
        .try_collect()
        .await?;
    let encrypted = opened.iter().filter(|is_encrypted| **is_encrypted).count();
    Ok(format!(
        "{living} keys; the newest restore points open: {encrypted} encrypted, {} from before the key",
        opened.len() - encrypted
    ))
}

async fn opens(
    storage: &Storage,
    sample: &KeySample,
    keyring: &CatalogKeyring,
) -> anyhow::Result<Option<uuid::Uuid>> {
    let manifest = storage.manifest(&sample.manifest_key).await?;
    let manifest = manifest.with_context(|| format!("{} is missing", sample.manifest_key))?;
    Ok(verify::opens(storage, &manifest, keyring).await?)
}

async fn consumers(catalog: Catalog) -> anyhow::Result<String> {
    let live = catalog.live_consumers().await?;
    let alive = live.iter().filter(|consumer| consumer.takes_new()).count();
    anyhow::ensure!(
        alive > 0,
        "no live consumer takes new runs: start `lastgood consumer`"
    );
    Ok(format!("{alive} alive"))
}

fn client_tools(tools: &Toolbox, engine: Engine) -> anyhow::Result<String> {
    let capability = capabilities(tools)
        .into_iter()
        .find(|capability| capability.engine == engine);
    match capability {
        Some(capability) if !capability.tools.is_empty() => {
            Ok(format!("{engine}: {}", capability.tools.join(", ")))
        }
        _ => anyhow::bail!(
            "{engine}: no client tools found: install the client package of your servers' major versions, or name its directory with --pg-client-dir"
        ),
    }
}
