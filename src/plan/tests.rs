//! A plan promises what its file says, keeps the file's order, and is shown as it is.

use std::fmt::Write as _;

use rstest::rstest;

use super::*;
use crate::nouns::{HEADINGS, tiers};

mod proof;
mod refusals;

fn refused(text: &str) -> String {
    match Plans::parse(text) {
        Ok(_) => format!("accepted:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

/// Returns a file with one tier whose fields begin on line 4.
fn one_tier(fields: &[&str]) -> String {
    let mut text = "version: 1\ntiers:\n  pro:\n".to_owned();
    for field in fields {
        let _ = writeln!(text, "    {field}");
    }
    text
}

fn plan(fields: &[&str]) -> anyhow::Result<Plan> {
    let plans = Plans::parse(&one_tier(fields))?;
    let tier = "pro".parse()?;
    plans
        .get(&tier)
        .cloned()
        .ok_or_else(|| anyhow::anyhow!("no plan"))
}

#[test]
fn the_built_in_plans_parse_and_leave_no_doubt() -> anyhow::Result<()> {
    let plans = Plans::parse(include_str!("../../plans.yaml"))?;
    assert_eq!(plans, Plans::built_in());
    assert_eq!(doubts(&plans), Vec::<String>::new());
    Ok(())
}

#[test]
fn the_built_in_tiers_keep_the_promise_of_the_design() -> anyhow::Result<()> {
    let plans = Plans::built_in();
    let promised = |name: &str| -> anyhow::Result<Option<i32>> {
        let plan = plans.get(&name.parse()?);
        let plan = plan.ok_or_else(|| anyhow::anyhow!("{name} is missing"))?;
        Ok(plan.protection.cadence().map(Cadence::minutes))
    };
    for never in ["anonymous", "free"] {
        assert_eq!(promised(never)?, None, "{never}");
    }
    for (base, minutes) in [
        ("hobby", 1440),
        ("hobby_plus", 1440),
        ("pro", 60),
        ("growth", 60),
        ("team", 60),
    ] {
        assert_eq!(promised(base)?, Some(minutes), "{base}");
        let yearly = plans.get(&format!("{base}_yearly").parse()?);
        let same_as = yearly.and_then(|plan| plan.same_as.as_ref());
        assert_eq!(same_as.map(Tier::as_str), Some(base));
    }
    assert_eq!(plans.iter().count(), 12);
    assert_eq!(plans.paid().count(), 10);
    Ok(())
}

#[test]
fn the_built_in_plans_show_as_a_table() {
    let plans = Plans::built_in();
    let mut lines = vec![HEADINGS.map(str::to_owned).join(" | ")];
    lines.extend(tiers(&plans).iter().map(|row| row.cells().join(" | ")));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_table_serializes_with_the_numbers_of_the_file() -> anyhow::Result<()> {
    let text = "version: 1\ntiers:\n  a: {rpo_minutes: 45, backup_retention_days: 1}\n  b: {same_as: a}\n  c: {rpo_minutes: 60, backup_retention_days: 0}\n";
    insta::assert_json_snapshot!(tiers(&Plans::parse(text)?));
    Ok(())
}

#[test]
fn what_a_tier_keeps_is_shown_and_told_apart() -> anyhow::Result<()> {
    let text = "version: 1\ntiers:\n  a: {rpo_minutes: 60, backup_retention_days: 30, keep: {hourly: 48, daily: 30, monthly: 12}, minimum_kept: 3, maximum_dump_gib: 100}\n  b: {same_as: a}\n";
    let plans = Plans::parse(text)?;
    assert_eq!(doubts(&plans), Vec::<String>::new());
    let kept: Vec<_> = tiers(&plans)
        .iter()
        .map(|row| row.cells()[3].clone())
        .collect();
    let expected = "30 days: 48 hourly, 30 daily, 12 monthly; the newest 3";
    assert_eq!(kept, [expected, expected]);
    let json = serde_json::to_value(tiers(&plans))?;
    assert_eq!(
        json[0]["keep"],
        serde_json::json!({"hourly": 48, "daily": 30, "monthly": 12})
    );
    let other = Plans::parse(&text.replace("hourly: 48", "hourly: 47"))?;
    let fewer = Plans::parse(&text.replace("minimum_kept: 3", "minimum_kept: 2"))?;
    assert_ne!(plans.fingerprint(), other.fingerprint());
    let smaller = Plans::parse(&text.replace("maximum_dump_gib: 100", "maximum_dump_gib: 99"))?;
    assert_ne!(plans.fingerprint(), fewer.fingerprint());
    assert_ne!(plans.fingerprint(), smaller.fingerprint());
    assert_eq!(tiers(&plans)[1].cells()[2], "hourly, 100 GiB at most");
    assert_eq!(json[0]["maximum_dump_bytes"], 100_u64 << 30);
    Ok(())
}

#[rstest]
#[case::zero_is_never(&["rpo_minutes: 0", "backup_retention_days: 0"], Protection::Never(Why::ZeroRpo))]
#[case::zero_rpo_is_named_first(&["rpo_minutes: 0", "backup_retention_days: 9"], Protection::Never(Why::ZeroRpo))]
#[case::retention_is_a_second_veto(&["rpo_minutes: 60", "backup_retention_days: 0"], Protection::Never(Why::ZeroRetention))]
fn a_zero_means_never(#[case] fields: &[&str], #[case] never: Protection) -> anyhow::Result<()> {
    assert_eq!(plan(fields)?.protection, never);
    Ok(())
}

#[rstest]
#[case::derived(None, 90, 60)]
#[case::own(Some(15), 60, 15)]
#[case::own_equal_to_derived(Some(60), 60, 60)]
#[case::own_for_a_daily_tier(Some(720), 1440, 720)]
fn a_tier_may_set_a_shorter_cadence(
    #[case] own: Option<i32>,
    #[case] rpo: i32,
    #[case] expected: i32,
) -> anyhow::Result<()> {
    let rpo = format!("rpo_minutes: {rpo}");
    let own = own.map(|minutes| format!("cadence_minutes: {minutes}"));
    let mut fields = vec![rpo.as_str(), "backup_retention_days: 7"];
    fields.extend(own.as_deref());
    let cadence = plan(&fields)?.protection.cadence();
    assert_eq!(cadence.map(Cadence::minutes), Some(expected));
    Ok(())
}

#[rstest]
#[case::five_at_least(5, 5)]
#[case::tenth_of_fifty(50, 5)]
#[case::rounded_up(51, 6)]
#[case::hourly(60, 6)]
#[case::daily(1440, 144)]
fn the_default_tolerance_is_a_tenth_of_the_rpo(
    #[case] rpo: i32,
    #[case] minutes: i64,
) -> anyhow::Result<()> {
    let plan = plan(&[&format!("rpo_minutes: {rpo}"), "backup_retention_days: 7"])?;
    assert_eq!(plan.tolerance, TimeDelta::minutes(minutes));
    Ok(())
}

#[test]
fn a_tolerance_may_be_zero() -> anyhow::Result<()> {
    let plan = plan(&[
        "rpo_minutes: 60",
        "backup_retention_days: 7",
        "tolerance_minutes: 0",
    ])?;
    assert_eq!(plan.tolerance, TimeDelta::zero());
    Ok(())
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_fine() -> anyhow::Result<()> {
    let windows = include_str!("../../plans.yaml").replace('\n', "\r\n");
    assert_eq!(
        Plans::parse(&format!("\u{feff}{windows}"))?,
        Plans::built_in()
    );
    let bad = one_tier(&["rpo_minutes: 3", "backup_retention_days: 7"]).replace('\n', "\r\n");
    let found = refused(&format!("\u{feff}{bad}"));
    assert!(
        found.starts_with("plans.yaml:4: tier \"pro\": rpo_minutes: 3"),
        "{found}"
    );
    Ok(())
}

#[test]
fn an_alias_chain_ends_in_the_same_promise() -> anyhow::Result<()> {
    let text = "version: 1\ntiers:\n  c: {same_as: b}\n  b: {same_as: a}\n  a: {rpo_minutes: 90, backup_retention_days: 7, tolerance_minutes: 3}\n";
    let plans = Plans::parse(text)?;
    let names: Vec<&str> = plans.iter().map(|plan| plan.tier.as_str()).collect();
    assert_eq!(names, ["c", "b", "a"], "the order is the file's");
    let base = plans.get(&"a".parse()?).cloned();
    let chained = plans.get(&"c".parse()?).cloned();
    assert_eq!(
        chained,
        base.map(|base| Plan {
            tier: "c".parse().unwrap(),
            same_as: "b".parse().ok(),
            ..base
        })
    );
    Ok(())
}

#[test]
fn the_fingerprint_follows_the_promise_and_not_its_spelling() -> anyhow::Result<()> {
    let own = "version: 1\ntiers:\n  a: {rpo_minutes: 60, backup_retention_days: 7}\n  b: {rpo_minutes: 60, backup_retention_days: 7}\n";
    let alias = "# other words\nversion: 1\ntiers:\n  b: {same_as: a}\n  a: {backup_retention_days: 7, rpo_minutes: 60, cadence_minutes: 60}\n";
    let longer = own.replace("days: 7", "days: 8");
    let print = |text: &str| Plans::parse(text).map(|plans| plans.fingerprint());
    assert_eq!(
        print(own)?,
        "v1;a:rpo=60,every=60,keep=7,tolerance=6;b:rpo=60,every=60,keep=7,tolerance=6"
    );
    assert_eq!(print(own)?, print(alias)?);
    assert_ne!(print(own)?, print(&longer)?);
    Ok(())
}

#[test]
fn what_is_valid_but_odd_is_a_doubt() -> anyhow::Result<()> {
    let text = "version: 1\ntiers:\n\
        \x20 no_retention: {rpo_minutes: 60, backup_retention_days: 0}\n\
        \x20 its_alias: {same_as: no_retention}\n\
        \x20 no_rpo: {rpo_minutes: 0, backup_retention_days: 7}\n\
        \x20 short: {rpo_minutes: 10080, backup_retention_days: 6}\n\
        \x20 lax: {rpo_minutes: 60, backup_retention_days: 7, tolerance_minutes: 61}\n\
        \x20 hours_of_days: {rpo_minutes: 1440, backup_retention_days: 7, keep: {hourly: 168}}\n\
        \x20 share: {rpo_minutes: 60, backup_retention_days: 7, objective: 0.999}\n\
        \x20 undrilled: {rpo_minutes: 60, backup_retention_days: 7, rto_minutes: 30, drill_within_days: 0}\n\
        \x20 Lax: {rpo_minutes: 60, backup_retention_days: 7}\n";
    insta::assert_snapshot!(doubts(&Plans::parse(text)?).join("\n"));
    Ok(())
}

#[test]
fn a_file_without_a_paid_tier_is_a_doubt() -> anyhow::Result<()> {
    let text = "version: 1\ntiers:\n  free: {rpo_minutes: 0, backup_retention_days: 0}\n";
    let found = doubts(&Plans::parse(text)?);
    assert_eq!(
        found,
        ["no tier is ever backed up: is this the right file?"]
    );
    Ok(())
}
