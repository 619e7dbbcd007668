//! `lastgood proof list|show|check|export|verify`.

mod export;
mod verify;

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lastgood_jobs::resource::{ResourceId, TeamId};
use serde::Serialize;
use uuid::Uuid;

use super::{
    audit::since,
    output::{Output, counted, instant, table},
};
use crate::{
    catalog::{Catalog, ProofFilter},
    nouns::Proof,
    proof::{
        ProofKind, ProofOutcome,
        chain::{self, Broken, Head},
    },
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List proofs, newest first
    List(ListArgs),
    /// Show one proof, with everything that was compared
    Show {
        /// Its number, or its id
        #[arg(value_name = "NUMBER|ID", value_parser = which)]
        proof: Which,
    },
    /// Check the whole ledger: that no proof was changed, removed, moved or added by anybody but lastgood
    Check,
    /// Write a team's proofs of a period to a file, signed
    Export(export::Args),
    /// Check an export: who signed it, and that nothing was changed. Needs no catalog
    Verify(verify::Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    of: super::OneResource,
    /// Only this team's
    #[arg(long)]
    team: Option<TeamId>,
    /// Only of this kind
    #[arg(long)]
    kind: Option<ProofKind>,
    /// Only of this outcome
    #[arg(long)]
    outcome: Option<ProofOutcome>,
    /// Nothing older than this: a time, e.g. 2026-11-23T04:00:00Z, or how long ago, e.g. 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<DateTime<Utc>>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Which proof is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Numbered(i64),
    WithId(Uuid),
}

fn which(text: &str) -> Result<Which, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    let number = number.map(Which::Numbered);
    number
        .or_else(|| text.parse().ok().map(Which::WithId))
        .ok_or_else(|| {
            "give a proof's number or its id: `lastgood proof list` shows both".to_owned()
        })
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => list(args, output).await?,
        Command::Show { proof } => show(proof, output).await?,
        Command::Check => return check(&super::catalog().await?, output).await,
        Command::Export(args) => export::run(&super::catalog().await?, &args, output).await?,
        Command::Verify(args) => verify::run(&args, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs, output: &Output) -> anyhow::Result<()> {
    let filter = ProofFilter {
        resource_id: args.of.resource().map(ResourceId::to_string),
        team: args.team.map(|team| team.to_string()),
        kind: args.kind,
        outcome: args.outcome,
        since: args.since,
        before: None,
        limit: i64::from(args.limit),
    };
    let proofs = super::catalog().await?.recorded_proofs(&filter).await?;
    output.show(&proofs, |proofs| listed(proofs))
}

fn listed(proofs: &[Proof]) -> String {
    table(
        [
            "number",
            "recorded",
            "resource",
            "team",
            "kind",
            "outcome",
            "restore point",
            "because",
        ],
        proofs.iter().map(|proof| {
            [
                proof.number.to_string(),
                instant(proof.recorded_at),
                proof.resource.clone(),
                proof.team.clone(),
                proof.kind.to_string(),
                proof.outcome.to_string(),
                proof.point.to_string(),
                proof.because_kind.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        }),
    )
}

async fn show(which: Which, output: &Output) -> anyhow::Result<()> {
    let catalog = super::catalog().await?;
    let proof = match which {
        Which::Numbered(number) => catalog.proof_numbered(number).await?,
        Which::WithId(id) => catalog.proof_with_id(id).await?,
    };
    if let Err(broken) = chain::intact(&proof) {
        output.note(&format!("BROKEN: {broken}"));
    }
    output.show(&proof, |proof| {
        serde_json::to_string_pretty(proof).unwrap_or_default()
    })
}

/// What a check of the ledger found.
#[derive(Serialize)]
struct Checked {
    is_intact: bool,
    /// How many proofs were found whole before the end, or before the first that is not.
    proofs: i64,
    /// The hash of the last of them.
    hash: String,
    /// The number of the first proof that is not as it was recorded.
    broken_at: Option<i64>,
    /// What is wrong with it, in one word.
    broken_kind: Option<&'static str>,
    /// The same for people.
    because: Option<String>,
}

async fn check(catalog: &Catalog, output: &Output) -> anyhow::Result<ExitCode> {
    let (reached, broken) = walk(catalog).await?;
    let checked = Checked {
        is_intact: broken.is_none(),
        proofs: reached.number,
        hash: reached.hash.to_string(),
        broken_at: broken.map(Broken::number),
        broken_kind: broken.map(Broken::kind),
        because: broken.map(|broken| broken.to_string()),
    };
    output.show(&checked, |checked| {
        let proofs = counted(checked.proofs, "proof");
        match &checked.because {
            None => format!(
                "the ledger is intact: {proofs}, the last with hash {}",
                checked.hash
            ),
            Some(because) => format!("BROKEN: {because}\nintact before it: {proofs}"),
        }
    })?;
    Ok(if broken.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Walks the whole chain, a part at a time, up to where it ended at the begin. Returns how far it is whole, and what is wrong then.
async fn walk(catalog: &Catalog) -> anyhow::Result<(Head, Option<Broken>)> {
    let end = catalog.ledger_end().await?;
    let recorded = end.head.context(
        "the head of the ledger is gone: somebody removed the row of lastgood.proof_chain",
    )?;
    let last = recorded.number.max(end.last);
    let mut reached = Head::EMPTY;
    loop {
        let proofs = catalog.proofs_between(reached.number, last).await?;
        if proofs.is_empty() {
            break;
        }
        for proof in &proofs {
            match chain::follow(reached, std::slice::from_ref(proof)) {
                Ok(head) => reached = head,
                Err(broken) => return Ok((reached, Some(broken))),
            }
        }
    }
    Ok((reached, chain::ends_at(reached, recorded).err()))
}
