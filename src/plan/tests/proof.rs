//! How a tier's promise is held and proven is read exactly, shown, and refused in words where it makes no sense.

use rstest::rstest;

use super::{Hold, Plans, doubts, one_tier, refused, tiers};

#[test]
fn how_a_promise_is_held_and_proven_is_shown_and_told_apart() -> anyhow::Result<()> {
    let text = "version: 1\ntiers:\n  a: {rpo_minutes: 60, backup_retention_days: 30, objective: 99.95, hold: strict, drill_within_days: 14, rto_minutes: 240}\n  b: {same_as: a}\n  c: {rpo_minutes: 60, backup_retention_days: 30}\n";
    let plans = Plans::parse(text)?;
    assert_eq!(doubts(&plans), Vec::<String>::new());
    let rows = tiers(&plans);
    let [a, b, c] = rows.as_slice() else {
        anyhow::bail!("not three tiers: {rows:?}");
    };
    let shown = ["1 h, strict", "99.95 %", "within 14 days", "4 h"].map(str::to_owned);
    for tier in [a, b] {
        let [_, rpo, _, _, _, objective, drilled, rto, _, _] = tier.cells();
        assert_eq!([rpo, objective, drilled, rto], shown);
    }
    let json = serde_json::to_value(a)?;
    assert_eq!(json["objective_percent"], 99.95);
    assert_eq!(json["hold"], "strict");
    assert_eq!(json["drill_within_days"], 14);
    assert_eq!(json["rto_minutes"], 240);
    assert_eq!(
        (c.hold, c.drill_within_days),
        (Some(Hold::Cadence), Some(7))
    );
    assert_eq!((c.objective_percent, c.rto_minutes), (None, None));
    for (from, to) in [
        ("99.95", "99.951"),
        ("strict", "cadence"),
        ("days: 14", "days: 0"),
        ("minutes: 240", "minutes: 239"),
    ] {
        let other = Plans::parse(&text.replace(from, to))?;
        assert_ne!(plans.fingerprint(), other.fingerprint(), "{to}");
    }
    Ok(())
}

#[rstest]
#[case::zero(
    "objective: 0",
    "objective: 0 promises nothing: use a percentage such as 99.9, or remove it"
)]
#[case::negative(
    "objective: -1",
    "objective: -1 promises nothing: use a percentage such as 99.9, or remove it"
)]
#[case::no_number(
    "objective: .nan",
    "objective: NaN promises nothing: use a percentage such as 99.9, or remove it"
)]
#[case::all(
    "objective: 100",
    "objective: 100 is too high: nothing holds in every minute; use less than 100, such as 99.9"
)]
#[case::infinite(
    "objective: .inf",
    "objective: inf is too high: nothing holds in every minute; use less than 100, such as 99.9"
)]
#[case::huge(
    "objective: 99999999999",
    "objective: 99999999999 is not a percentage: use one such as 99.9"
)]
#[case::too_exact(
    "objective: 99.9999",
    "objective: 99.9999 is too exact: use three decimals at most"
)]
#[case::quoted(
    "objective: \"99.9\"",
    "objective: \"99.9\" is text: write the number without quotes"
)]
#[case::with_a_sign(
    "objective: 99.9%",
    "objective: \"99.9%\" is not a number: write one such as 99.9, without quotes or unit"
)]
#[case::hold_of_another_kind(
    "hold: tightly",
    "hold: \"tightly\" is not known: use strict or cadence"
)]
#[case::hold_in_capitals("hold: Strict", "hold: \"Strict\" is not known: use strict or cadence")]
#[case::hold_is_no_truth("hold: true", "hold: true is not known: use strict or cadence")]
#[case::negative_drill(
    "drill_within_days: -1",
    "drill_within_days: -1 is negative: use 0 for never, or a number of days"
)]
#[case::late_drill(
    "drill_within_days: 3661",
    "drill_within_days: 3661 is too long: use 3660 (ten years) at most, or 0 for never"
)]
#[case::half_a_day(
    "drill_within_days: 0.5",
    "drill_within_days: 0.5 is not a whole number: round it"
)]
#[case::no_rto(
    "rto_minutes: 0",
    "rto_minutes: 0 is too short: use 1 or more, or remove it"
)]
#[case::long_rto(
    "rto_minutes: 525601",
    "rto_minutes: 525601 is too long: use 525600 (a year) at most, or remove it"
)]
fn a_proof_that_is_none_is_refused_in_words(#[case] field: &str, #[case] what: &str) {
    let text = one_tier(&["rpo_minutes: 60", "backup_retention_days: 7", field]);
    assert_eq!(
        refused(&text),
        format!("plans.yaml:6: tier \"pro\": {what}")
    );
}

#[rstest]
#[case::objective("objective: 99.9", "objective")]
#[case::hold("hold: strict", "hold")]
#[case::drill("drill_within_days: 7", "drill_within_days")]
#[case::rto("rto_minutes: 60", "rto_minutes")]
fn a_tier_that_is_never_backed_up_has_nothing_to_prove(#[case] field: &str, #[case] name: &str) {
    let text = one_tier(&["rpo_minutes: 0", "backup_retention_days: 0", field]);
    assert_eq!(
        refused(&text),
        format!(
            "plans.yaml:6: tier \"pro\": {name}: has no meaning where rpo_minutes is 0: remove it, or set an RPO"
        )
    );
}
