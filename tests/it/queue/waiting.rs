//! Only runs that could have been claimed are reported as waiting too long: not upkeep, and not what a pause covers.

use anyhow::{Result, ensure};
use lastgood::catalog::{Order, Scope};
use rstest::rstest;

use crate::database::TestCatalog;

/// Returns for how many hours the oldest counted run of postgres could have been claimed, and whether it is reported as stuck.
async fn waited(db: &TestCatalog) -> Result<(f64, bool)> {
    let depths = db.catalog.queue_depths().await?;
    let found = depths.iter().find(|depth| depth.engine == "postgres");
    let hours = found.map_or(0.0, |depth| (depth.oldest_seconds / 3600.0).round());
    ensure!(found.is_some_and(|depth| depth.runs == 1), "{depths:?}");
    Ok((hours, !db.catalog.stuck_runs(300.0).await?.is_empty()))
}

/// Creates a run of acme's on tier pro that has waited for two hours.
async fn waiting(kind: &str, priority: i32) -> Result<TestCatalog> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    sqlx::query(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args, run_at)
         values ('postgres', $1, 'adhoc', 'shop', $2, '{}', now() - interval '2 hours')",
    )
    .bind(kind)
    .bind(priority)
    .execute(db.pool())
    .await?;
    Ok(db)
}

#[rstest]
#[case::a_backup("backup", 0, true)]
#[case::a_restore("restore", 100, true)]
#[case::a_verification_that_somebody_waits_for("verify", 50, true)]
#[case::a_verification("verify", -20, false)]
#[case::a_copy("copy", -10, false)]
#[tokio::test(flavor = "multi_thread")]
async fn upkeep_is_never_late(
    #[case] kind: &str,
    #[case] priority: i32,
    #[case] counts: bool,
) -> Result<()> {
    let db = waiting(kind, priority).await?;
    let expected = if counts { (2.0, true) } else { (0.0, false) };
    let found = waited(&db).await?;
    ensure!(found == expected, "{found:?}");
    Ok(())
}

#[rstest]
#[case::everything(None, None, None, true)]
#[case::its_engine(Some("postgres"), None, None, true)]
#[case::another_engine(Some("redis"), None, None, false)]
#[case::its_tier(None, Some("pro"), None, true)]
#[case::another_tier(None, Some("hobby"), None, false)]
#[case::its_team(None, None, Some("acme"), true)]
#[case::another_team(None, None, Some("initech"), false)]
#[case::its_team_on_another_tier(None, Some("hobby"), Some("acme"), false)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_pause_covers_is_not_late_until_it_ends(
    #[case] engine: Option<&str>,
    #[case] tier: Option<&str>,
    #[case] team: Option<&str>,
    #[case] covers: bool,
) -> Result<()> {
    let db = waiting("backup", 0).await?;
    let scope = Scope {
        engine: engine.map(str::to_owned),
        tier: tier.map(str::to_owned),
        team: team.map(str::to_owned),
    };
    let order = Order::new("olga", Some("a test"));
    db.catalog.pause(&scope, &order).await?;
    let expected = if covers { (0.0, false) } else { (2.0, true) };
    let found = waited(&db).await?;
    ensure!(found == expected, "{found:?}");
    db.catalog.resume(&scope, &order).await?;
    let found = waited(&db).await?;
    ensure!(found == (2.0, true), "{found:?}");
    Ok(())
}
