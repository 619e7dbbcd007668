//! The ledger of proofs is append-only, shows what somebody did to it all the same, and can be exported and verified without a catalog.

#![expect(
    clippy::indexing_slicing,
    reason = "what a JSON value does not have is null, and a test may panic"
)]

mod exports;

use anyhow::{Context as _, Result, ensure};
use lastgood::{nouns::Proof, proof::chain};
use rstest::rstest;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use crate::{cli::process::run_on, database::TestCatalog};

/// Records the proof of a verification, by the same statement as a finish.
pub(crate) async fn record(db: &TestCatalog, run: Uuid, point: Uuid) -> Result<Proof> {
    record_as(
        db,
        run,
        point,
        ("verification", None),
        &json!({ "stores": ["here"] }),
    )
    .await
}

/// Records a proof; `failed` says why the point is not proven.
pub(crate) async fn record_as(
    db: &TestCatalog,
    run: Uuid,
    point: Uuid,
    (kind, failed): (&str, Option<&str>),
    compared: &Value,
) -> Result<Proof> {
    let number: i64 = sqlx::query_scalar(
        "select lastgood.record_proof($1, gen_random_uuid(), 'worker', $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(run)
    .bind(kind)
    .bind(if failed.is_some() { "failed" } else { "proven" })
    .bind(failed)
    .bind(failed.map(|_| "damaged"))
    .bind(point)
    .bind(json!({ "read": 1.2345, "fetch": 2.0, "check": 0.0004 }))
    .bind(compared)
    .fetch_one(db.pool())
    .await?;
    Ok(db.catalog.proof_numbered(number).await?)
}

/// Returns a catalog in which team `acme` has a resource `shop`, and the id of a run of it.
async fn with_a_run() -> Result<(TestCatalog, Uuid)> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    let run = run_of(&db, "shop").await?;
    Ok((db, run))
}

/// Returns the id of a run of a resource that has ended.
pub(crate) async fn run_of(db: &TestCatalog, resource: &str) -> Result<Uuid> {
    let run = sqlx::query_scalar(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, finished_at)
         values ('postgres', 'verify', 'upkeep', $1, '{}', 'succeeded', now()) returning id",
    )
    .bind(resource)
    .fetch_one(db.pool())
    .await?;
    Ok(run)
}

/// Checks that the ledger is intact and has so many proofs.
pub(crate) async fn is_intact(db: &TestCatalog, proofs: i64) -> Result<()> {
    let said = run_on(db, &["--json", "proof", "check"]).await?;
    let checked = said.json()?;
    ensure!(said.code == 0 && checked["is_intact"] == true, "{said:?}");
    ensure!(checked["proofs"] == proofs, "{checked}");
    Ok(())
}

#[rstest]
#[case::update("update lastgood.proofs set team = 'other'")]
#[case::update_of_nothing("update lastgood.proofs set team = 'other' where false")]
#[case::delete("delete from lastgood.proofs")]
#[case::truncate("truncate lastgood.proofs")]
#[case::merge(
    "insert into lastgood.proofs select * from lastgood.proofs on conflict (number) do update set team = 'other'"
)]
#[case::the_head_back("update lastgood.proof_chain set number = 0")]
#[case::the_head_away("delete from lastgood.proof_chain")]
#[case::the_head_emptied("truncate lastgood.proof_chain")]
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_refuses_every_edit_even_a_superusers(
    #[case] edit: &'static str,
    #[values("origin", "replica")] role: &str,
) -> Result<()> {
    let (db, run) = with_a_run().await?;
    record(&db, run, Uuid::new_v4()).await?;
    let mut connection = db.pool().acquire().await?;
    let session = format!("set session_replication_role = {role}");
    sqlx::raw_sql(AssertSqlSafe(session))
        .execute(&mut *connection)
        .await?;
    let refused = sqlx::raw_sql(edit).execute(&mut *connection).await;
    let error = refused.err().context("it was accepted")?.to_string();
    ensure!(error.contains("append-only"), "{error}");
    connection.close_on_drop();
    drop(connection);
    is_intact(&db, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_ledger_has_no_right_to_edit_it() -> Result<()> {
    let (db, run) = with_a_run().await?;
    record(&db, run, Uuid::new_v4()).await?;
    let rights = "select count(*) from information_schema.role_table_grants
        where table_schema = 'lastgood' and table_name = 'proofs' and privilege_type in ('UPDATE', 'DELETE', 'TRUNCATE')";
    assert_eq!(db.count(rights).await?, 0);
    Ok(())
}

#[rstest]
#[case::changed(
    "update lastgood.proofs set outcome = 'proven', because = null, because_kind = null where number = 3",
    3,
    "changed"
)]
#[case::a_time_changed(
    "update lastgood.proofs set consistent_at = now() where number = 2",
    2,
    "changed"
)]
#[case::a_second_changed(
    "update lastgood.proofs set seconds = '{\"read\": 1}' where number = 2",
    2,
    "changed"
)]
#[case::rehashed(
    "update lastgood.proofs set team = 'other' where number = 2;
     update lastgood.proofs as p set hash = sha256(previous_hash || convert_to(lastgood.proof_as_hashed(p), 'UTF8')) where number = 2",
    3, "detached"
)]
#[case::removed("delete from lastgood.proofs where number = 2", 2, "missing")]
#[case::the_last_removed("delete from lastgood.proofs where number = 5", 5, "cut_off")]
#[case::the_last_two_removed("delete from lastgood.proofs where number > 3", 4, "cut_off")]
#[case::moved(
    "update lastgood.proofs set number = 100 where number = 2; update lastgood.proofs set number = 2 where number = 3;
     update lastgood.proofs set number = 3 where number = 100", 2, "changed"
)]
#[case::added(
    "insert into lastgood.proofs select (jsonb_populate_record(p, jsonb_build_object(
         'number', 6, 'id', gen_random_uuid(), 'attempt_id', gen_random_uuid(), 'hash', '\\x' || repeat('ab', 32)))).*
     from lastgood.proofs as p where number = 5", 6, "changed"
)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_superuser_does_without_the_triggers_is_found(
    #[case] edit: &'static str,
    #[case] broken_at: i64,
    #[case] kind: &str,
) -> Result<()> {
    let (db, run) = with_a_run().await?;
    for failed in [None, None, Some("it is damaged"), None, None] {
        record_as(
            &db,
            run,
            Uuid::new_v4(),
            ("verification", failed),
            &json!({}),
        )
        .await?;
    }
    is_intact(&db, 5).await?;
    let off = "alter table lastgood.proofs disable trigger all";
    sqlx::raw_sql(off).execute(db.pool()).await?;
    sqlx::raw_sql(edit).execute(db.pool()).await?;
    let said = run_on(&db, &["--json", "proof", "check"]).await?;
    let checked = said.json()?;
    ensure!(said.code == 1 && checked["is_intact"] == false, "{said:?}");
    ensure!(
        checked["broken_at"] == broken_at && checked["broken_kind"] == kind,
        "{checked}"
    );
    let text = run_on(&db, &["proof", "check"]).await?;
    ensure!(
        text.code == 1 && text.out.contains("BROKEN: proof"),
        "{text:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_gone_is_told() -> Result<()> {
    let (db, run) = with_a_run().await?;
    record(&db, run, Uuid::new_v4()).await?;
    sqlx::raw_sql(
        "alter table lastgood.proof_chain disable trigger all; delete from lastgood.proof_chain",
    )
    .execute(db.pool())
    .await?;
    let said = run_on(&db, &["proof", "check"]).await?;
    ensure!(
        said.code == 1 && said.err.contains("the head of the ledger is gone"),
        "{said:?}"
    );
    Ok(())
}

/// The catalog hashes what this build hashes, whatever is in the proof and whatever the session is set to.
#[rstest]
#[case::plain(json!({}))]
#[case::order(json!({ "b": { "z": 1, "aa": 2, "a": 3 }, "aa": [], "a": [{}, [], null, true, false] }))]
#[case::text(json!({ "é😀\u{ffff}": "\u{1}\u{7f}\u{2028}\"\\/\n\t\u{8}\u{c}", "": "" }))]
#[case::numbers(json!({ "most": 9_007_199_254_740_991_u64, "least": -9_007_199_254_740_991_i64, "none": 0 }))]
#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_and_this_build_hash_the_same(#[case] compared: Value) -> Result<()> {
    let (db, run) = with_a_run().await?;
    let first = record_as(
        &db,
        run,
        Uuid::new_v4(),
        ("drill", Some("ü\t\"x\"")),
        &compared,
    )
    .await?;
    chain::intact(&first)?;
    assert_eq!(
        first.seconds,
        json!({ "read": 1.235, "fetch": 2, "check": 0 })
    );
    let mut connection = db.pool().acquire().await?.detach();
    sqlx::raw_sql(
        "set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set extra_float_digits = -15; set bytea_output = 'escape';
         set intervalstyle = 'sql_standard'; set lc_numeric = 'C'; set xmloption = 'document'",
    )
    .execute(&mut connection)
    .await?;
    sqlx::query("select lastgood.record_proof($1, gen_random_uuid(), 'w', 'restore', 'proven', null, null, $2, '{}', $3)")
        .bind(run)
        .bind(Uuid::new_v4())
        .bind(compared)
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    is_intact(&db, 2).await
}

#[rstest]
#[case::a_fraction(json!({ "a": [1.5] }))]
#[case::a_number_beyond_a_double(json!({ "a": 9_007_199_254_740_993_u64 }))]
#[case::no_object(json!([]))]
#[tokio::test(flavor = "multi_thread")]
async fn what_readers_would_print_otherwise_is_refused(#[case] compared: Value) -> Result<()> {
    let (db, run) = with_a_run().await?;
    let refused = record_as(&db, run, Uuid::new_v4(), ("drill", None), &compared).await;
    ensure!(refused.is_err());
    is_intact(&db, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_has_one_proof_however_often_it_is_recorded() -> Result<()> {
    let (db, run) = with_a_run().await?;
    let (attempt, point) = (Uuid::new_v4(), Uuid::new_v4());
    for _ in 0..3 {
        let number: i64 = sqlx::query_scalar(
            "select lastgood.record_proof($1, $2, 'w', 'restore', 'proven', null, null, $3, '{}', '{}')",
        )
        .bind(run)
        .bind(attempt)
        .bind(point)
        .fetch_one(db.pool())
        .await?;
        assert_eq!(number, 1);
    }
    is_intact(&db, 1).await
}

/// The roles of deploy/grants/ledger.sql: services record proofs, an auditor reads them, and neither changes them.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_grants_of_the_ledger_services_append_and_auditors_read() -> Result<()> {
    let (db, run) = with_a_run().await?;
    let suffix = Uuid::new_v4().simple().to_string();
    let [services, ledger, auditor] = ["lastgood_services", "lastgood_ledger", "lastgood_auditor"]
        .map(|role| format!("{role}_{suffix}"));
    let grants = include_str!("../../deploy/grants/ledger.sql")
        .replace("lastgood_services", &services)
        .replace("lastgood_ledger", &ledger)
        .replace("lastgood_auditor", &auditor);
    let all = format!(
        "create role {services}; alter schema lastgood owner to {services};
         grant all on all tables in schema lastgood to {services}; {grants}"
    );
    sqlx::raw_sql(AssertSqlSafe(all)).execute(db.pool()).await?;
    let as_role = async |role: &str, statement: &str| {
        let mut transaction = db.pool().begin().await?;
        let statement = format!("set local role {role}; {statement}");
        let done = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await;
        if done.is_ok() {
            transaction.commit().await?;
        }
        Ok::<_, anyhow::Error>(done.is_ok())
    };
    let recording = format!(
        "select lastgood.record_proof('{run}', gen_random_uuid(), 'w', 'restore', 'proven', null, null, gen_random_uuid(), '{{}}', '{{}}')"
    );
    ensure!(
        as_role(&services, &recording).await?,
        "a service cannot record"
    );
    ensure!(
        as_role(
            &auditor,
            "select from lastgood.proofs, lastgood.proof_chain"
        )
        .await?
    );
    for (role, refused) in [
        (&services, "update lastgood.proofs set team = 'x'"),
        (&services, "delete from lastgood.proofs"),
        (&services, "alter table lastgood.proofs disable trigger all"),
        (&services, "drop table lastgood.proofs"),
        (&services, "drop trigger proofs_stay on lastgood.proofs"),
        (&auditor, "select from lastgood.resources"),
        (&auditor, "select from lastgood.signing_keys"),
        (
            &auditor,
            "update lastgood.proof_chain set number = number + 1",
        ),
    ] {
        ensure!(!as_role(role, refused).await?, "{role}: {refused}");
    }
    is_intact(&db, 1).await?;
    // Roles outlive the database.
    let gone = format!(
        "reassign owned by {services}, {ledger} to current_user; drop owned by {services}, {ledger}, {auditor}; \
         drop role {services}, {ledger}, {auditor}"
    );
    sqlx::raw_sql(AssertSqlSafe(gone))
        .execute(db.pool())
        .await?;
    Ok(())
}
