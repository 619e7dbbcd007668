//! The ledger of proofs, and what is noted of drills.

use anyhow::Result;
use chrono::Utc;
use rstest::rstest;
use sqlx::AssertSqlSafe;

use super::{RESOURCE, point, refused};
use crate::database::TestCatalog;

/// Returns the statement that inserts a valid proof with these columns changed.
fn proof(changed: &[(&str, &str)]) -> String {
    let mut row = vec![
        ("number", "1"),
        ("version", "1"),
        ("id", "gen_random_uuid()"),
        ("recorded_at", "now()"),
        ("kind", "'drill'"),
        ("outcome", "'proven'"),
        ("resource_id", "'r'"),
        ("team", "'t'"),
        ("tier", "'pro'"),
        ("engine", "'postgres'"),
        ("point", "gen_random_uuid()"),
        ("run_id", "gen_random_uuid()"),
        ("attempt_id", "gen_random_uuid()"),
        ("worker", "'w'"),
        ("seconds", "'{}'"),
        ("compared", "'{}'"),
        ("previous_hash", "decode(repeat('00', 32), 'hex')"),
        ("hash", "decode(repeat('01', 32), 'hex')"),
    ];
    for (column, value) in changed {
        row.retain(|(known, _)| known != column);
        row.push((column, value));
    }
    let (columns, values): (Vec<_>, Vec<_>) = row.into_iter().unzip();
    format!(
        "insert into lastgood.proofs ({}) values ({})",
        columns.join(", "),
        values.join(", ")
    )
}

#[rstest]
#[case::of_no_number(&[("number", "0")], "proofs_are_counted_from_one")]
#[case::of_a_later_version(&[("version", "2")], "proofs_version_is_known")]
#[case::of_its_own_kind(&[("kind", "'rumour'")], "proofs_kind_is_known")]
#[case::of_its_own_outcome(
    &[("outcome", "'perhaps'"), ("because", "'x'"), ("because_kind", "'x'")],
    "proofs_outcome_is_known"
)]
#[case::a_reason_without_end(
    &[("outcome", "'failed'"), ("because", "repeat('x', 8193)"), ("because_kind", "'x'")],
    "proofs_because_is_bounded"
)]
#[case::a_reason_in_words(
    &[("outcome", "'failed'"), ("because", "'x'"), ("because_kind", "'Too large'")],
    "proofs_because_kind_is_a_word"
)]
#[case::unproven_for_no_reason(&[("outcome", "'failed'")], "proofs_all_but_proven_say_why")]
#[case::an_archive_in_clear(&[("archive_blake3", "'archive'")], "proofs_archive_is_hashed")]
#[case::seconds_by_position(&[("seconds", "'[]'")], "proofs_seconds_are_an_object")]
#[case::seconds_without_end(
    &[("seconds", "jsonb_build_object('x', repeat('x', 4097))")],
    "proofs_seconds_are_bounded"
)]
#[case::a_comparison_by_position(&[("compared", "'[]'")], "proofs_comparison_is_an_object")]
#[case::a_comparison_without_end(
    &[("compared", "jsonb_build_object('x', repeat('x', 262145))")],
    "proofs_comparison_is_bounded"
)]
#[case::a_comparison_in_fractions(&[("compared", "'{\"rows\": 1.5}'")], "proofs_comparison_counts")]
#[case::a_short_hash(&[("hash", "'x'")], "proofs_hash_is_sha256")]
#[case::a_short_hash_before(&[("previous_hash", "'x'")], "proofs_previous_hash_is_sha256")]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_proof_is_refused(
    #[case] changed: &[(&str, &str)],
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    refused(&db, &proof(changed), constraint).await?;
    sqlx::query(AssertSqlSafe(proof(&[])))
        .execute(db.pool())
        .await?;
    Ok(())
}

#[rstest]
#[case::two_heads(
    "insert into lastgood.proof_chain (only_row, number, hash) values (false, 0, decode(repeat('00', 32), 'hex'))",
    "proof_chain_is_one_row"
)]
#[case::fewer_than_none(
    "insert into lastgood.proof_chain (number, hash) values (-1, decode(repeat('00', 32), 'hex'))",
    "proof_chain_counts"
)]
#[case::a_short_head(
    "insert into lastgood.proof_chain (number, hash) values (1, 'x')",
    "proof_chain_hash_is_sha256"
)]
#[case::a_short_key(
    "insert into lastgood.signing_keys (id, public_key, seed_sealed, sealed_under) values (gen_random_uuid(), 'x', 'x', 1)",
    "signing_keys_public_key_is_ed25519"
)]
#[case::a_key_without_its_secret(
    "insert into lastgood.signing_keys (id, public_key, sealed_under) values (gen_random_uuid(), decode(repeat('00', 32), 'hex'), 1)",
    "signing_keys_retired_has_no_seed"
)]
#[case::drilled_somehow(
    "update lastgood.restore_points set drilled_at = now(), drill_outcome = 'somehow'",
    "restore_points_drill_outcome_is_known"
)]
#[case::drilled_to_no_end(
    "update lastgood.restore_points set drilled_at = now()",
    "restore_points_drill_has_an_outcome"
)]
#[case::a_resource_drilled_somehow(
    "update lastgood.resources set drill_tried_at = now(), drill_outcome = 'somehow'",
    "resources_drill_outcome_is_known"
)]
#[case::a_resource_drilled_to_no_end(
    "update lastgood.resources set drill_tried_at = now()",
    "resources_drill_has_an_outcome"
)]
#[case::a_reason_without_end(
    "update lastgood.resources set drill_because = repeat('x', 8193)",
    "resources_drill_reason_is_bounded"
)]
#[case::fewer_drills_than_none(
    "update lastgood.resources set drills = -1",
    "resources_drills_count"
)]
#[case::a_restore_that_ends_before_it_begins(
    "update lastgood.resources set restore_seconds = -1",
    "resources_restore_takes_time"
)]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_note_of_a_drill_is_refused(
    #[case] statement: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(RESOURCE).await?;
    point(&db, "r", Utc::now()).await?;
    refused(&db, statement, constraint).await
}
