//! `lastgood proof export`: a team's proofs of a period, signed, for whoever has no catalog.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use lastgood_jobs::resource::TeamId;
use serde_json::json;

use super::super::output::{Output, counted};
use crate::{
    catalog::{Audit, Catalog},
    config,
    proof::statement::{Period, Statement},
    signing::Signer,
};

/// The most proofs of one export.
const MOST: usize = 100_000;
/// The most bytes of its proofs.
const MOST_BYTES: usize = 128 << 20;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The team
    #[arg(long)]
    team: TeamId,
    /// The first day or instant of the period, e.g. 2026-11-01 (midnight UTC) or 2026-11-01T06:00:00Z
    #[arg(long, value_name = "TIME", value_parser = day_or_instant)]
    from: DateTime<Utc>,
    /// The first day or instant after it; by default, now
    #[arg(long, value_name = "TIME", value_parser = day_or_instant)]
    to: Option<DateTime<Utc>>,
    /// Where to write it; by default, to standard output. An existing file is not replaced
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn day_or_instant(text: &str) -> Result<DateTime<Utc>, String> {
    let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
    text.parse::<DateTime<Utc>>()
        .ok()
        .or_else(|| text.parse().ok().map(midnight))
        .ok_or_else(|| {
            "give a day, e.g. 2026-11-01, or a time with its zone, e.g. 2026-11-01T06:00:00Z"
                .to_owned()
        })
}

pub(super) async fn run(catalog: &Catalog, args: &Args, output: &Output) -> anyhow::Result<()> {
    let now = Utc::now();
    let period = Period {
        from: args.from,
        to: args.to.unwrap_or(now),
    };
    ensure!(period.from < period.to, "--from must lie before --to");
    ensure!(
        period.to <= now,
        "--to lies in the future: an export says what was proven, so wait until the period is over"
    );
    let key = catalog
        .signing_key_in_use()
        .await?
        .context("there is no key to sign with: make one with `lastgood key create --signing`")?;
    let signer = Signer::open(config::master_keys()?.as_ref(), &key)?;
    let installation = catalog.installations().await?.own;
    let team = args.team.to_string();
    let extract = catalog
        .extract_proofs(&team, period, (MOST, MOST_BYTES))
        .await?;
    let Some(proofs) = extract.proofs else {
        bail!(
            "team {team} has too many proofs in this period for one export (at most {MOST}, and {} MiB): export shorter periods",
            MOST_BYTES >> 20
        );
    };
    let statement = Statement::new(
        (installation, team.clone()),
        period,
        proofs,
        extract.chain,
        now,
    );
    let payload = serde_json::to_vec(&statement)?;
    // What is signed must pass its own check: nobody is to learn from an auditor that the ledger is broken.
    Statement::check(&payload)
        .context("nothing was exported; `lastgood proof check` shows more")?;
    let entry = Audit::new(
        "export_proofs",
        json!({ "team": team, "from": period.from, "to": period.to, "signed_by": key.public.fingerprint() }),
    );
    catalog.audit(&entry).await?;
    let mut text = serde_json::to_vec(&signer.sign(&payload))?;
    text.push(b'\n');
    let proofs = counted(statement.predicate.proofs.len(), "proof");
    match &args.output {
        Some(path) => {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path);
            let written =
                file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
            written.with_context(|| format!("cannot write {}", path.display()))?;
            let fingerprint = key.public.fingerprint();
            let answer = json!({ "file": path, "proofs": statement.predicate.proofs.len(), "team": team, "fingerprint": fingerprint });
            output.show(&answer, |_| {
                format!(
                    "{proofs} of team {team} in {}, signed by key {fingerprint}",
                    path.display()
                )
            })
        }
        None => Ok(std::io::stdout().write_all(&text)?),
    }
}
