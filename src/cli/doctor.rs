//! `lastgood doctor`: the database, the store, the client tools, the clock and the keys, each tried for real.

mod keys;

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::Utc;
use lastgood_jobs::{
    engine::Toolbox,
    error::chain,
    escrow,
    key::{self, Keyring as _},
    resource::Engine,
    storage::Storage,
};
use serde::Serialize;

use super::output::Output;
use crate::{
    catalog::{Catalog, KeyRow, KeySample},
    config::{self, PlansArgs, StorageArgs, ToolsArgs},
    keys::CatalogKeyring,
    plan,
    stores::{self, Absent, NamedStore, Stores},
};

/// Of how many teams with keys of their own a restore point is opened.
const TEAMS_SAMPLED: i64 = 20;
/// How many resources that are reached in an unverified way are named.
const TRANSPORTS_NAMED: i64 = 20;
/// How many keys are opened themselves, chosen anew each time.
const KEYS_SAMPLED: usize = 50;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    tools: ToolsArgs,
    #[command(flatten)]
    plans: PlansArgs,
    /// Whether the consumers refuse servers that need not prove who they are
    #[arg(long, env = "LASTGOOD_REQUIRE_VERIFIED_TLS")]
    require_verified_tls: bool,
}

/// What was looked at, and what was found.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    good: bool,
    found: String,
}

impl Check {
    fn of(check: &'static str, found: anyhow::Result<String>) -> Self {
        match found {
            Ok(found) => Self {
                name: check,
                good: true,
                found,
            },
            Err(error) => Self {
                name: check,
                good: false,
                found: format!("{error:#}"),
            },
        }
    }
}

pub(super) async fn run(args: &Args, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = connect().await;
    let mut checks = vec![Check::of("plans", plans(args))];
    match &catalog {
        Ok(catalog) => {
            checks.push(Check::of("catalog", schema(catalog).await));
            checks.push(Check::of("clock", clock(catalog).await));
            checks.push(Check::of("keys", keys::keys(catalog).await));
            checks.push(Check::of("encryption", encryption(catalog, args).await));
            checks.push(Check::of("store names", store_names(catalog, args).await));
            checks.push(Check::of("consumers", consumers(catalog).await));
            checks.push(Check::of("transport", transport(catalog, args).await));
        }
        Err(error) => checks.push(Check::of("catalog", Err(anyhow::anyhow!("{error:#}")))),
    }
    checks.extend(stores(args, catalog.as_ref().ok()).await);
    let tools = args.tools.discover().await;
    checks.extend(Engine::ALL.map(|engine| Check::of("engine", client_tools(&tools, engine))));

    output.show(&checks, |checks| {
        let line = |check: &Check| {
            format!(
                "{} {:<13} {}\n",
                if check.good { "ok  " } else { "FAIL" },
                check.name,
                check.found
            )
        };
        checks.iter().map(line).collect()
    })?;
    let all_good = checks.iter().all(|check| check.good);
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Names the resources whose servers need not prove who they are.
async fn transport(catalog: &Catalog, args: &Args) -> anyhow::Result<String> {
    let (found, all) = catalog.unverified_transports(TRANSPORTS_NAMED).await?;
    if found.is_empty() {
        return Ok("no resource is known to be reached without proof of who answers".to_owned());
    }
    let named: Vec<_> = found
        .iter()
        .map(|it| format!("{} ({})", it.resource, it.because))
        .collect();
    let told = format!(
        "{all} resources are reached without proof of who answers: {}; see docs/transport.md",
        named.join(", ")
    );
    anyhow::ensure!(!args.require_verified_tls, "{told}");
    Ok(told)
}

async fn connect() -> anyhow::Result<Catalog> {
    Ok(Catalog::connect(&config::database_url()?, 1).await?)
}

fn plans(args: &Args) -> anyhow::Result<String> {
    let problems = plan::check(&args.plans.plans);
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(format!("{} is good", args.plans.plans.display()))
}

async fn schema(catalog: &Catalog) -> anyhow::Result<String> {
    catalog.check_schema().await?;
    let faults = catalog.faults().await?;
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("; "));
    let version = catalog.server_version_num().await?;
    Ok(format!(
        "PostgreSQL {}, schema up to date",
        version / 10_000
    ))
}

async fn clock(catalog: &Catalog) -> anyhow::Result<String> {
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

/// Proves that the keys at hand open the newest restore points: the platform's, and those of a few teams.
async fn encryption(catalog: &Catalog, args: &Args) -> anyhow::Result<String> {
    let mut keys = catalog.keys().await?;
    let living = keys.iter().filter(|key| key.shredded_at.is_none()).count();
    if living == 0 {
        return Ok(
            "archives are NOT encrypted: `lastgood key create --platform` changes that".to_owned(),
        );
    }
    let stores = Stores::open(&args.storage, &Absent::Refused).await?;
    let keyring = CatalogKeyring {
        catalog: catalog.clone(),
        master: config::master_keys()?,
    };
    fastrand::shuffle(&mut keys);
    for key in keys.iter().take(KEYS_SAMPLED) {
        is_whole(&stores, &keyring, key).await?;
    }
    let (mut opened, mut plain) = (0, 0);
    for sample in catalog.key_samples(TEAMS_SAMPLED).await? {
        let opens = opens(&stores.primary().storage, &sample, &keyring).await;
        match opens
            .with_context(|| format!("the newest restore point of {}", sample.resource_id))?
        {
            Some(_) => opened += 1,
            None => plain += 1,
        }
    }
    Ok(format!(
        "{living} keys, with their escrows; the newest restore points open: {opened} encrypted, {plain} from before the key"
    ))
}

/// A key opens with the master key and has its escrow in each store; one that was shredded has neither.
async fn is_whole(stores: &Stores, keyring: &CatalogKeyring, key: &KeyRow) -> anyhow::Result<()> {
    let is_shredded = key.shredded_at.is_some();
    for NamedStore { name, storage, .. } in stores.iter() {
        let has_escrow = escrow::exists(storage, key.id).await?;
        anyhow::ensure!(
            !(is_shredded && has_escrow),
            "key {} was shredded, and its escrow is still in store {name}: shred it once more",
            key.id
        );
        anyhow::ensure!(
            is_shredded || has_escrow,
            "key {} has no escrow in store {name}: `lastgood key escrow --recipient age1…` writes it anew",
            key.id
        );
    }
    if !is_shredded {
        keyring.identity(key.id, &key.recipient.parse()?).await?;
    }
    Ok(())
}

async fn opens(
    storage: &Storage,
    sample: &KeySample,
    keyring: &CatalogKeyring,
) -> anyhow::Result<Option<uuid::Uuid>> {
    let manifest = storage.manifest(&sample.manifest_key).await?;
    let manifest = manifest.with_context(|| format!("{} is missing", sample.manifest_key))?;
    Ok(key::opens(storage, &manifest, keyring).await?)
}

async fn consumers(catalog: &Catalog) -> anyhow::Result<String> {
    let live = catalog.live_consumers().await?;
    let alive = live.iter().filter(|consumer| consumer.takes_new()).count();
    anyhow::ensure!(
        alive > 0,
        "no live consumer takes new runs: start `lastgood consumer`"
    );
    Ok(format!("{alive} alive"))
}

/// Every store that points are on record in is configured here: else a removal waits for it for ever.
async fn store_names(catalog: &Catalog, args: &Args) -> anyhow::Result<String> {
    let (primary, mirrors) = stores::names(&args.storage)?;
    let known: Vec<String> = std::iter::once(primary).chain(mirrors).collect();
    let unknown = catalog.unknown_stores(&known).await?;
    let told: Vec<String> = unknown
        .iter()
        .map(|it| {
            format!(
                "{} restore points are on record in store {}",
                it.points, it.store
            )
        })
        .collect();
    anyhow::ensure!(
        told.is_empty(),
        "{}, which is not configured here: their removals wait; give its stores file, or `lastgood store rename` or `forget` it",
        told.join(", ")
    );
    Ok(format!(
        "{} configured, and no other on record",
        known.len()
    ))
}

async fn stores(args: &Args, catalog: Option<&Catalog>) -> Vec<Check> {
    let stores = match Stores::open(&args.storage, &Absent::Refused).await {
        Ok(stores) => stores,
        Err(error) => {
            let hint = match error.missing() {
                Some(_) => "; the first consumer makes a new one",
                None => "",
            };
            let told = anyhow::anyhow!("{}{hint}", chain(&error));
            return vec![Check::of("store", Err(told))];
        }
    };
    let mut checks = Vec::new();
    for store in stores.iter() {
        checks.push(Check::of("store", try_store(store).await));
        if let Some(catalog) = catalog {
            let compared = identity(store, args, catalog).await;
            checks.push(Check::of("store id", compared));
        }
    }
    if let Some(catalog) = catalog {
        checks.push(Check::of("store faults", faults(catalog).await));
    }
    checks
}

/// Says whether it is the store that is meant by its name.
async fn identity(store: &NamedStore, args: &Args, catalog: &Catalog) -> anyhow::Result<String> {
    let name = &store.name;
    let compared = stores::identify(store, &args.storage, catalog).await?;
    Ok(match compared {
        Some(id) => format!("{name}: it is {id}, of this installation"),
        None => format!("{name}: it has no identity yet: the first consumer gives it one"),
    })
}

/// Running consumers may see another machine's mounts.
async fn faults(catalog: &Catalog) -> anyhow::Result<String> {
    let faults = catalog.store_faults().await?;
    let told: Vec<String> = faults
        .iter()
        .map(|it| {
            format!(
                "{} cannot be used by {} consumer(s): {}",
                it.store, it.consumers, it.why
            )
        })
        .collect();
    anyhow::ensure!(told.is_empty(), "{}", told.join("; "));
    Ok("no running consumer reports one".to_owned())
}

async fn try_store(store: &NamedStore) -> anyhow::Result<String> {
    let NamedStore { name, url, storage } = store;
    let tried = storage.check().await;
    tried.map_err(|error| anyhow::anyhow!("{name} ({url}): {}", error.report()))?;
    Ok(format!(
        "{name} ({url}): written, read back and removed a probe, and refused to overwrite it"
    ))
}

fn client_tools(tools: &Toolbox, engine: Engine) -> anyhow::Result<String> {
    let capability = tools
        .capabilities()
        .into_iter()
        .find(|capability| capability.engine == engine);
    match capability {
        Some(capability) if !capability.tools.is_empty() => {
            Ok(format!("{engine}: {}", capability.tools.join(", ")))
        }
        _ => anyhow::bail!(
            "{engine}: none found: install the client package of your servers' major versions, or name its directory with --pg-client-dir"
        ),
    }
}
