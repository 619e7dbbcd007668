//! Queries over the whole fleet read only what they return, however many resources and runs there are, and one producer at a time runs
//! them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use lastgood::{
    catalog::{RunFilter, Work},
    plan::Cadence,
    run::{RunKind, RunState},
};
use lastgood_jobs::attempt::RunId;
use rstest::rstest;
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgArguments, query::Query};

use crate::database::TestCatalog;

/// Creates a fleet of several thousand resources, planned, backed up, copied and proven as they should be.
async fn fleet() -> Result<TestCatalog> {
    let db = TestCatalog::create().await?;
    for statement in [
        "insert into lastgood.resources (id, team, tier, engine, connection_ref, newest_consistent_at, created_at)
         select 'r' || n, 't' || n % 500, case when n % 2 = 0 then 'pro' else 'hobby' end, 'postgres', 'env:URL',
             case when n % 10 <> 0 then now() - make_interval(secs => 1800 * random()) end, now() - interval '9 days'
         from generate_series(1, 4000) as n",
        "update lastgood.resources set cadence_minutes = case tier when 'pro' then 60 else 1440 end, next_due_at = now() + interval '30 minutes'",
        "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         select gen_random_uuid(), id, newest_consistent_at, id, '{\"consistency\": \"snapshot\"}', 1, 1
         from lastgood.resources where newest_consistent_at is not null",
        "update lastgood.restore_points set verified_at = now() - interval '1 day'",
        "insert into lastgood.copies (point_id, store, stored_at, verified_at)
         select id, 'primary', created_at, verified_at from lastgood.restore_points",
        "insert into lastgood.runs (queue, kind, trigger, resource_id, slot, args, state, attempt, epoch, created_at, finished_at)
         select 'postgres', 'backup', 'scheduled', id, date_trunc('hour', now()), '{}', 'succeeded', 1, 1,
             now() - make_interval(secs => 3600 * random()), now()
         from lastgood.resources",
    ] {
        db.execute(statement).await?;
    }
    db.execute("vacuum (analyze)").await?;
    Ok(db)
}

/// Returns how many rows this session has read from all tables, including full scans.
async fn rows_read(session: &mut PgConnection) -> Result<i64> {
    let rows = sqlx::query_scalar(
        "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_user_tables where schemaname = 'lastgood'",
    )
    .fetch_one(session)
    .await?;
    Ok(rows)
}

/// Runs one of our statements in a transaction that is rolled back, and returns how many rows it returned and how many it read.
async fn measured(
    db: &TestCatalog,
    file: &str,
    bind: impl for<'q> FnOnce(
        Query<'q, sqlx::Postgres, PgArguments>,
    ) -> Query<'q, sqlx::Postgres, PgArguments>,
) -> Result<(u64, i64)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let statement = std::fs::read_to_string(path)?;
    let mut transaction = db.pool().begin().await?;
    sqlx::query("set local plan_cache_mode = force_custom_plan")
        .execute(&mut *transaction)
        .await?;
    let before = rows_read(&mut transaction).await?;
    let done = bind(sqlx::query(AssertSqlSafe(statement)))
        .execute(&mut *transaction)
        .await?;
    let read = rows_read(&mut transaction).await? - before;
    transaction.rollback().await?;
    Ok((done.rows_affected(), read))
}

fn tiers() -> Vec<String> {
    vec!["pro".to_owned(), "hobby".to_owned()]
}

const APPLY: &str = "src/producer/apply_plans.sql";
const VERIFY: &str = "src/producer/upkeep/verify.sql";

async fn applied(db: &TestCatalog) -> Result<(u64, i64)> {
    applied_with(db, Vec::new()).await
}

async fn applied_with(db: &TestCatalog, strict: Vec<String>) -> Result<(u64, i64)> {
    measured(db, APPLY, |query| {
        query
            .bind(tiers())
            .bind(vec![60, 1440])
            .bind(None::<Vec<String>>)
            .bind(strict)
            .bind(Cadence::HELD.map(Cadence::minutes))
            .bind(vec![60, 1440])
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_reads_no_more_where_each_resource_has_a_cadence_of_its_own() -> Result<()> {
    let db = fleet().await?;
    db.execute(
        "update lastgood.resources set strict_cadence_minutes = 45, strict_rpo_minutes = 60, cadence_minutes = 45
         where tier = 'pro' and id like '%4'",
    )
    .await?;
    db.execute("vacuum (analyze)").await?;
    let strict = vec!["pro".to_owned()];
    let (changed, read) = applied_with(&db, strict.clone()).await?;
    ensure!(changed == 0 && read <= 50, "{changed} of {read} read");
    for (wrong, expected) in [
        (
            "update lastgood.resources set cadence_minutes = 60 where id = 'r4'",
            1,
        ),
        (
            "update lastgood.resources set next_due_at = null where id = 'r14'",
            2,
        ),
        (
            "update lastgood.resources set next_due_at = now() + interval '95 minutes' where id = 'r24'",
            3,
        ),
    ] {
        db.execute(wrong).await?;
        let (changed, read) = applied_with(&db, strict.clone()).await?;
        ensure!(
            changed == expected && read <= 50,
            "{wrong}: {changed} of {read} read"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_cadences_reads_the_resources_that_are_due_and_not_their_runs() -> Result<()> {
    let db = fleet().await?;
    db.execute(
        "insert into lastgood.strict_holds (resource_id, look_at)
         select id, case when id like '%44' then now() else now() + interval '5 hours' end from lastgood.resources",
    )
    .await?;
    db.execute("vacuum (analyze)").await?;
    let due = measured(&db, "src/producer/upkeep/due_holds.sql", |query| {
        query.bind(500_i64)
    });
    let (found, read) = due.await?;
    ensure!(found == 40 && read <= 200, "{found} of {read} read");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_reads_what_is_planned_wrongly_and_nothing_else() -> Result<()> {
    let db = fleet().await?;
    let (changed, read) = applied(&db).await?;
    ensure!(changed == 0 && read <= 50, "{changed} of {read} read");
    for (wrong, expected) in [
        (
            "update lastgood.resources set cadence_minutes = 30 where id = 'r2'",
            1,
        ),
        (
            "update lastgood.resources set cadence_minutes = 1440 where id = 'r4'",
            2,
        ),
        (
            "update lastgood.resources set next_due_at = null where id = 'r6'",
            3,
        ),
        (
            "update lastgood.resources set next_due_at = now() + interval '9 days' where id = 'r7'",
            4,
        ),
        (
            "update lastgood.resources set cadence_minutes = null, next_due_at = null where id = 'r8'",
            5,
        ),
        (
            "update lastgood.resources set retention_days = 0 where id = 'r9'",
            5,
        ),
        (
            "update lastgood.resources set cadence_minutes = 60, next_due_at = now() + interval '1 hour' where id = 'r9'",
            6,
        ),
        (
            "update lastgood.resources set tier = 'unheard' where id = 'r10'",
            6,
        ),
        (
            "update lastgood.resources set cadence_minutes = 60, next_due_at = now() + interval '1 hour' where id = 'r10'",
            7,
        ),
        (
            "update lastgood.resources set status = 'paused' where id = 'r12'",
            7,
        ),
    ] {
        db.execute(wrong).await?;
        let (changed, read) = applied(&db).await?;
        ensure!(
            changed == expected && read <= 200,
            "{wrong}: {changed} of {read} read"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_reads_what_is_due_and_a_bounded_part_of_what_may_be() -> Result<()> {
    let db = fleet().await?;
    let engines = vec!["postgres".to_owned(), "redis".to_owned()];
    let asked = async |waiting: i64| {
        let engines = engines.clone();
        measured(&db, VERIFY, move |query| {
            let days = |days| sqlx::postgres::types::PgInterval {
                months: 0,
                days,
                microseconds: 0,
            };
            query
                .bind(days(30))
                .bind(days(8))
                .bind(waiting)
                .bind(engines)
        })
        .await
    };
    let (due, read) = asked(10).await?;
    ensure!(due == 0 && read <= 50, "{due} of {read} read");
    db.execute("update lastgood.resources set proven_at = null where id in ('r1', 'r3', 'r5')")
        .await?;
    let (due, read) = asked(10).await?;
    ensure!(due == 3 && read <= 100, "{due} of {read} read");
    db.execute("update lastgood.resources set proven_at = null")
        .await?;
    let (due, read) = asked(10).await?;
    ensure!(due == 10 && read <= 1500, "{due} of {read} read");
    Ok(())
}

#[rstest]
#[case::of_a_team_with_few(RunFilter { team: Some("t5".to_owned()), limit: 50, ..RunFilter::default() }, 8)]
#[case::of_nobody(RunFilter { team: Some("nobody".to_owned()), limit: 50, ..RunFilter::default() }, 0)]
#[case::of_one_resource(RunFilter { resource_id: Some("r7".to_owned()), limit: 50, ..RunFilter::default() }, 1)]
#[case::of_a_kind_without_any(RunFilter { kind: Some(RunKind::Restore), limit: 50, ..RunFilter::default() }, 0)]
#[case::of_a_state_without_any(RunFilter { state: Some(RunState::Failed), limit: 50, ..RunFilter::default() }, 0)]
#[case::running(RunFilter { state: Some(RunState::Running), limit: 50, ..RunFilter::default() }, 0)]
#[case::cancelled(RunFilter { state: Some(RunState::Cancelled), limit: 50, ..RunFilter::default() }, 0)]
#[case::of_an_engine(RunFilter { engine: Some("postgres".to_owned()), limit: 50, ..RunFilter::default() }, 50)]
#[case::of_an_engine_without_any(RunFilter { engine: Some("redis".to_owned()), limit: 50, ..RunFilter::default() }, 0)]
#[case::of_a_team_since_tomorrow(RunFilter { team: Some("t5".to_owned()), since: Some(Utc::now() + TimeDelta::days(1)), limit: 50, ..RunFilter::default() }, 0)]
#[case::since_tomorrow(RunFilter { since: Some(Utc::now() + TimeDelta::days(1)), limit: 50, ..RunFilter::default() }, 0)]
#[case::the_newest(RunFilter { limit: 50, ..RunFilter::default() }, 50)]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_runs_reads_what_it_lists(
    #[case] filter: RunFilter,
    #[case] expected: usize,
) -> Result<()> {
    let db = fleet().await?;
    let (state, kind) = (
        filter.state.map(RunState::as_str),
        filter.kind.map(RunKind::as_str),
    );
    let runs = db.catalog.runs(&filter).await?;
    ensure!(runs.len() == expected, "{} runs", runs.len());
    if filter.resource_id.is_some() || filter.team.is_some() {
        let (_, read) = measured(&db, "src/catalog/runs_of_owners.sql", |query| {
            query
                .bind(filter.resource_id)
                .bind(state)
                .bind(kind)
                .bind(filter.limit)
                .bind(filter.before)
                .bind(filter.team)
                .bind(filter.engine)
                .bind(filter.since)
        })
        .await?;
        ensure!(read <= 60, "{read} rows read");
    } else {
        let (_, read) = measured(&db, "src/catalog/runs.sql", |query| {
            query
                .bind(state)
                .bind(kind)
                .bind(filter.limit)
                .bind(filter.before)
                .bind(filter.engine)
                .bind(filter.since)
        })
        .await?;
        ensure!(read <= 60, "{read} rows read");
    }
    Ok(())
}

/// The indexes of the history leave out what runs.
#[rstest]
#[case::any(RunFilter { limit: 5, ..RunFilter::default() }, "true")]
#[case::of_its_state(RunFilter { state: Some(RunState::Running), limit: 5, ..RunFilter::default() }, "state = 'running'")]
#[case::of_another_state(RunFilter { state: Some(RunState::Succeeded), limit: 5, ..RunFilter::default() }, "state = 'succeeded'")]
#[case::of_an_engine(RunFilter { engine: Some("postgres".to_owned()), limit: 5, ..RunFilter::default() }, "queue = 'postgres'")]
#[case::of_a_kind(RunFilter { kind: Some(RunKind::Backup), limit: 5, ..RunFilter::default() }, "kind = 'backup'")]
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_listed_by_its_age_like_any_other(
    #[case] filter: RunFilter,
    #[case] expected: &str,
) -> Result<()> {
    let db = fleet().await?;
    db.execute(
        "update lastgood.runs
         set state = 'running', attempt = 1, epoch = 1, lease_by = 'w', lease_until = now() + interval '1 hour', finished_at = null
         where id in (
             (select id from lastgood.runs order by created_at desc offset 1 limit 2)
             union all (select id from lastgood.runs order by created_at limit 2)
         )",
    )
    .await?;
    let listed = db.catalog.runs(&filter).await?;
    let listed: Vec<_> = listed.into_iter().map(|run| run.id).collect();
    let newest: Vec<RunId> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select id from lastgood.runs where {expected} order by created_at desc limit 5"
    )))
    .fetch_all(db.pool())
    .await?;
    assert_eq!(listed, newest);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_stepped_through_in_an_index_are_those_that_are_sorted() -> Result<()> {
    let db = fleet().await?;
    db.execute("update lastgood.resources set team = 'all'")
        .await?;
    for change in [
        "select 1",
        "update lastgood.resources set status = 'removed' where tier = 'hobby' and id <> 'r1'",
        "update lastgood.resources set newest_consistent_at = now() - interval '3 days' where id in ('r2', 'r4', 'r6')",
        "update lastgood.resources set retention_days = 0 where id like 'r1%'",
        "update lastgood.resources set newest_consistent_at = null",
        "update lastgood.resources set status = 'removed' where id not in ('r2', 'r4')",
    ] {
        db.execute(change).await?;
        let allowed = [3700.0, 90_000.0];
        let stepped = db.catalog.tier_exposures(&tiers(), &allowed, None).await?;
        let sorted = db
            .catalog
            .tier_exposures(&tiers(), &allowed, Some("all"))
            .await?;
        assert_eq!(stepped.len(), sorted.len(), "{change}");
        for (one, other) in stepped.iter().zip(&sorted) {
            assert_eq!(
                (&one.tier, one.resources, one.never_backed_up, one.broken),
                (
                    &other.tier,
                    other.resources,
                    other.never_backed_up,
                    other.broken
                ),
                "{change}"
            );
            // Some time passed between the two.
            let pairs = one.quantiles.iter().zip(&other.quantiles);
            for (one, other) in
                pairs.chain([(&one.oldest_never_seconds, &other.oldest_never_seconds)])
            {
                ensure!((one - other).abs() < 60.0, "{change}: {one} and {other}");
            }
        }
        let first = |team| {
            let (db, allowed) = (&db, &allowed);
            async move {
                let rows = db.catalog.exposures(&tiers(), allowed, team, 20).await?;
                Ok::<_, anyhow::Error>(rows.into_iter().map(|row| row.id).collect::<Vec<_>>())
            }
        };
        assert_eq!(first(None).await?, first(Some("all")).await?, "{change}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_resource_was_last_proven_is_known_whatever_becomes_of_its_points() -> Result<()> {
    let db = fleet().await?;
    for change in [
        "update lastgood.restore_points set verified_at = now() where resource_id like 'r1%'",
        "update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'x' where resource_id like 'r12%'",
        "update lastgood.restore_points set expired_at = now(), expired_because = 'x' where resource_id like 'r13%'",
        "update lastgood.restore_points set suspected_at = now(), suspected_of = '{shrunk}', suspected_because = 'x' where resource_id like 'r14%'",
        "update lastgood.restore_points set quarantined_at = null, quarantined_because = null where resource_id like 'r121%'",
        "update lastgood.restore_points set suspected_at = null where resource_id like 'r141%'",
        "update lastgood.restore_points set expired_at = null, expired_because = null where resource_id like 'r131%'",
    ] {
        db.execute(change).await?;
        let wrong = db
            .count(
                "select count(*) from lastgood.resources as r where r.proven_at is distinct from (
                     select max(p.verified_at) from lastgood.trusted_points as p where p.resource_id = r.id)",
            )
            .await?;
        assert_eq!(wrong, 0, "{change}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_until_its_lease_has_run_out_and_a_lease_of_the_future_is_nobodys() -> Result<()>
{
    let db = TestCatalog::create().await?;
    let leads = async |who: &str| {
        db.catalog
            .leads(Work::Measure, who, Duration::from_mins(1))
            .await
    };
    ensure!(leads("one").await?);
    ensure!(!leads("other").await?);
    ensure!(leads("one").await?, "who leads goes on");
    ensure!(
        db.catalog
            .leads(Work::Upkeep, "other", Duration::from_mins(1))
            .await?,
        "each work by itself"
    );
    db.execute("update lastgood.leadership set until = now() where work = 'measure'")
        .await?;
    ensure!(leads("other").await? && !leads("one").await?);
    // The clock was ahead when leadership was granted.
    db.execute("update lastgood.leadership set until = now() + interval '6 hours'")
        .await?;
    ensure!(leads("one").await?);
    db.catalog.leads_no_more("one").await?;
    ensure!(leads("other").await?, "who stops is followed at once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_of_a_service_lasts_for_ever() -> Result<()> {
    let db = TestCatalog::create().await?;
    let bounded = db.another().await?;
    let row = sqlx::query("show statement_timeout")
        .fetch_one(bounded.pool())
        .await?;
    let timeout: String = row.try_get(0).context("no setting")?;
    assert_eq!(timeout, "5min");
    Ok(())
}
