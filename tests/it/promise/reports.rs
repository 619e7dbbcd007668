//! The report says how the promises were kept, the same from the command line and from the API, and a team sees its own alone.

use anyhow::Result;
use serde_json::Value;

use super::{DAY, Fleet, PLANS};
use crate::cli::process::run_on;

/// Two teams; one resource is backed up each hour, one was not for four hours, one never was, and one promises nothing.
async fn fleet() -> Result<Fleet> {
    let fleet = Fleet::with_shop().await?;
    fleet.db.add("blog", "acme", "pro").await?;
    fleet.db.add("wiki", "others", "pro").await?;
    fleet.db.add("notes", "others", "hobby").await?;
    fleet.db.add("toy", "others", "free").await?;
    fleet.points_each_hour("shop", 0, 24).await?;
    fleet.points_each_hour("blog", 0, 10).await?;
    fleet.points_each_hour("blog", 840, 10).await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    Ok(fleet)
}

async fn told(fleet: &Fleet, command: &[&str]) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let plans = folder.path().join("plans.yaml");
    std::fs::write(&plans, PLANS)?;
    let plans = plans.to_string_lossy().into_owned();
    let all = [&["--json", "promise"], command, &["--plans", &plans]].concat();
    run_on(&fleet.db, &all).await?.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_is_permanent() -> Result<()> {
    let fleet = fleet().await?;
    let report = told(&fleet, &["report", "--to", "2031-03-05"]).await?;
    insta::assert_json_snapshot!("report", report);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_one_resource_says_when_it_was_broken() -> Result<()> {
    let fleet = fleet().await?;
    let report = told(
        &fleet,
        &["report", "--resource", "blog", "--to", "2031-03-05"],
    )
    .await?;
    insta::assert_json_snapshot!("report_of_a_resource", report);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_is_permanent_and_says_that_the_month_lasts() -> Result<()> {
    let fleet = fleet().await?;
    let statement = told(
        &fleet,
        &["statement", "--team", "acme", "--month", "2031-03"],
    )
    .await?;
    insta::assert_json_snapshot!("statement", statement);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_is_narrowed_to_a_team_and_a_tier() -> Result<()> {
    let fleet = fleet().await?;
    let report = told(&fleet, &["report", "--team", "others"]).await?;
    let tiers: Vec<_> = report["tiers"].as_array().into_iter().flatten().collect();
    assert_eq!(tiers.len(), 2, "{report}");
    assert!(!report.to_string().contains("acme"), "{report}");
    let report = told(&fleet, &["report", "--tier", "hobby"]).await?;
    assert_eq!(report["tiers"][0]["tier"], "hobby");
    assert_eq!(report["tiers"][1], Value::Null);
    assert_eq!(report["tiers"][0]["attained_percent"], 100.0);
    assert_eq!(report["tiers"][0]["burn_rate"], Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_names_what_is_left_of_the_budget() -> Result<()> {
    let fleet = fleet().await?;
    let said = run_on(&fleet.db, &["promise", "report", "--to", "2031-03-05"]).await?;
    assert_eq!(said.code, 0, "{said:?}");
    for word in ["BUDGET LEFT", "3 resources", "acme (2)", "wiki"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    let said = run_on(
        &fleet.db,
        &[
            "promise",
            "statement",
            "--team",
            "acme",
            "--month",
            "2031-03",
        ],
    )
    .await?;
    assert!(said.out.contains("INCOMPLETE: 1 of 31 days"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_do_not_fit_are_refused_in_words() -> Result<()> {
    let fleet = Fleet::begin().await?;
    for (days, why) in [
        (
            ["--from", "2031-03-05", "--to", "2031-03-04"],
            "exchange the two",
        ),
        (
            ["--from", "2029-01-01", "--to", "2031-03-04"],
            "ask for 400 days at most",
        ),
        (
            ["--from", "1999-01-01", "--to", "1999-01-02"],
            "use 2000-01-01 or later",
        ),
    ] {
        let said = run_on(&fleet.db, &[&["promise", "report"][..], &days].concat()).await?;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    for (wrong, why) in [
        (&["report", "--from", "yesterday"][..], "not a day"),
        (
            &["statement", "--team", "acme", "--month", "March"],
            "not a month",
        ),
    ] {
        let said = run_on(&fleet.db, &[&["promise"], wrong].concat()).await?;
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    Ok(())
}
