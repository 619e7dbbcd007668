//! A claim leaves alone what it cannot take: it waits for no other claim, and changes nothing of other queues or lanes.

use anyhow::{Result, ensure};
use lastgood_jobs::attempt::RunId;
use rstest::rstest;

use super::claims_by_hand::{Claim, ask};
use crate::{
    database::{TestCatalog, reads_of_runs},
    eventually::{SOON, eventually},
};

async fn resources(db: &TestCatalog, engine: &str, count: i32) -> Result<()> {
    sqlx::query(
        "insert into lastgood.resources (id, team, tier, engine, connection_ref)
         select $1 || '-' || i, 'acme', 'pro', $1, 'env:UNUSED' from generate_series(1, $2) as i",
    )
    .bind(engine)
    .bind(count)
    .execute(db.pool())
    .await?;
    Ok(())
}

#[rstest]
#[case::nothing(None, 1000)]
#[case::a_run_of_another_queue(Some("update lastgood.runs set queue = 'mongodb'"), 1000)]
#[case::a_run_of_another_lane(
    Some("update lastgood.runs set trigger = 'upkeep', kind = 'verify', priority = -10"),
    1000
)]
#[case::a_run_of_a_paused_engine(
    Some(
        "insert into lastgood.pauses (engine, because, by) values ('postgres', 'a test', 'a test')"
    ),
    1000
)]
#[case::a_run_and_no_slot(Some("select"), 0)]
#[tokio::test]
async fn a_claim_of_nothing_does_not_wait_for_its_turn(
    #[case] a_run_and: Option<&'static str>,
    #[case] at_most: i64,
) -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "postgres", 1).await?;
    if let Some(change) = a_run_and {
        ask(&db, "postgres", "backup", "postgres-1").await?;
        db.execute(change).await?;
    }
    let mut another = db.pool().begin().await?;
    sqlx::query("select from lastgood.claim_turn for update")
        .execute(&mut *another)
        .await?;
    let claim = Claim {
        at_most,
        lane: (0, i16::MAX),
        ..Claim::default()
    };
    ensure!(claim.runs(&db).await?.is_empty());
    let lines: Vec<String> = sqlx::query_scalar("select held_by from lastgood.runs")
        .fetch_all(db.pool())
        .await?;
    ensure!(lines.iter().all(String::is_empty), "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_claim_moves_no_line_but_those_of_its_queue_and_lane_that_have_room() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "postgres", 3).await?;
    resources(&db, "mongodb", 2).await?;
    db.execute(
        "insert into lastgood.pauses (tier, because, by) values ('gold', 'a test', 'a test')",
    )
    .await?;
    db.execute("update lastgood.resources set tier = 'gold' where id = 'postgres-3'")
        .await?;
    for (queue, kind, n, line) in [
        // Nothing holds these back any more.
        ("postgres", "backup", 1, "later"),
        ("postgres", "backup", 2, "pause /pro/"),
        // Nor these, but it is for their own queue's and lane's claim to see that.
        ("postgres", "verify", 2, "pause /pro/"),
        ("mongodb", "backup", 1, "later"),
        ("mongodb", "backup", 2, "pause /pro/"),
        ("postgres", "backup", 3, "pause /gold/"),
    ] {
        let id = ask(&db, queue, kind, &format!("{queue}-{n}")).await?;
        sqlx::query("update lastgood.runs set held_by = $2 where id = $1")
            .bind(id)
            .bind(line)
            .execute(db.pool())
            .await?;
    }
    let others = async || -> Result<Vec<(String, String, String)>> {
        let statement = "select resource_id, held_by, xmin::text from lastgood.runs
             where state = 'queued' and (queue <> 'postgres' or priority < 0 or held_by = 'pause /gold/')
             order by queue, priority, resource_id";
        Ok(sqlx::query_as(statement).fetch_all(db.pool()).await?)
    };
    let before = others().await?;
    assert_eq!(before.len(), 4);
    let claim = Claim {
        lane: (0, i16::MAX),
        ..Claim::default()
    };
    let own = ["postgres-1", "postgres-2"].map(|id| ("backup".to_owned(), id.to_owned()));
    assert_eq!(claim.take(&db).await?, own);
    assert_eq!(others().await?, before);
    Ok(())
}

/// Somebody lowered a limit while more than it allows was running.
#[tokio::test]
async fn a_limit_that_is_exceeded_holds_its_line_back_and_nothing_else() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "postgres", 4).await?;
    db.execute("update lastgood.resources set server = 'one:5432' where id <> 'postgres-4'")
        .await?;
    for n in 1..=3 {
        ask(&db, "postgres", "backup", &format!("postgres-{n}")).await?;
    }
    let two = Claim {
        server_slots: 2,
        ..Claim::default()
    };
    ensure!(two.runs(&db).await?.len() == 2);
    let one = Claim {
        server_slots: 1,
        ..Claim::default()
    };
    ensure!(one.runs(&db).await?.is_empty());
    ask(&db, "postgres", "backup", "postgres-4").await?;
    let other = [("backup".to_owned(), "postgres-4".to_owned())];
    assert_eq!(one.take(&db).await?, other);
    Ok(())
}

#[tokio::test]
async fn a_claim_reads_no_line_of_another_queue() -> Result<()> {
    let db = TestCatalog::create().await?;
    resources(&db, "mongodb", 3000).await?;
    resources(&db, "postgres", 2).await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, held_by)
           select engine, 'backup', 'adhoc', id, '{"kind": "backup"}', case id when 'postgres-2' then '' else 'server ' || id end
           from lastgood.resources"#,
    )
    .await?;
    // Were it no line of its own, the others would not be looked at either.
    db.execute("update lastgood.runs set held_by = 'server a' where resource_id = 'postgres-1'")
        .await?;
    db.execute("analyze lastgood.runs").await?;
    let mut transaction = db.pool().begin().await?;
    let before = reads_of_runs(&mut transaction).await?;
    let claimed: i64 = sqlx::query_scalar(
        "select count(*) from lastgood.claim('postgres', 2, 'w', interval '30 s', 9, 9, 0::smallint, 100::smallint)",
    )
    .fetch_one(&mut *transaction)
    .await?;
    assert_eq!(claimed, 2);
    let after = reads_of_runs(&mut transaction).await?;
    let rows = after.rows - before.rows;
    assert!(rows < 400, "{rows} rows were read for two runs");
    Ok(())
}

/// Between the choice of a run and its update, somebody may cancel it.
#[tokio::test]
async fn a_run_that_is_cancelled_while_it_is_chosen_is_neither_claimed_nor_held_back() -> Result<()>
{
    let db = TestCatalog::create().await?;
    resources(&db, "postgres", 2).await?;
    let chosen = ask(&db, "postgres", "backup", "postgres-1").await?;
    let held = ask(&db, "postgres", "backup", "postgres-2").await?;
    sqlx::query("update lastgood.runs set run_at = now() + interval '1 hour' where id = $1")
        .bind(held)
        .execute(db.pool())
        .await?;
    // The choice asks for each run's share, and waits here.
    db.execute(
        "create or replace function lastgood.team_share(kind text, team text) returns text language plpgsql as $$
         begin
             perform pg_advisory_xact_lock(1);
             return team;
         end $$",
    )
    .await?;
    let mut gate = db.pool().begin().await?;
    sqlx::query("select pg_advisory_xact_lock(1)")
        .execute(&mut *gate)
        .await?;
    let opened = async {
        eventually(SOON, "the claim chooses", async || {
            let waiting =
                "select exists (select from pg_locks where locktype = 'advisory' and not granted
                 and database = (select oid from pg_database where datname = current_database()))";
            Ok(sqlx::query_scalar(waiting).fetch_one(db.pool()).await?)
        })
        .await?;
        db.execute("update lastgood.runs set state = 'cancelled', finished_at = now()")
            .await?;
        gate.commit().await?;
        anyhow::Ok(())
    };
    let claim = Claim::default();
    let (claimed, opened) = tokio::join!(claim.runs(&db), opened);
    opened?;
    ensure!(claimed?.is_empty());
    let runs: Vec<(RunId, String, String)> =
        sqlx::query_as("select id, state, held_by from lastgood.runs order by resource_id")
            .fetch_all(db.pool())
            .await?;
    let cancelled = [chosen, held].map(|id| (id, "cancelled".to_owned(), String::new()));
    assert_eq!(runs, cancelled);
    Ok(())
}
