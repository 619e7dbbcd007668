//! What is a proof? What a drill, a verification or a restore has shown about a restore point, before it enters the ledger.
//!
//! The ledger is a chain of rows in the catalog: `lastgood.record_proof` appends to it, in the transaction that finishes the run.

mod canonical;
pub mod chain;
pub mod envelope;
pub mod statement;

use std::{collections::BTreeMap, time::Duration};

use lastgood_jobs::{contents::Comparison, error::told};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::closed_set::closed_set;

closed_set!(
    /// What made a proof.
    ProofKind, "kind of proof" {
        /// A restore into a scratch server, compared with what was dumped.
        Drill,
        /// The archive was read back to its last byte.
        Verification,
        /// Somebody restored it.
        Restore,
    }
);

closed_set!(
    /// What a proof says.
    ProofOutcome, "outcome of a proof" {
        /// The restore point did what it is for.
        Proven,
        /// It was restored, and something came back otherwise than it was dumped.
        Differs,
        /// It could not be restored, or read.
        Failed,
        /// Nobody could try, so nothing is known. Neither proven nor failed.
        NotPossible,
    }
);

/// The most bytes that a comparison takes in the ledger. Its longest lists are cut; the counts stay.
const MOST_COMPARED: usize = 64 * 1024;
/// The longest text in a comparison that was cut, in bytes.
const LONGEST_TEXT: usize = 200;

/// A proof to be recorded. The ledger adds what the catalog knows: the resource, its team and tier, the archive, the worker and the time.
#[derive(Debug, Clone, PartialEq)]
pub struct NewProof {
    /// What made it.
    pub kind: ProofKind,
    /// The restore point.
    pub point: Uuid,
    /// What it says.
    pub verdict: Verdict,
    /// How long each phase took, by a name in snake case, e.g. `fetch`.
    pub took: BTreeMap<&'static str, Duration>,
    /// What was compared, or read: a JSON object without fractions.
    compared: Value,
}

/// What a proof says, and why if it is not what one hopes for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The restore point did what it is for.
    Proven,
    /// Something came back otherwise than it was dumped.
    Differs(Because),
    /// It could not be restored, or read.
    Failed(Because),
    /// Nobody could try.
    NotPossible(Because),
}

/// Why a restore point is not proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// A stable word in snake case, e.g. `no_server`, `too_large`, `extension_absent`.
    pub kind: &'static str,
    /// A sentence for people, without secrets.
    pub sentence: String,
}

impl Because {
    /// Returns a reason. `sentence` is cut to a bounded length.
    #[must_use]
    pub fn new(kind: &'static str, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into().replace('\0', "\u{fffd}");
        let sentence = if sentence.trim().is_empty() {
            kind.replace('_', " ")
        } else {
            told(sentence)
        };
        Self { kind, sentence }
    }
}

impl Verdict {
    /// Returns the outcome.
    #[must_use]
    pub fn outcome(&self) -> ProofOutcome {
        match self {
            Self::Proven => ProofOutcome::Proven,
            Self::Differs(_) => ProofOutcome::Differs,
            Self::Failed(_) => ProofOutcome::Failed,
            Self::NotPossible(_) => ProofOutcome::NotPossible,
        }
    }

    /// Returns the reason, unless it is proven.
    #[must_use]
    pub fn because(&self) -> Option<&Because> {
        match self {
            Self::Proven => None,
            Self::Differs(because) | Self::Failed(because) | Self::NotPossible(because) => {
                Some(because)
            }
        }
    }
}

impl NewProof {
    /// Returns a proof that says nothing of times and comparisons yet.
    #[must_use]
    pub fn new(kind: ProofKind, point: Uuid, verdict: Verdict) -> Self {
        Self {
            kind,
            point,
            verdict,
            took: BTreeMap::new(),
            compared: json!({}),
        }
    }

    /// Returns the proof of an archive that was read to its last byte in these stores.
    #[must_use]
    pub fn read_whole(point: Uuid, stores: &[String], took: Duration) -> Self {
        Self {
            compared: json!({ "read": "whole", "stores": stores }),
            ..Self::new(ProofKind::Verification, point, Verdict::Proven)
        }
        .taking("read", took)
    }

    /// Returns the proof of a restore from this store that the target took.
    #[must_use]
    pub fn restored(point: Uuid, store: &str, took: Duration) -> Self {
        Self {
            compared: json!({ "restored": "whole", "store": store }),
            ..Self::new(ProofKind::Restore, point, Verdict::Proven)
        }
        .taking("restore", took)
    }

    /// Returns the same proof, with the time that a phase took.
    #[must_use]
    pub fn taking(mut self, phase: &'static str, took: Duration) -> Self {
        self.took.insert(phase, took);
        self
    }

    /// Returns the same proof, with what was compared. Where that is too long for the ledger, texts and lists are cut, and the counts stay.
    #[must_use]
    pub fn comparing(self, comparison: &Comparison) -> Self {
        Self {
            compared: bounded(comparison),
            ..self
        }
    }

    /// Returns what was compared.
    #[must_use]
    pub fn compared(&self) -> &Value {
        &self.compared
    }

    /// Returns the seconds of each phase, as a JSON object.
    pub(crate) fn seconds(&self) -> Value {
        let seconds = self.took.iter();
        seconds
            .map(|(phase, took)| ((*phase).to_owned(), took.as_secs_f64().into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

fn bounded(comparison: &Comparison) -> Value {
    let whole = clean(serde_json::to_value(comparison).unwrap_or_default());
    if whole.to_string().len() <= MOST_COMPARED {
        return whole;
    }
    let mut cut = comparison.clone();
    for difference in &mut cut.differences {
        shorten(&mut difference.name);
        difference.expected.as_mut().map(shorten);
        difference.found.as_mut().map(shorten);
    }
    for left_out in &mut cut.left_out {
        shorten(&mut left_out.name);
        shorten(&mut left_out.because);
    }
    loop {
        let value = clean(serde_json::to_value(&cut).unwrap_or_default());
        let lists = cut.differences.len() + cut.left_out.len();
        if value.to_string().len() <= MOST_COMPARED || lists == 0 {
            return value;
        }
        cut.differences.truncate(cut.differences.len() / 2);
        cut.left_out.truncate(cut.left_out.len() / 2);
    }
}

fn shorten(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push('…');
    }
}

/// Replaces NULs, which a customer's names can hold and PostgreSQL's JSON cannot.
fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace('\0', "\u{fffd}").into(),
        Value::Array(values) => values.into_iter().map(clean).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(key, value)| (key.replace('\0', "\u{fffd}"), clean(value)))
                    .collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use lastgood_jobs::contents::{Difference, Fact};

    use super::*;

    fn differing(names: usize, length: usize) -> Comparison {
        let differences = (0..names).map(|n| Difference {
            kind: "table".to_owned(),
            name: format!("public.t{n}\0{}", "é".repeat(length)),
            fact: Fact::Hash,
            expected: Some("a".repeat(length)),
            found: None,
        });
        Comparison {
            differing: 12_345,
            differences: differences.collect(),
            ..Comparison::default()
        }
    }

    #[test]
    fn a_comparison_that_is_too_long_is_cut_and_keeps_its_counts() -> Result<()> {
        for (names, length) in [(1, 1), (100, 10), (100, 10_000), (100_000, 100)] {
            let proof = NewProof::new(ProofKind::Drill, Uuid::nil(), Verdict::Proven)
                .comparing(&differing(names, length));
            let text = proof.compared().to_string();
            assert!(text.len() <= MOST_COMPARED, "{names} {length}");
            assert!(!text.contains("\\u0000"));
            let back: Comparison = serde_json::from_value(proof.compared().clone())?;
            assert_eq!(back.differing, 12_345);
            assert!(!back.differences.is_empty());
        }
        Ok(())
    }

    #[test]
    fn a_reason_is_never_empty_nor_too_long() {
        assert_eq!(Because::new("no_server", " ").sentence, "no server");
        let long = Because::new("too_large", "x\0".repeat(20_000));
        assert!(long.sentence.len() <= 8192);
    }
}
