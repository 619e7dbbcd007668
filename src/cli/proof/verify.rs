//! `lastgood proof verify`: is an export what somebody with the key signed, and does it say what the ledger said?

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::super::output::{Output, counted, instant, printable};
use crate::{
    proof::{
        ProofOutcome,
        envelope::{Envelope, PublicKey},
        statement::Statement,
    },
    regular,
};

/// The largest export that is read, in bytes: more than `proof export` writes.
const LARGEST: u64 = 512 << 20;
/// The largest file of keys.
const LARGEST_KEYS: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// The export
    file: PathBuf,
    /// The public keys to believe, as `lastgood key signing` prints them
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn run(args: &Args, output: &Output) -> anyhow::Result<()> {
    let keys = read(&args.key, LARGEST_KEYS)?;
    let keys = PublicKey::parse_all(&String::from_utf8_lossy(&keys));
    let keys = keys.with_context(|| args.key.display().to_string())?;
    let envelope = Envelope::parse(&read(&args.file, LARGEST)?);
    let verified = envelope.and_then(|envelope| envelope.verify(&keys));
    let (payload, key) = verified.with_context(|| args.file.display().to_string())?;
    let statement = Statement::check(&payload).with_context(|| args.file.display().to_string())?;
    let it = &statement.predicate;
    let answer = json!({
        "is_valid": true,
        "fingerprint": key.fingerprint(),
        "installation": it.installation,
        "team": it.team,
        "period": it.period,
        "exported_at": it.exported_at,
        "outcomes": it.outcomes,
        "chain": it.chain,
    });
    output.show(&answer, |_| {
        let outcomes = ProofOutcome::ALL.iter().filter_map(|outcome| {
            let count = it.outcomes.get(outcome.as_str()).copied().filter(|count| *count > 0)?;
            Some(format!("{count} {outcome}"))
        });
        let outcomes: Vec<_> = outcomes.collect();
        format!(
            "valid: signed by key {}\n{} of team {}, from {} until {}: {}\nthe chain stood at proof {} with hash {}",
            key.fingerprint(),
            counted(it.proofs.len(), "proof"),
            printable(&it.team),
            instant(it.period.from),
            instant(it.period.to),
            if outcomes.is_empty() { "none".to_owned() } else { outcomes.join(", ") },
            it.chain.number,
            printable(&it.chain.hash),
        )
    })
}

/// Reads a file of a bounded size.
fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let file = regular::open(path).with_context(|| format!("cannot read {shown}"))?;
    let file = file.with_context(|| format!("{shown} is not a file"))?;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        bytes.len() as u64 <= most,
        "{shown} is larger than {} MiB: it is nothing that lastgood writes",
        most >> 20
    );
    Ok(bytes)
}
