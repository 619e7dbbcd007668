//! Whatever is done to a chain, the first proof that is not as it was is named.

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::proof::{ProofKind, ProofOutcome};

/// Returns a proof that continues the chain after `head`.
fn next(head: Head, recorded_at: DateTime<Utc>) -> Proof {
    let number = head.number + 1;
    let mut proof = Proof {
        number,
        version: 1,
        id: Uuid::from_u128(u128::from(number.unsigned_abs())),
        recorded_at,
        kind: ProofKind::Verification,
        outcome: ProofOutcome::Proven,
        because: None,
        because_kind: None,
        resource: "shop".to_owned(),
        team: "acme".to_owned(),
        tier: "pro".to_owned(),
        engine: "postgres".to_owned(),
        point: Uuid::from_u128(7),
        consistent_at: Some(recorded_at),
        archive_blake3: Some("ab".repeat(32)),
        archive_bytes: Some(1),
        dump_bytes: Some(2),
        run: Uuid::from_u128(8),
        attempt_id: Uuid::from_u128(9),
        consumer: "w".to_owned(),
        seconds: json!({ "read": 1.25, "fetch": 2 }),
        compared: json!({ "read": "whole", "stores": ["here"] }),
        previous_hash: head.hash.to_string(),
        hash: String::new(),
    };
    seal(&mut proof, head.hash);
    proof
}

fn seal(proof: &mut Proof, previous: Hash) {
    let fields = serde_json::to_value(&*proof).unwrap_or_default();
    proof.hash = canonical::hash(previous, &fields).to_string();
}

/// Returns a chain of so many proofs, and its head.
fn chain(length: i64) -> Result<(Vec<Proof>, Head)> {
    let mut at: DateTime<Utc> = "2031-03-05T09:00:00Z".parse()?;
    let (mut proofs, mut head) = (Vec::new(), Head::EMPTY);
    for _ in 0..length {
        at += TimeDelta::microseconds(123_457);
        let proof = next(head, at);
        head = Head {
            number: proof.number,
            hash: Hash::parse(&proof.hash).context("no hash")?,
        };
        proofs.push(proof);
    }
    Ok((proofs, head))
}

fn check(proofs: &[Proof], head: Head) -> Result<(), Broken> {
    ends_at(follow(Head::EMPTY, proofs)?, head)
}

#[rstest]
#[case::changed(|proofs: &mut Vec<Proof>| proofs[2].team = "other".to_owned(), Broken::Changed(3))]
#[case::a_failure_made_a_proof(|proofs: &mut Vec<Proof>| proofs[1].outcome = ProofOutcome::Failed, Broken::Changed(2))]
#[case::its_hash_too(|proofs: &mut Vec<Proof>| {
    proofs[2].dump_bytes = None;
    let previous = Hash::parse(&proofs[1].hash).unwrap();
    seal(&mut proofs[2], previous);
}, Broken::Detached(4))]
#[case::the_last_and_its_hash(|proofs: &mut Vec<Proof>| {
    proofs[4].dump_bytes = None;
    let previous = Hash::parse(&proofs[3].hash).unwrap();
    seal(&mut proofs[4], previous);
}, Broken::NotTheHead(5))]
#[case::removed(|proofs: &mut Vec<Proof>| drop(proofs.remove(1)), Broken::Missing(2))]
#[case::the_first_removed(|proofs: &mut Vec<Proof>| drop(proofs.remove(0)), Broken::Missing(1))]
#[case::the_last_removed(|proofs: &mut Vec<Proof>| drop(proofs.pop()), Broken::CutOff { first: 5, last: 5 })]
#[case::all_removed(|proofs: &mut Vec<Proof>| proofs.clear(), Broken::CutOff { first: 1, last: 5 })]
#[case::moved(|proofs: &mut Vec<Proof>| proofs.swap(1, 2), Broken::Missing(2))]
#[case::moved_and_renumbered(|proofs: &mut Vec<Proof>| {
    proofs.swap(1, 2);
    proofs[1].number = 2;
    proofs[2].number = 3;
}, Broken::Changed(2))]
#[case::added(|proofs: &mut Vec<Proof>| {
    let last = proofs[4].clone();
    let head = Head { number: 5, hash: Hash::parse(&last.hash).unwrap() };
    proofs.push(next(head, last.recorded_at));
}, Broken::Beyond(6))]
#[case::newer(|proofs: &mut Vec<Proof>| proofs[3].version = 2, Broken::Newer(4))]
fn a_chain_that_was_tampered_with_says_where(
    #[case] tamper: fn(&mut Vec<Proof>),
    #[case] broken: Broken,
) -> Result<()> {
    let (mut proofs, head) = chain(5)?;
    check(&proofs, head)?;
    tamper(&mut proofs);
    assert_eq!(check(&proofs, head), Err(broken));
    Ok(())
}

#[test]
fn what_is_read_from_json_has_the_same_hash() -> Result<()> {
    let (proofs, head) = chain(3)?;
    let back: Vec<Proof> = serde_json::from_str(&serde_json::to_string_pretty(&proofs)?)?;
    assert_eq!(back, proofs);
    Ok(check(&back, head)?)
}

proptest! {
    /// Every part of a proof is covered: whichever byte of its JSON is changed into another valid proof, its hash no longer fits.
    #[test]
    fn no_byte_of_a_proof_can_be_changed(place in 0_usize..900, byte in 0x20_u8..0x7f) {
        let (proofs, _) = chain(2).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let proof = &proofs[1];
        let mut text = serde_json::to_vec(proof).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let place = place % text.len();
        text[place] = byte;
        if let Ok(changed) = serde_json::from_slice::<Proof>(&text) {
            prop_assert_eq!(intact(&changed).is_ok(), changed == *proof);
        }
    }
}
