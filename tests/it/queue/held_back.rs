//! A claim costs the same, whatever is held back by a pause, a team's or a server's limit, a dump under way or a back-off.

use anyhow::Result;
use lastgood_jobs::attempt::RunId;
use rstest::rstest;
use sqlx::postgres::PgListener;

use super::claims_by_hand::{Claim, succeed};
use crate::{
    database::{TestCatalog, reads_of_runs},
    eventually::{SOON, within},
};

/// What holds back the loud team's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Pause,
    Team,
    Server,
    Dump,
    BackOff,
}

const HELD_BACK: i32 = 3000;

/// Creates many runs of a loud team that are held back and more urgent than those of a quiet team.
async fn held_back(gate: Gate) -> Result<TestCatalog> {
    let db = TestCatalog::create().await?;
    let (resources, backups) = match gate {
        Gate::Dump => (1, HELD_BACK),
        Gate::Pause | Gate::Team | Gate::Server | Gate::BackOff => (HELD_BACK, 1),
    };
    sqlx::query(
        "insert into lastgood.resources (id, team, tier, engine, connection_ref, server)
         select 'loud-' || i, 'loud', 'loudest', 'postgres', 'env:UNUSED', 'one:5432' from generate_series(1, $1) as i
         union all
         select 'quiet-' || i, 'quiet', 'pro', 'postgres', 'env:UNUSED', 'other-' || i || ':5432' from generate_series(1, 100) as i",
    )
    .bind(resources)
    .execute(db.pool())
    .await?;
    sqlx::query(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, due_by, run_at)
           select 'postgres', 'backup', 'adhoc', r.id, '{"kind": "backup"}',
               case when r.team = 'loud' then now() - interval '1 day' else now() end + i * interval '1 second',
               case when r.team = 'loud' and $2 then now() + interval '1 hour' else now() end
           from lastgood.resources as r cross join lateral generate_series(1, case when r.team = 'loud' then $1 else 1 end) as i"#,
    )
    .bind(backups)
    .bind(gate == Gate::BackOff)
    .execute(db.pool())
    .await?;
    match gate {
        Gate::Pause => {
            db.execute("insert into lastgood.pauses (tier, because, by) values ('loudest', 'a test', 'a test')")
                .await?;
        }
        // One of them runs.
        Gate::Team | Gate::Server | Gate::Dump => {
            db.execute(
                "update lastgood.runs set state = 'running', attempt = 1, epoch = 1, lease_by = 'w', lease_until = now() + interval '1 h'
                 where id = (select id from lastgood.runs where resource_id = 'loud-1' order by due_by limit 1)",
            )
            .await?;
        }
        Gate::BackOff => {}
    }
    db.execute("analyze lastgood.runs").await?;
    Ok(db)
}

fn claim(gate: Gate) -> Claim {
    Claim {
        at_most: 2,
        team_slots: Some(if gate == Gate::Team { 1 } else { 1000 }),
        server_slots: if gate == Gate::Server { 1 } else { 1000 },
        ..Claim::default()
    }
}

async fn let_go(db: &TestCatalog, gate: Gate) -> Result<()> {
    match gate {
        Gate::Pause => {
            db.execute("delete from lastgood.pauses").await?;
        }
        Gate::Team | Gate::Server | Gate::Dump => {
            let id: RunId = sqlx::query_scalar(
                "select id from lastgood.runs where state = 'running' and resource_id like 'loud%'",
            )
            .fetch_one(db.pool())
            .await?;
            succeed(db, id).await?;
        }
        Gate::BackOff => {
            db.execute("update lastgood.runs set run_at = now() where resource_id like 'loud%'")
                .await?;
        }
    }
    Ok(())
}

#[rstest]
#[case::a_pause(Gate::Pause)]
#[case::a_team_at_its_limit(Gate::Team)]
#[case::a_server_at_its_limit(Gate::Server)]
#[case::a_dump_under_way(Gate::Dump)]
#[case::a_back_off(Gate::BackOff)]
#[tokio::test]
async fn a_claim_passes_once_over_what_is_held_back(#[case] gate: Gate) -> Result<()> {
    let db = held_back(gate).await?;
    // The team does not matter: a claim may find any team at its limit.
    let claim = claim(gate);
    // A claim passes over at most two thousand runs, so the first one may find nothing else. It then calls for the next.
    let mut listener = PgListener::connect_with(db.pool()).await?;
    listener.listen("lastgood_runs").await?;
    let mut first = claim.take(&db).await?;
    let passed: i64 = sqlx::query_scalar("select count(*) from lastgood.runs where held_by <> ''")
        .fetch_one(db.pool())
        .await?;
    assert!((1..=2000).contains(&passed), "{passed}");
    if passed == 2000 {
        let called = within(SOON, "the next claim is called for", listener.recv()).await??;
        assert_eq!(called.payload(), "postgres");
    }
    if first.is_empty() {
        first = claim.take(&db).await?;
    }
    let quiet = if gate == Gate::Team { 1 } else { 2 };
    assert_eq!(first.len(), quiet, "{first:?}");
    assert!(
        first.iter().all(|(_, id)| id.starts_with("quiet-")),
        "{first:?}"
    );
    db.execute("update lastgood.resources set team = 'calm' where id > 'quiet-5'")
        .await?;

    let mut transaction = db.pool().begin().await?;
    let before = reads_of_runs(&mut transaction).await?;
    let claimed: i64 = sqlx::query_scalar(
        "select count(*) from lastgood.claim('postgres', 2, 'somebody', interval '30 s', $1, $2, 0::smallint, 100::smallint)",
    )
    .bind(claim.team_slots)
    .bind(claim.server_slots)
    .fetch_one(&mut *transaction)
    .await?;
    assert!((1..=2).contains(&claimed), "{claimed}");
    let after = reads_of_runs(&mut transaction).await?;
    assert_eq!(after.whole, before.whole, "all runs were read");
    let rows = after.rows - before.rows;
    assert!(rows < 400, "{rows} rows were read for two runs");
    let written: i64 = sqlx::query_scalar(
        "select count(*) from lastgood.runs where resource_id like 'loud%' and xmin = pg_current_xact_id()::xid",
    )
    .fetch_one(&mut *transaction)
    .await?;
    assert_eq!(written, 0, "a line moved although nothing had room");
    transaction.commit().await?;

    // What was held back is claimed again, the most urgent first.
    let_go(&db, gate).await?;
    let took = claim.runs(&db).await?;
    let urgent: Vec<RunId> = sqlx::query_scalar(
        "select id from lastgood.runs where resource_id like 'loud%' and state <> 'succeeded' order by due_by, run_at, id limit $1",
    )
    .bind(match gate {
        Gate::Pause => 2_i64,
        Gate::Team | Gate::Server | Gate::Dump => 1,
        // Runs whose back-off is over return a thousand at a time.
        Gate::BackOff => 0,
    })
    .fetch_all(db.pool())
    .await?;
    assert!(
        urgent.iter().all(|id| took.contains(id)),
        "{took:?} {urgent:?}"
    );
    let of = claim_of(&db, &took).await?;
    assert!(of.iter().any(|id| id.starts_with("loud-")), "{of:?}");
    Ok(())
}

async fn claim_of(db: &TestCatalog, runs: &[RunId]) -> Result<Vec<String>> {
    let of = sqlx::query_scalar("select resource_id from lastgood.runs where id = any ($1)")
        .bind(runs)
        .fetch_all(db.pool())
        .await?;
    Ok(of)
}

#[tokio::test]
async fn what_a_pause_held_back_is_free_when_its_resource_is_no_longer_covered() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "loudest").await?;
    super::workers::enqueue(&db, "shop").await?;
    db.execute(
        "insert into lastgood.pauses (tier, because, by) values ('loudest', 'a test', 'a test')",
    )
    .await?;
    let claim = Claim::default();
    assert_eq!(claim.runs(&db).await?.len(), 0);
    db.execute("update lastgood.resources set tier = 'pro'")
        .await?;
    assert_eq!(claim.runs(&db).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_two_pauses_hold_back_waits_for_the_end_of_both() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    super::workers::enqueue(&db, "shop").await?;
    db.execute(
        "insert into lastgood.pauses (tier, team, because, by) values ('pro', null, 'a', 'a'), (null, 'acme', 'b', 'b')",
    )
    .await?;
    let claim = Claim::default();
    assert_eq!(claim.runs(&db).await?.len(), 0);
    for (left, pause) in [(0, "team = 'acme'"), (1, "tier = 'pro'")] {
        let delete = format!("delete from lastgood.pauses where {pause}");
        sqlx::query(sqlx::AssertSqlSafe(delete))
            .execute(db.pool())
            .await?;
        assert_eq!(claim.runs(&db).await?.len(), left, "{pause}");
    }
    Ok(())
}
