//! `plans simulate` answers from what is on record, says what it does not know, and refuses what it cannot use.

use anyhow::{Context as _, Result};
use rstest::rstest;
use serde_json::Value;

use super::process::run_on;
use crate::database::TestCatalog;

const OTHER: &str = "version: 1\ntiers:\n  gold: {rpo_minutes: 30, backup_retention_days: 7}\n  pro: {rpo_minutes: 240, backup_retention_days: 30}\n";

fn file(text: &str) -> Result<(tempfile::TempDir, String)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("new.yaml");
    std::fs::write(&path, text)?;
    let path = path.to_str().context("not UTF-8")?.to_owned();
    Ok((dir, path))
}

/// Four databases on the tier pro. Each but the last was backed up each hour for ten days, the first one slower each day.
async fn fleet() -> Result<TestCatalog> {
    let db = TestCatalog::create().await?;
    for id in ["grows", "shop", "blog", "new"] {
        db.add(id, "acme", "pro").await?;
    }
    db.execute(
        "insert into lastgood.runs
             (queue, kind, trigger, resource_id, slot, args, state, attempt, epoch, created_at, started_at, finished_at, stored_bytes)
         select 'postgres', 'backup', 'scheduled', id, began, '{}', 'succeeded', 1, 1, began, began + interval '5 seconds',
             began + interval '65 seconds' + case when id = 'grows' then (240 - n) * interval '2 seconds' else '0' end, 1000000000
         from lastgood.resources cross join (select n, now() - n * interval '1 hour' as began from generate_series(1, 240) as n) as past
         where id <> 'new'",
    )
    .await?;
    Ok(db)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_names_what_breaks_what_is_unknown_and_what_changes() -> Result<()> {
    let db = fleet().await?;
    let (_dir, path) = file(OTHER)?;
    let slots = ["--consumers", "1", "--slots", "2"];
    let said = run_on(
        &db,
        &[
            &[
                "plans",
                "simulate",
                "--json",
                "--price-per-gb-month",
                "0.02",
            ],
            &slots[..],
        ]
        .concat(),
    )
    .await?;
    assert_eq!(said.code, 0, "{said:?}");
    let json = said.json()?;
    assert_eq!(json["resources"], 4);
    assert_eq!(json["changes"], Value::Array(Vec::new()));
    assert_eq!(json["without_history"]["named"][0]["resource"], "new");
    assert_eq!(json["without_history"]["named"][0]["takes_seconds"], 60);
    let names: Vec<_> = json.as_object().context("no object")?.keys().collect();
    assert_eq!(
        names,
        [
            "file",
            "growth",
            "changes",
            "resources",
            "unplanned",
            "engines",
            "months",
            "promises",
            "without_history"
        ]
    );
    // Hourly, kept for 30 days: 720 points of a gigabyte each, of four databases.
    assert_eq!(
        json["months"][0]["stored_bytes"],
        4 * 720 * 1_000_000_000_i64
    );
    assert_eq!(json["months"][0]["cost_per_month"], 57.6);
    let promises = json["promises"].as_array().context("none")?;
    let broken: Vec<_> = promises
        .iter()
        .map(|it| (&it["days"], &it["broken"]))
        .collect();
    assert_eq!(
        format!("{broken:?}"),
        "[(Number(0), Number(1)), (Number(30), Number(1)), (Number(90), Number(1))]"
    );
    let worst = &promises[2]["resources"][0];
    assert_eq!(worst["resource"], "grows");
    assert!(
        worst["takes_seconds"]["estimate"].as_i64()
            > promises[0]["resources"][0]["takes_seconds"]["estimate"].as_i64()
    );

    let said = run_on(
        &db,
        &[&["plans", "simulate", path.as_str()], &slots[..]].concat(),
    )
    .await?;
    assert_eq!(said.code, 0, "{said:?}");
    for words in [
        "ADDED: tier gold, 0 resources",
        "REMOVED: tier team, 0 resources\n",
        "CHANGED: tier pro, 4 resources: rpo_minutes 60 → 240",
        "NO HISTORY: 1 resource without a backup on record, taken for typical of the tier: new",
        "KEPT now: every promise",
        // 48 seconds more each day: it takes over half an hour in 30 days.
        "NOT KEPT in 30 days: 1 resource\n  grows (pro): RPO 4h 00m",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_live_consumer_it_asks_for_slots() -> Result<()> {
    let db = fleet().await?;
    let said = run_on(&db, &["plans", "simulate"]).await?;
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains(
            "no consumer is alive, so there are no slots to simulate: give --consumers and --slots"
        ),
        "{said:?}"
    );
    db.execute(
        "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities)
         values ('one', 'here', 1, '1', '{postgres}', 3, '[]')",
    )
    .await?;
    let json = run_on(&db, &["plans", "simulate", "--json"])
        .await?
        .json()?;
    assert_eq!(json["engines"][0]["slots"], 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_come_into_force_is_not_simulated() -> Result<()> {
    let db = TestCatalog::create().await?;
    let (_dir, path) =
        file("version: 1\ntiers:\n  paid: {rpo_minutes: 3, backup_retention_days: 30}\n")?;
    let said = run_on(&db, &["plans", "simulate", &path]).await?;
    assert_eq!(said.code, 1);
    assert!(
        said.err
            .contains("3 is too short: a dump cannot keep an RPO under 5 minutes"),
        "{said:?}"
    );
    let missing = run_on(&db, &["plans", "simulate", "/nowhere/plans.yaml"]).await?;
    assert!(
        missing
            .err
            .contains("cannot read the plans file /nowhere/plans.yaml"),
        "{missing:?}"
    );
    Ok(())
}

#[rstest]
#[case::no_rate(&["--grow", "10"], "give a percentage and a time, such as 10%/month")]
#[case::no_time(&["--grow", "10%/quarter"], "use day, week, month or year")]
#[case::no_price(&["--price-per-gb-month", "free"], "is not a price: give a number, such as 0.023")]
#[case::slots_of_nobody(&["--slots", "4"], "--consumers")]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_with_an_example(
    #[case] arguments: &[&str],
    #[case] why: &str,
) -> Result<()> {
    let db = TestCatalog::without_schema().await?;
    let said = run_on(&db, &[&["plans", "simulate"], arguments].concat()).await?;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains(why), "{said:?}");
    Ok(())
}
