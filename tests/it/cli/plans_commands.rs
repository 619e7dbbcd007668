//! `plans check` is the strict gate before a deploy: any doubt is exit code 1. `plans show` prints what is in force.

use anyhow::{Context as _, Result};
use rstest::rstest;

use super::process::run;

const GOOD: &str = "version: 1\ntiers:\n  paid: {rpo_minutes: 60, backup_retention_days: 30}\n";

/// Returns a plans file with the text, and the directory that it lives in.
fn file(text: &str) -> Result<(tempfile::TempDir, String)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("plans.yaml");
    std::fs::write(&path, text)?;
    let path = path.to_str().context("not UTF-8")?.to_owned();
    Ok((dir, path))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_is_good_and_so_is_the_one_that_is_shipped() -> Result<()> {
    let (_dir, path) = file(GOOD)?;
    for path in [path.as_str(), "plans.yaml"] {
        let said = run(&["plans", "check", path]).await?;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
        assert_eq!(said.out, format!("{path}: good\n"));
    }
    Ok(())
}

#[rstest]
#[case::an_rpo_too_short(
    "version: 1\ntiers:\n  paid: {rpo_minutes: 3, backup_retention_days: 30}\n",
    "3 is too short"
)]
#[case::no_version(
    "tiers:\n  paid: {rpo_minutes: 60, backup_retention_days: 30}\n",
    "version"
)]
#[case::a_misspelt_field(
    "version: 1\ntiers:\n  paid: {rpo_minuts: 60, backup_retention_days: 30}\n",
    "rpo_minutes"
)]
#[case::a_tier_said_twice(
    "version: 1\ntiers:\n  paid: {rpo_minutes: 60, backup_retention_days: 30}\n  paid: {rpo_minutes: 0, backup_retention_days: 0}\n",
    "paid"
)]
#[case::a_file_that_was_cut(GOOD.trim_end(), "half-written")]
#[case::an_empty_file("", "plans.yaml")]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_wrong_or_doubtful_is_exit_code_1_and_says_why(
    #[case] text: &str,
    #[case] why: &str,
) -> Result<()> {
    let (_dir, path) = file(text)?;
    let said = run(&["plans", "check", &path]).await?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains(why), "{said:?}");
    let json = run(&["plans", "check", &path, "--json"]).await?;
    assert_eq!(json.code, 1);
    assert_eq!(json.json()?["is_good"], false);
    assert!(
        json.json()?["problems"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_is_exit_code_1() -> Result<()> {
    let said = run(&["plans", "check", "/nowhere/plans.yaml"]).await?;
    assert_eq!(said.code, 1);
    assert!(
        said.out
            .contains("cannot read the plans file /nowhere/plans.yaml"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn show_prints_each_tier_with_the_cadence_that_its_rpo_leads_to() -> Result<()> {
    let (_dir, path) = file(GOOD)?;
    let said = run(&["plans", "show", "--json", "--plans", &path]).await?;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    insta::assert_snapshot!(said.out, @r#"
    [
      {
        "id": "paid",
        "rpo_minutes": 60,
        "cadence": "hourly",
        "cadence_minutes": 60,
        "retention_days": 30,
        "keep": null,
        "minimum_kept": 1,
        "maximum_dump_bytes": null,
        "tolerance_minutes": 6,
        "objective_percent": null,
        "hold": "cadence",
        "drill_within_days": 7,
        "rto_minutes": null,
        "same_as": null,
        "never_because": null
      }
    ]
    "#);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn show_falls_back_to_the_built_in_plans_and_says_so() -> Result<()> {
    let said = run(&["plans", "show", "--plans", "/nowhere/plans.yaml"]).await?;
    assert_eq!(said.code, 0);
    assert!(
        said.err.contains("cannot read") && said.err.contains("built-in plans"),
        "{said:?}"
    );
    assert!(said.out.contains("hobby_plus_yearly"));
    Ok(())
}
