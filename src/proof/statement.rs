//! What does an export of the ledger say? An in-toto statement about a team's restore points: every proof of a period, and where the chain
//! stood.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    ProofOutcome,
    chain::{self, Broken, Hash},
};
use crate::nouns::Proof;

/// The type of the statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The type of the predicate. A name, not an address: nothing need answer there.
pub const PREDICATE_TYPE: &str = "https://lastgood.dev/proofs/v1";

/// An in-toto statement about a team's restore points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// The archives that the proofs are about.
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    pub predicate_type: String,
    /// What is said about them.
    pub predicate: Predicate,
}

/// An archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The id of the restore point.
    pub name: String,
    /// The hash of its archive, by algorithm.
    pub digest: BTreeMap<String, String>,
}

/// What is said: the proofs of a team in a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    /// The installation whose ledger it is.
    pub installation: Uuid,
    /// The team.
    pub team: String,
    /// From when to when.
    pub period: Period,
    /// When the ledger was read.
    pub exported_at: DateTime<Utc>,
    /// How many proofs there are of each outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// The proofs, in order.
    pub proofs: Vec<Proof>,
    /// Where the whole chain, of all teams, stood at the time.
    pub chain: ChainHead,
}

/// A period: from an instant on, until just before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
}

/// Where a chain ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// The last proof's number.
    pub number: i64,
    /// Its hash, in lowercase hex.
    pub hash: String,
}

/// Why a statement that is signed is no good statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// It is no statement about proofs.
    #[error("what was signed is no export of the ledger that this build knows: {0}")]
    NotAStatement(String),
    /// A proof is not as it was recorded.
    #[error("the export holds a broken chain")]
    Broken(#[from] Broken),
    /// Its parts contradict each other.
    #[error("the export contradicts itself: {0}")]
    Contradiction(String),
}

impl Statement {
    /// Returns the statement about these proofs, which are a team's in order.
    #[must_use]
    pub fn new(
        (installation, team): (Uuid, String),
        period: Period,
        proofs: Vec<Proof>,
        chain: ChainHead,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: subjects(&proofs).into_iter().collect(),
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Predicate {
                installation,
                team,
                period,
                exported_at: now,
                outcomes: outcomes(&proofs),
                proofs,
                chain,
            },
        }
    }

    /// Reads a statement whose signature was verified, and checks that it is whole: each proof has its hash, and all are of the team and the
    /// period.
    pub fn check(payload: &[u8]) -> Result<Self, StatementError> {
        let value: Value = serde_json::from_slice(payload)
            .map_err(|error| StatementError::NotAStatement(error.to_string()))?;
        for (field, known) in [("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)] {
            if value.get(field).and_then(Value::as_str) != Some(known) {
                let text = format!("its `{field}` is not {known:?}");
                return Err(StatementError::NotAStatement(text));
            }
        }
        let statement: Self = serde_json::from_value(value)
            .map_err(|error| StatementError::NotAStatement(error.to_string()))?;
        statement.is_consistent()?;
        Ok(statement)
    }

    fn is_consistent(&self) -> Result<(), StatementError> {
        let contradiction = |text: String| Err(StatementError::Contradiction(text));
        let it = &self.predicate;
        let mut before: Option<&Proof> = None;
        for proof in &it.proofs {
            let number = proof.number;
            chain::intact(proof)?;
            if proof.team != it.team {
                return contradiction(format!("proof {number} is of another team"));
            }
            if proof.recorded_at < it.period.from || proof.recorded_at >= it.period.to {
                return contradiction(format!("proof {number} is not of the period"));
            }
            if let Some(before) = before {
                if number <= before.number {
                    return contradiction(format!("proof {number} is not in order"));
                }
                if number == before.number + 1 && proof.previous_hash != before.hash {
                    return Err(Broken::Detached(number).into());
                }
            }
            before = Some(proof);
        }
        let last = before.map_or(0, |last| last.number);
        if Hash::parse(&it.chain.hash).is_none() || it.chain.number < last {
            return contradiction("its last proof lies beyond the chain's head".to_owned());
        }
        if it.chain.number == last && before.is_some_and(|last| last.hash != it.chain.hash) {
            return Err(Broken::NotTheHead(last).into());
        }
        if outcomes(&it.proofs) != it.outcomes {
            return contradiction("its outcomes are not those of its proofs".to_owned());
        }
        if self.subject.iter().cloned().collect::<BTreeSet<_>>() != subjects(&it.proofs) {
            return contradiction("its subjects are not the archives of its proofs".to_owned());
        }
        Ok(())
    }
}

fn outcomes(proofs: &[Proof]) -> BTreeMap<String, u64> {
    let all = ProofOutcome::ALL.iter();
    all.map(|outcome| {
        let of_it = proofs.iter().filter(|proof| proof.outcome == *outcome);
        (outcome.to_string(), of_it.count() as u64)
    })
    .collect()
}

fn subjects(proofs: &[Proof]) -> BTreeSet<Subject> {
    let archives = proofs
        .iter()
        .filter_map(|proof| Some((proof.point, proof.archive_blake3.clone()?)));
    archives
        .map(|(point, blake3)| Subject {
            name: point.to_string(),
            digest: BTreeMap::from([("blake3".to_owned(), blake3)]),
        })
        .collect()
}
