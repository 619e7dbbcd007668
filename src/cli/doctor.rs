//! `lastgood doctor`: the database, the store, the client tools, the clock and the keys, each tried for real.

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::Utc;
use lastgood_jobs::{engine::Toolbox, escrow, key, resource::Engine, storage::Storage};
use serde::Serialize;

use super::output::Output;
use crate::{
    catalog::{Catalog, KeySample},
    config::{self, PlansArgs, StorageArgs, ToolsArgs},
    keys::CatalogKeyring,
    plan,
};

/// Of how many teams with keys of their own a restore point is opened.
const TEAMS_SAMPLED: i64 = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    tools: ToolsArgs,
    #[command(flatten)]
    plans: PlansArgs,
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
            checks.push(Check::of("keys", keys(catalog).await));
            checks.push(Check::of("encryption", encryption(catalog, args).await));
            checks.push(Check::of("consumers", consumers(catalog).await));
        }
        Err(error) => checks.push(Check::of("catalog", Err(anyhow::anyhow!("{error:#}")))),
    }
    checks.push(Check::of("store", store(args).await));
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

async fn keys(catalog: &Catalog) -> anyhow::Result<String> {
    let key = config::master_key()?;
    match (catalog.any_sealed().await?, key) {
        (None, None) => Ok("no master key, and nothing is sealed".to_owned()),
        (None, Some(_)) => Ok("master key present, nothing is sealed".to_owned()),
        (Some((id, _)), None) => {
            anyhow::bail!("the URL of {id} is sealed, but LASTGOOD_MASTER_KEY is not set here")
        }
        (Some((id, sealed)), Some(key)) => {
            key.open(&id, &sealed)
                .with_context(|| format!("the connection of {id}"))?;
            Ok(format!("the master key opens the sealed URL of {id}"))
        }
    }
}

/// Proves that the keys at hand open the newest restore points: the platform's, and those of a few teams.
async fn encryption(catalog: &Catalog, args: &Args) -> anyhow::Result<String> {
    let keys = catalog.keys().await?;
    let living: Vec<_> = keys
        .iter()
        .filter(|key| key.shredded_at.is_none())
        .collect();
    if living.is_empty() {
        return Ok(
            "archives are NOT encrypted: `lastgood key create --platform` changes that".to_owned(),
        );
    }
    let storage = Storage::open(&args.storage.storage).await?;
    for key in &living {
        let is_there = escrow::exists(&storage, key.id).await?;
        anyhow::ensure!(
            is_there,
            "key {} has no escrow in the store: write it anew with `lastgood key escrow --recipient age1…`",
            key.id
        );
    }
    for key in keys.iter().filter(|key| key.shredded_at.is_some()) {
        let is_there = escrow::exists(&storage, key.id).await?;
        anyhow::ensure!(
            !is_there,
            "key {} was shredded, and its escrow is still in the store: shred it again",
            key.id
        );
    }
    let keyring = CatalogKeyring {
        catalog: catalog.clone(),
        master: config::master_key()?,
    };
    let (mut opened, mut plain) = (0, 0);
    for sample in catalog.key_samples(TEAMS_SAMPLED).await? {
        let opens = opens(&storage, &sample, &keyring).await;
        match opens
            .with_context(|| format!("the newest restore point of {}", sample.resource_id))?
        {
            Some(_) => opened += 1,
            None => plain += 1,
        }
    }
    Ok(format!(
        "{} keys, each with its escrow; the newest restore points open: {opened} encrypted, {plain} from before the key",
        living.len()
    ))
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
    let alive = catalog.live_consumers().await?;
    anyhow::ensure!(
        !alive.is_empty(),
        "no live consumer: nothing is executed; start `lastgood consumer`"
    );
    Ok(format!("{} alive", alive.len()))
}

async fn store(args: &Args) -> anyhow::Result<String> {
    let storage = Storage::open(&args.storage.storage).await?;
    storage.check().await?;
    Ok(format!(
        "{}: written, read back and removed a probe",
        args.storage.storage
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
