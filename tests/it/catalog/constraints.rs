//! What must hold is a constraint of the schema: each one refuses a spoiled row.

mod proofs;

use anyhow::{Context as _, Result};
use chrono::Utc;
use rstest::rstest;
use sqlx::AssertSqlSafe;

use super::point;
use crate::database::TestCatalog;

/// A valid row. Each case spoils one thing about it.
const RESOURCE: &str = "insert into lastgood.resources (id, team, tier, engine, connection_ref) values ('r', 't', 'pro', 'postgres', 'env:URL')";

/// Spoils a valid row of `resources`.
#[rstest]
#[case::a_path_as_id("id = '../etc'", "resources_id_is_a_name")]
#[case::two_dots_in_an_id("id = 'a..b'", "resources_id_is_a_name")]
#[case::an_empty_id("id = ''", "resources_id_is_a_name")]
#[case::a_line_break_in_an_id("id = E'a\\n'", "resources_id_is_a_name")]
#[case::a_long_id("id = repeat('a', 129)", "resources_id_is_a_name")]
#[case::a_team_with_a_space("team = 'a b'", "resources_team_is_a_name")]
#[case::a_tier_with_a_slash("tier = 'a/b'", "resources_tier_is_a_name")]
#[case::options_that_are_a_list("options = '[]'", "resources_options_are_an_object")]
#[case::an_engine_in_capitals("engine = 'Postgres'", "resources_engine_is_a_word")]
#[case::a_status_of_its_own("status = 'asleep'", "resources_status_is_known")]
#[case::a_transport_in_many_words("transport = repeat('x', 501)", "resources_transport_is_short")]
#[case::a_url_in_clear(
    "connection_ref = 'postgresql://u:p@h/db'",
    "resources_connection_ref_is_a_reference"
)]
#[case::no_connection("connection_ref = null", "resources_one_connection")]
#[case::two_connections("connection_sealed = '\\x01'", "resources_one_connection")]
#[case::a_server_with_a_user("server = 'user@host:5432'", "resources_server_is_a_host")]
#[case::a_server_in_capitals("server = 'Host:5432'", "resources_server_is_a_host")]
#[case::a_cadence_too_short("cadence_minutes = 4", "resources_cadence_is_possible")]
#[case::a_cadence_too_long("cadence_minutes = 1441", "resources_cadence_is_possible")]
#[case::a_cadence_of_its_own_too_short(
    "strict_cadence_minutes = 4, strict_rpo_minutes = 60",
    "resources_strict_cadence_is_possible"
)]
#[case::a_cadence_of_its_own_for_no_rpo(
    "strict_cadence_minutes = 45, strict_rpo_minutes = 0",
    "resources_strict_rpo_is_positive"
)]
#[case::a_cadence_of_its_own_and_no_rpo(
    "strict_cadence_minutes = 45",
    "resources_strict_cadence_is_of_an_rpo"
)]
#[case::failures_below_zero("failures_in_a_row = -1", "resources_failures_count")]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_resource_is_refused(
    #[case] change: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(RESOURCE).await?;
    refused(
        &db,
        &format!("update lastgood.resources set {change}"),
        constraint,
    )
    .await
}

const RUN: &str = r#"insert into lastgood.runs (queue, kind, trigger, resource_id, slot, args)
    values ('postgres', 'backup', 'scheduled', 'r', '2031-03-05', '{"kind": "backup"}')"#;

#[rstest]
#[case::a_queue_in_capitals("queue = 'Postgres'", "runs_queue_is_a_word")]
#[case::a_kind_of_its_own("kind = 'teleport'", "runs_kind_is_known")]
#[case::a_trigger_of_its_own("trigger = 'whim', slot = null", "runs_trigger_is_known")]
#[case::an_empty_key("idempotency_key = ''", "runs_idempotency_key_is_short")]
#[case::a_long_key("idempotency_key = repeat('a', 256)", "runs_idempotency_key_is_short")]
#[case::a_request_by_position("asked = '[]'", "runs_asked_is_an_object")]
#[case::a_payload_by_position("args = '[]'", "runs_args_are_an_object")]
#[case::a_state_of_its_own("state = 'lost'", "runs_state_is_known")]
#[case::more_attempts_than_allowed(
    "attempt = 6, epoch = 6, state = 'succeeded', finished_at = now()",
    "runs_attempts_are_bounded"
)]
#[case::waiting_with_no_attempt_left("attempt = 5, epoch = 5", "runs_queued_can_be_attempted")]
#[case::attempts_below_zero("attempt = -1", "runs_attempts_are_bounded")]
#[case::a_token_that_was_not_raised("attempt = 1", "runs_epoch_counts")]
#[case::running_without_a_lease("state = 'running'", "runs_lease_iff_running")]
#[case::half_a_lease("state = 'running', lease_by = 'w'", "runs_lease_iff_running")]
#[case::a_lease_on_what_waits("lease_by = 'w', lease_until = now()", "runs_lease_iff_running")]
#[case::ended_at_no_time("state = 'succeeded'", "runs_finished_iff_ended")]
#[case::finished_yet_waiting("finished_at = now()", "runs_finished_iff_ended")]
#[case::failed_for_no_reason("state = 'failed', finished_at = now()", "runs_failure_says_why")]
#[case::scheduled_without_a_slot("slot = null", "runs_slot_iff_scheduled")]
#[case::a_slot_for_an_ad_hoc_run("trigger = 'adhoc'", "runs_slot_iff_scheduled")]
#[case::a_scheduled_restore("kind = 'restore'", "runs_only_backups_are_scheduled")]
#[case::an_error_without_end("error = repeat('x', 32769)", "runs_error_is_bounded")]
#[case::a_tool_that_talks("error_detail = repeat('x', 131073)", "runs_error_detail_is_bounded")]
#[case::of_nothing("resource_id = 'nobody'", "runs_resource_id_fkey")]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_run_is_refused(
    #[case] change: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(RESOURCE).await?;
    db.execute(RUN).await?;
    refused(
        &db,
        &format!("update lastgood.runs set {change}"),
        constraint,
    )
    .await
}

#[rstest]
#[case::the_same_slot_while_queued("queued", "'2031-03-05'", "runs_one_per_slot")]
#[case::the_same_slot_once_done("succeeded", "'2031-03-05'", "runs_one_per_slot")]
#[case::another_slot_while_queued("queued", "'2031-03-06'", "runs_one_live_schedule")]
#[tokio::test(flavor = "multi_thread")]
async fn a_second_scheduled_backup_is_refused(
    #[case] state: &str,
    #[case] slot: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(RESOURCE).await?;
    db.execute(RUN).await?;
    if state == "succeeded" {
        db.execute("update lastgood.runs set state = 'succeeded', finished_at = now()")
            .await?;
    }
    refused(&db, &RUN.replace("'2031-03-05'", slot), constraint).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_failed_or_was_cancelled_is_free_again() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(RESOURCE).await?;
    for end in [
        "update lastgood.runs set state = 'failed', finished_at = now(), error_kind = 'dump', error = 'x' where state = 'queued'",
        "update lastgood.runs set state = 'cancelled', finished_at = now() where state = 'queued'",
    ] {
        db.execute(RUN).await?;
        db.execute(end).await?;
    }
    db.execute(RUN).await?;
    assert_eq!(db.count("select count(*) from lastgood.runs").await?, 3);
    Ok(())
}

#[rstest]
#[case::an_empty_dump("dump_bytes = 0", "restore_points_dump_is_not_empty")]
#[case::an_empty_archive("stored_bytes = 0", "restore_points_archive_is_not_empty")]
#[case::a_manifest_by_position("manifest = '[]'", "restore_points_manifest_is_an_object")]
#[case::of_nothing("resource_id = 'nobody'", "restore_points_resource_id_fkey")]
#[case::set_aside_for_no_reason("quarantined_at = now()", "restore_points_quarantine_has_a_reason")]
#[case::pinned_for_no_reason("pinned_at = now()", "restore_points_pin_has_a_reason")]
#[case::held_for_no_reason("held_at = now()", "restore_points_hold_has_a_reason")]
#[case::expired_for_no_reason("expired_at = now()", "restore_points_expiry_has_a_reason")]
#[case::removed_yet_kept(
    "removal_began_at = now()",
    "restore_points_only_expired_ones_are_removed"
)]
#[case::suspect_for_no_reason("suspected_at = now()", "restore_points_suspicion_has_a_reason")]
#[case::confirmed_for_no_reason("confirmed_at = now()", "restore_points_confirmation_has_a_reason")]
#[case::suspect_and_confirmed(
    "suspected_at = now(), suspected_of = '{shrunk}', suspected_because = 'x', confirmed_at = now(), confirmed_because = 'y'",
    "restore_points_confirmed_are_not_suspect"
)]
#[case::damage_without_end(
    "quarantined_at = now(), quarantined_because = repeat('x', 32769)",
    "restore_points_quarantine_is_bounded"
)]
#[case::a_refusal_without_end(
    "expired_at = now(), expired_because = 'x', refused_at = now(), refused_because = repeat('x', 32769)",
    "restore_points_refusal_is_bounded"
)]
#[case::refused_for_no_reason("refused_at = now()", "restore_points_refusal_has_a_reason")]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_restore_point_is_refused(
    #[case] change: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(RESOURCE).await?;
    point(&db, "r", Utc::now()).await?;
    refused(
        &db,
        &format!("update lastgood.restore_points set {change}"),
        constraint,
    )
    .await
}

#[rstest]
#[case::no_slots("slots = 0", "consumers_have_slots")]
#[case::capabilities_that_are_no_list("capabilities = '{}'", "consumers_capabilities_are_a_list")]
#[case::a_state_of_its_own("state = 'asleep'", "consumers_state_is_known")]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_consumer_is_refused(
    #[case] change: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(
        "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities)
         values ('c', 'h', 1, '0', '{postgres}', 1, '[]')",
    )
    .await?;
    refused(
        &db,
        &format!("update lastgood.consumers set {change}"),
        constraint,
    )
    .await
}

#[rstest]
#[case::a_store_that_is_a_path(
    "copies (point_id, store) values (gen_random_uuid(), '../x')",
    "copies_store_is_a_name"
)]
#[case::a_record_by_position(
    "retention (resource_id, record) values ('x', '[]')",
    "retention_record_is_an_object"
)]
#[case::a_key_of_a_path(
    "archive_keys (team, recipient, identity_sealed) values ('a..b', 'age1x', 'x')",
    "archive_keys_team_is_a_name"
)]
#[case::a_key_that_is_none(
    "archive_keys (recipient, identity_sealed) values ('AGE-SECRET-KEY-1', 'x')",
    "archive_keys_recipient_is_age"
)]
#[case::a_master_key_without_a_number(
    "master_keys (number, proof) values (0, 'x')",
    "master_keys_are_counted_from_one"
)]
#[case::a_key_without_its_secret(
    "archive_keys (recipient) values ('age1x')",
    "archive_keys_shredded_has_no_identity"
)]
#[case::a_shredded_key_in_use(
    "archive_keys (recipient, shredded_at) values ('age1x', now())",
    "archive_keys_shredded_is_retired"
)]
#[case::an_attempt_that_ended_somehow(
    "attempts (run_id, epoch, attempt, worker, started_at, ended_at, result, dump_bytes, stored_bytes)
     values (gen_random_uuid(), 1, 1, 'w', now(), now(), 'somehow', 0, 0)",
    "attempts_result_is_known"
)]
#[case::a_pause_of_an_engine_in_capitals(
    "pauses (engine, because, by) values ('Postgres', 'b', 'me')",
    "pauses_engine_is_a_word"
)]
#[case::a_pause_of_a_tier_without_a_name(
    "pauses (tier, because, by) values ('', 'b', 'me')",
    "pauses_tier_is_a_name"
)]
#[case::a_pause_of_a_team_without_a_name(
    "pauses (team, because, by) values ('', 'b', 'me')",
    "pauses_team_is_a_name"
)]
#[case::a_store_of_a_path("stores (name) values ('../x')", "stores_name_is_a_name")]
#[case::a_token_of_a_path(
    "tokens (id, name, hash, scopes) values (gen_random_uuid(), 'a..b', decode(repeat('00', 32), 'hex'), '{read}')",
    "tokens_name_is_a_name"
)]
#[case::a_token_in_clear(
    "tokens (id, name, hash, scopes) values (gen_random_uuid(), 'a', 'secret', '{read}')",
    "tokens_hash_is_blake3"
)]
#[case::a_token_for_nothing(
    "tokens (id, name, hash, scopes) values (gen_random_uuid(), 'a', decode(repeat('00', 32), 'hex'), '{}')",
    "tokens_scopes_are_known"
)]
#[case::a_token_of_no_team(
    "tokens (id, name, hash, scopes, team) values (gen_random_uuid(), 'a', decode(repeat('00', 32), 'hex'), '{read}', '..')",
    "tokens_team_is_a_name"
)]
#[case::a_tick_without_end(
    "producers (id, version, tick_seconds, plans_blake3, verify_within_seconds) values ('p', '0', 0, repeat('0', 64), 0)",
    "producers_tick_takes_time"
)]
#[case::plans_in_clear(
    "producers (id, version, tick_seconds, plans_blake3, verify_within_seconds) values ('p', '0', 1, 'pro: 60', 0)",
    "producers_plans_are_hashed"
)]
#[case::verified_before_it_was_made(
    "producers (id, version, tick_seconds, plans_blake3, verify_within_seconds) values ('p', '0', 1, repeat('0', 64), -1)",
    "producers_verify_within_is_a_time"
)]
#[case::a_store_of_a_path_that_is_listed(
    "store_listings (store, began_at) values ('../x', now())",
    "store_listings_store_is_a_name"
)]
#[case::a_listing_that_failed_for_no_reason(
    "store_listings (store, began_at, failed_at) values ('x', now(), now())",
    "store_listings_failure_has_a_reason"
)]
#[case::a_fault_in_many_words(
    "store_faults (store, consumer_id, why) values ('x', 'c', repeat('x', 2001))",
    "store_faults_are_short"
)]
#[case::dumps_of_nothing(
    "dump_limits (tier, maximum_dump_bytes) values ('pro', 0)",
    "dump_limits_are_positive"
)]
#[case::a_closed_database_without_a_name(
    "closed_databases (run_id, resource_id, database) values (gen_random_uuid(), 'shop', '')",
    "closed_databases_database_check"
)]
#[case::a_closed_database_and_many_words(
    "closed_databases (run_id, resource_id, database, error) values (gen_random_uuid(), 'shop', 'd', repeat('x', 2001))",
    "closed_databases_error_check"
)]
#[case::two_rows_of_limits("adhoc_limits (only_row) values (false)", "adhoc_limits_is_one_row")]
#[case::two_turns("claim_turn (only_row) values (false)", "claim_turn_is_one_row")]
#[case::fewer_backups_than_none(
    "adhoc_limits (per_resource) values (-1)",
    "adhoc_limits_per_resource_counts"
)]
#[case::fewer_backups_of_a_team_than_none(
    "adhoc_limits (per_team) values (-1)",
    "adhoc_limits_per_team_counts"
)]
#[case::fewer_resources_than_none(
    "adhoc_limits (resources_per_team) values (-1)",
    "adhoc_limits_resources_per_team_count"
)]
#[case::an_attempts_error_without_end(
    "attempts (run_id, epoch, attempt, worker, started_at, ended_at, result, dump_bytes, stored_bytes, error)
     values (gen_random_uuid(), 1, 1, 'w', now(), now(), 'failed', 0, 0, repeat('x', 32769))",
    "attempts_error_is_bounded"
)]
#[case::an_attempts_tool_that_talks(
    "attempts (run_id, epoch, attempt, worker, started_at, ended_at, result, dump_bytes, stored_bytes, tool_words)
     values (gen_random_uuid(), 1, 1, 'w', now(), now(), 'failed', 0, 0, repeat('x', 131073))",
    "attempts_tool_words_are_bounded"
)]
#[case::two_records_of_plans(
    "plans_on_record (is_only, known, tiers, cadences, rpos) values (false, '{}', '{}', '{}', '{}')",
    "plans_on_record_is_one_row"
)]
#[case::a_tier_without_a_cadence(
    "plans_on_record (known, tiers, cadences, rpos) values ('{pro}', '{pro}', '{}', '{60}')",
    "plans_on_record_are_of_one_length"
)]
#[case::a_hold_of_no_rpo(
    "strict_holds (resource_id, planned_at, rpo_minutes) values ('shop', now(), 0)",
    "strict_holds_rpo_is_positive"
)]
#[case::a_hold_from_fewer_backups_than_none(
    "strict_holds (resource_id, backups) values ('shop', -1)",
    "strict_holds_backups_count"
)]
#[case::a_hold_of_backups_that_end_before_they_begin(
    "strict_holds (resource_id, takes_seconds) values ('shop', -1)",
    "strict_holds_takes_time"
)]
#[case::half_a_hold(
    "strict_holds (resource_id, planned_at) values ('shop', now())",
    "strict_holds_are_planned_as_a_whole"
)]
#[case::infeasible_without_a_reason(
    "strict_holds (resource_id, planned_at, rpo_minutes, is_infeasible) values ('shop', now(), 60, true)",
    "strict_holds_infeasible_says_why"
)]
#[case::work_in_words(
    "leadership (work, holder, until) values ('All of it', 'p', now())",
    "leadership_work_is_a_word"
)]
#[case::two_measurements(
    "measured (is_only, at, figures) values (false, now(), '{}')",
    "measured_is_one_row"
)]
#[case::two_versions_of_functions(
    "functions_in_force (is_only) values (false)",
    "functions_in_force_is_one_row"
)]
#[case::figures_by_position(
    "measured (at, figures) values (now(), '[]')",
    "measured_figures_are_an_object"
)]
#[case::an_act_in_words(
    "audit (actor, action) values ('root', 'Did it')",
    "audit_action_is_a_word"
)]
#[case::details_by_position(
    "audit (actor, action, detail) values ('root', 'pin', '[]')",
    "audit_detail_is_an_object"
)]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_record_of_upkeep_is_refused(
    #[case] row: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    refused(&db, &format!("insert into lastgood.{row}"), constraint).await
}

#[rstest]
#[case::a_service_of_its_own(
    "resource_changes (resource_id, at, team, tier, engine, service) values ('r', now(), 't', 'pro', 'postgres', 'asleep')",
    "resource_changes_service_is_known"
)]
#[case::a_promise_below_zero(
    "tier_promises (tier, since, rpo_minutes, tolerance_minutes) values ('pro', now(), -1, 0)",
    "tier_promises_rpo_is_a_time"
)]
#[case::a_tolerance_below_zero(
    "tier_promises (tier, since, rpo_minutes, tolerance_minutes) values ('pro', now(), 60, -1)",
    "tier_promises_tolerance_is_a_time"
)]
#[case::two_last_ticks(
    "last_tick (is_only, at) values (false, now())",
    "last_tick_is_one_row"
)]
#[case::more_broken_than_promised(
    "promise_days values ('2031-03-05', 'r', 't', 'pro', 60, 600, 600, 601, 0, 0, 4000)",
    "promise_days_add_up"
)]
#[case::more_than_a_day(
    "promise_days values ('2031-03-05', 'r', 't', 'pro', 60, 86400, 0, 0, 600, 0, 4000)",
    "promise_days_add_up"
)]
#[case::a_slice_of_no_time(
    "promise_slices values (now(), 'pro', now(), 0, 0)",
    "promise_slices_last"
)]
#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_record_of_a_promise_is_refused(
    #[case] row: &str,
    #[case] constraint: &str,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    db.execute(RESOURCE).await?;
    refused(&db, &format!("insert into lastgood.{row}"), constraint).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_of_the_schema_is_one_that_these_tests_refuse_something_by() -> Result<()> {
    let db = TestCatalog::create().await?;
    let checks: Vec<String> = sqlx::query_scalar(
        "select conname::text from pg_constraint where connamespace = 'lastgood'::regnamespace and contype = 'c'",
    )
    .fetch_all(db.pool())
    .await?;
    assert!(checks.len() > 25, "{checks:?}");
    let here = [include_str!("constraints.rs"), include_str!("constraints/proofs.rs")].concat();
    let untested: Vec<_> = checks
        .iter()
        .filter(|check| !here.contains(&format!("\"{check}\"")))
        .collect();
    assert!(untested.is_empty(), "{untested:?}");
    Ok(())
}

/// Runs a statement that the named constraint must refuse.
async fn refused(db: &TestCatalog, statement: &str, constraint: &str) -> Result<()> {
    let refused = sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(db.pool())
        .await
        .err()
        .with_context(|| format!("accepted: {statement}"))?;
    let by = refused
        .as_database_error()
        .and_then(|error| error.constraint());
    assert_eq!(by, Some(constraint), "{refused}");
    Ok(())
}
