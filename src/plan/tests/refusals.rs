//! A plans file is accepted or refused as a whole, and every problem says where it is and what to do.

use std::fmt::Write as _;

use rstest::rstest;

use super::{Plans, one_tier, refused};

#[test]
fn a_very_bad_file_has_all_its_problems_named_at_once() {
    insta::assert_snapshot!(refused(include_str!("very_bad.yaml")));
}

#[rstest]
#[case::one(
    "1",
    "1 is too short: a dump cannot keep an RPO under 5 minutes; use 5 or more, or 0 for never"
)]
#[case::four(
    "4",
    "4 is too short: a dump cannot keep an RPO under 5 minutes; use 5 or more, or 0 for never"
)]
#[case::negative("-60", "-60 is negative: use 5 or more, or 0 for never")]
#[case::fraction("7.5", "7.5 is not a whole number: round it")]
#[case::whole_fraction("60.0", "60.0 is not a whole number: round it")]
#[case::not_a_number(".nan", "NaN is not a whole number: round it")]
#[case::quoted("\"60\"", "\"60\" is text: write the number without quotes")]
#[case::word(
    "hourly",
    "\"hourly\" is not a number: write a whole number without quotes or unit"
)]
#[case::unit(
    "1h",
    "\"1h\" is not a number: write a whole number without quotes or unit"
)]
#[case::null(
    "null",
    "an empty value is not a number: write a whole number without quotes or unit"
)]
#[case::empty(
    "",
    "an empty value is not a number: write a whole number without quotes or unit"
)]
#[case::boolean(
    "true",
    "true is not a number: write a whole number without quotes or unit"
)]
#[case::list(
    "[60]",
    "a list is not a number: write a whole number without quotes or unit"
)]
#[case::mapping(
    "{minutes: 60}",
    "a mapping is not a number: write a whole number without quotes or unit"
)]
#[case::huge(
    "99999999999",
    "99999999999 is too long: use 525600 (a year) at most, or 0 for never"
)]
#[case::over_64_bits("18446744073709551616", "18446744073709551616 is too large")]
fn an_rpo_that_is_none_is_refused_in_words(#[case] value: &str, #[case] what: &str) {
    let text = one_tier(&["backup_retention_days: 7", &format!("rpo_minutes: {value}")]);
    assert_eq!(
        refused(&text),
        format!("plans.yaml:5: tier \"pro\": rpo_minutes: {what}")
    );
}

#[rstest]
#[case::negative_retention(
    "backup_retention_days: -1",
    "backup_retention_days: -1 is negative: use 0 for never, or a number of days"
)]
#[case::huge_retention(
    "backup_retention_days: 36501",
    "backup_retention_days: 36501 is too long: use 36500 (a century) at most"
)]
#[case::quoted_retention(
    "backup_retention_days: '7'",
    "backup_retention_days: \"7\" is text: write the number without quotes"
)]
fn a_retention_that_is_none_is_refused_in_words(#[case] field: &str, #[case] what: &str) {
    let text = one_tier(&["rpo_minutes: 60", field]);
    assert_eq!(
        refused(&text),
        format!("plans.yaml:5: tier \"pro\": {what}")
    );
}

#[rstest]
#[case::above_derived(
    "cadence_minutes: 120",
    "cadence_minutes: 120 is too long for the RPO: use 60 or less, or remove it to use 60"
)]
#[case::above_derived_and_uneven(
    "cadence_minutes: 61",
    "cadence_minutes: 61 is too long for the RPO: use 60 or less, or remove it to use 60"
)]
#[case::uneven(
    "cadence_minutes: 25",
    "cadence_minutes: 25 does not divide the day into equal slots: use 20 or 30"
)]
#[case::too_short("cadence_minutes: 4", "cadence_minutes: 4 is too short: use 5 or more")]
#[case::zero("cadence_minutes: 0", "cadence_minutes: 0 is too short: use 5 or more")]
#[case::empty(
    "cadence_minutes:",
    "cadence_minutes: an empty value is not a number: write a whole number without quotes or unit"
)]
#[case::tolerance(
    "tolerance_minutes: -1",
    "tolerance_minutes: -1 is negative: use 0 or more"
)]
#[case::huge_tolerance(
    "tolerance_minutes: 525601",
    "tolerance_minutes: 525601 is too long: use 525600 (a year) at most"
)]
#[case::abbreviated(
    "rpo: 60",
    "rpo: unknown field: did you mean rpo_minutes? The known fields are rpo_minutes, backup_retention_days, keep, minimum_kept, cadence_minutes, tolerance_minutes, maximum_dump_gib, objective, hold, drill_within_days, rto_minutes, same_as"
)]
#[case::misspelt(
    "tolerance_minute: 9",
    "tolerance_minute: unknown field: did you mean tolerance_minutes? The known fields are rpo_minutes, backup_retention_days, keep, minimum_kept, cadence_minutes, tolerance_minutes, maximum_dump_gib, objective, hold, drill_within_days, rto_minutes, same_as"
)]
#[case::foreign(
    "price: 9",
    "price: unknown field: the known fields are rpo_minutes, backup_retention_days, keep, minimum_kept, cadence_minutes, tolerance_minutes, maximum_dump_gib, objective, hold, drill_within_days, rto_minutes, same_as"
)]
#[case::twice(
    "rpo_minutes: 5",
    "rpo_minutes: given twice, first on line 4: keep one"
)]
fn a_field_that_does_not_fit_is_refused_in_words(#[case] field: &str, #[case] what: &str) {
    let text = one_tier(&["rpo_minutes: 60", "backup_retention_days: 7", field]);
    assert_eq!(
        refused(&text),
        format!("plans.yaml:6: tier \"pro\": {what}")
    );
}

#[rstest]
#[case::a_number(
    "keep: 7",
    "keep: 7: write one or more of hourly, daily, weekly and monthly, each with a number"
)]
#[case::empty(
    "keep: {}",
    "keep: it keeps nothing: name hourly, daily, weekly or monthly, or remove it"
)]
#[case::misspelt(
    "keep: {daily: 30, dayly: 3}",
    "dayly: unknown field: did you mean daily? The known fields are hourly, daily, weekly, monthly"
)]
#[case::zero(
    "keep: {daily: 30, hourly: 0}",
    "hourly: 0 keeps nothing: use 1 or more, or remove it"
)]
#[case::negative(
    "keep: {daily: -1}",
    "daily: -1 keeps nothing: use 1 or more, or remove it"
)]
#[case::huge("keep: {daily: 36601}", "daily: 36601 is too many: use 36600 at most")]
#[case::quoted(
    "keep: {daily: '30'}",
    "daily: \"30\" is text: write the number without quotes"
)]
#[case::too_short(
    "keep: {hourly: 48, daily: 6}",
    "keep: reaches 6 days back, and backup_retention_days promises 7: keep more, or promise less"
)]
#[case::no_dump(
    "maximum_dump_gib: 0",
    "maximum_dump_gib: 0 allows no dump: use 1 or more, or remove it"
)]
#[case::huge_dump(
    "maximum_dump_gib: 1048577",
    "maximum_dump_gib: 1048577 is too large: use 1048576 at most, or remove it"
)]
#[case::no_minimum(
    "minimum_kept: 0",
    "minimum_kept: 0 keeps nothing: use 1 or more, or remove it"
)]
fn a_keep_that_breaks_the_promise_is_refused_in_words(#[case] field: &str, #[case] what: &str) {
    let text = one_tier(&["rpo_minutes: 60", "backup_retention_days: 7", field]);
    assert_eq!(
        refused(&text),
        format!("plans.yaml:6: tier \"pro\": {what}")
    );
}

#[test]
fn a_keep_of_a_tier_that_keeps_nothing_is_refused() {
    let text = one_tier(&[
        "rpo_minutes: 0",
        "backup_retention_days: 0",
        "keep: {daily: 7}",
        "minimum_kept: 3",
    ]);
    let what = "has no meaning where backup_retention_days is 0: remove it, or set a retention";
    assert_eq!(
        refused(&text),
        format!(
            "plans.yaml:6: tier \"pro\": keep: {what}\nplans.yaml:7: tier \"pro\": minimum_kept: {what}"
        )
    );
}

#[rstest]
#[case::empty("", "plans.yaml:1: the file is empty: it needs version and tiers")]
#[case::comment_only(
    "# nothing\n",
    "plans.yaml:1: the file is empty: it needs version and tiers"
)]
#[case::null("~\n", "plans.yaml:1: the file is empty: it needs version and tiers")]
#[case::text(
    "plans\n",
    "plans.yaml:1: the file is \"plans\": it needs version and tiers"
)]
#[case::list(
    "- pro\n",
    "plans.yaml:1: the file is a list: it needs version and tiers"
)]
#[case::no_tiers("version: 1\n", "plans.yaml:1: tiers: missing: list the tiers")]
#[case::empty_tiers(
    "version: 1\ntiers:\n",
    "plans.yaml:2: tiers: there is no tier: list at least one"
)]
#[case::empty_mapping(
    "version: 1\ntiers: {}\n",
    "plans.yaml:2: tiers: there is no tier: list at least one"
)]
#[case::list_of_tiers(
    "version: 1\ntiers: [pro]\n",
    "plans.yaml:2: tiers: a list: write one `name:` per tier, with its fields below"
)]
#[case::no_version(
    "tiers:\n  a: {rpo_minutes: 0, backup_retention_days: 0}\n",
    "plans.yaml:1: version: missing: write `version: 1` above the tiers"
)]
#[case::next_version(
    "tiers:\n  a: {rpo_minutes: 0, backup_retention_days: 0}\nversion: 2\n",
    "plans.yaml:3: version: 2 is not known to this build: use 1"
)]
#[case::quoted_version(
    "tiers:\n  a: {rpo_minutes: 0, backup_retention_days: 0}\nversion: '1'\n",
    "plans.yaml:3: version: \"1\" is text: write the number without quotes"
)]
#[case::empty_tier(
    "version: 1\ntiers:\n  pro:\n",
    "plans.yaml:3: tier \"pro\": an empty value: give it rpo_minutes and backup_retention_days, or only same_as"
)]
#[case::bad_name(
    "version: 1\ntiers:\n  pro plan: {same_as: x}\n",
    "plans.yaml:3: tier \"pro plan\": \"pro plan\" is not a tier: use 1 to 128 of A-Z a-z 0-9 . _ - beginning with a letter or digit, without \"..\""
)]
#[case::number_as_name(
    "version: 1\ntiers:\n  2024: {rpo_minutes: 0, backup_retention_days: 0}\n",
    "plans.yaml:3: 2024 cannot be a name: write text in quotes"
)]
#[case::unknown_alias(
    "version: 1\ntiers:\n  pro: {rpo_minutes: 60, backup_retention_days: 7}\n  a:\n    same_as: prO_\n",
    "plans.yaml:5: tier \"a\": same_as: \"prO_\" is not a tier of this file: did you mean \"pro\"?"
)]
#[case::alias_to_nothing_like_it(
    "version: 1\ntiers:\n  a:\n    same_as: zzz\n",
    "plans.yaml:4: tier \"a\": same_as: \"zzz\" is not a tier of this file: name one that is"
)]
#[case::alias_to_a_number(
    "version: 1\ntiers:\n  a:\n    same_as: 1\n",
    "plans.yaml:4: tier \"a\": same_as: 1 is not the name of a tier: name one of the others"
)]
#[case::alias_to_itself(
    "version: 1\ntiers:\n  a:\n    same_as: a\n",
    "plans.yaml:4: tier \"a\": same_as: goes in a circle (a -> a): give one of them its own fields"
)]
#[case::alias_loop_with_a_way_in(
    "version: 1\ntiers:\n  in: {same_as: c}\n  b: {same_as: c}\n  c: {same_as: d}\n  d: {same_as: b}\n",
    "plans.yaml:4: tier \"b\": same_as: goes in a circle (b -> c -> d -> b): give one of them its own fields"
)]
#[case::alias_with_fields(
    "version: 1\ntiers:\n  p: {rpo_minutes: 60, backup_retention_days: 7}\n  a:\n    same_as: p\n    rpo_minutes: 5\n",
    "plans.yaml:6: tier \"a\": rpo_minutes: cannot be combined with same_as: remove it, or remove same_as and write all fields"
)]
#[case::cadence_of_never(
    "version: 1\ntiers:\n  a:\n    rpo_minutes: 0\n    backup_retention_days: 0\n    cadence_minutes: 60\n",
    "plans.yaml:6: tier \"a\": cadence_minutes: has no meaning where rpo_minutes is 0: remove it, or set an RPO"
)]
#[case::duplicate_tier(
    "version: 1\ntiers:\n  a: {rpo_minutes: 0, backup_retention_days: 0}\n  a: {rpo_minutes: 60, backup_retention_days: 0}\n",
    "plans.yaml:4: tier \"a\": given twice, first on line 3: keep one"
)]
#[case::second_document(
    "version: 1\ntiers:\n  a: {rpo_minutes: 0, backup_retention_days: 0}\n---\nversion: 1\n",
    "plans.yaml:4: a second document begins here: keep only one, without another `---`"
)]
#[case::tag(
    "version: 1\ntiers:\n  a: {rpo_minutes: 0, backup_retention_days: !!int 0}\n",
    "plans.yaml:3: a tag (!name): remove it"
)]
#[case::anchor(
    "version: 1\ntiers:\n  a: &a\n    rpo_minutes: 0\n    backup_retention_days: 0\n",
    "plans.yaml:3: an anchor (&name): remove it, and use same_as"
)]
fn a_file_of_another_shape_is_refused_in_words(#[case] text: &str, #[case] what: &str) {
    assert_eq!(refused(text), what);
}

#[test]
fn anchors_aliases_and_merge_keys_are_refused_where_they_stand() {
    let text = "version: 1\ntiers:\n  a: &a {rpo_minutes: 60, backup_retention_days: 7}\n  b: *a\n  c:\n    <<: *a\n    rpo_minutes: 5\n";
    insta::assert_snapshot!(refused(text));
}

#[test]
fn what_is_not_yaml_is_refused_with_its_line() {
    let found = refused("version: 1\ntiers:\n  a: {rpo_minutes: 0\n  b: 1\n");
    assert!(
        found.starts_with("plans.yaml:4: not readable as YAML: "),
        "{found}"
    );
}

#[rstest]
#[case::nested_lists("[".repeat(100_000))]
#[case::nested_mappings("{a: ".repeat(100_000))]
#[case::nested_block_lists("- ".repeat(100_000))]
#[case::nested_keys("? ".repeat(100_000))]
#[case::unclosed_lines("a: [\n".repeat(50_000))]
#[case::alias_bomb(alias_bomb())]
#[case::control_character("version: 1\u{7}\n".to_owned())]
#[case::nul("version: 1\0\n".to_owned())]
#[case::tab_indent("version: 1\ntiers:\n\ta: 1\n".to_owned())]
#[case::half_a_quote("version: \"1\n".to_owned())]
fn a_hostile_text_is_refused(#[case] text: String) {
    assert!(Plans::parse(&text).is_err());
}

fn alias_bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        let _ = writeln!(text, "a{level}: &a{level} [{}]", vec![alias; 10].join(", "));
    }
    text
}

#[test]
fn bytes_that_are_not_text_are_refused_with_their_line() {
    let found =
        Plans::parse_bytes(b"version: 1\ntiers:\n  \xff: 1\n").map_err(|why| why.to_string());
    assert_eq!(
        found,
        Err("plans.yaml:3: not UTF-8: save the file as UTF-8 text".to_owned())
    );
}

#[test]
fn a_long_list_of_problems_is_cut() {
    let mut text = "version: 1\ntiers:\n".to_owned();
    for tier in 0..80 {
        let _ = writeln!(text, "  t{tier}: 1");
    }
    let found = refused(&text);
    assert_eq!(found.lines().count(), 51);
    assert!(
        found.ends_with("plans.yaml: and 30 more problems"),
        "{found}"
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[ a-z0-9:{}\\[\\]&*!<>|\"'#,\\-\n\t?%@~]{0,200}") {
        let _ = Plans::parse(&text);
        let _ = Plans::parse(&format!("version: 1\ntiers:\n  {text}\n"));
    }

    #[test]
    fn the_shipped_file_cut_anywhere_is_read_or_refused_without_a_panic(end in 0_usize..3000) {
        let text = include_str!("../../../plans.yaml");
        let _ = text.get(..end).map(Plans::parse);
    }
}
