//! The same keys give the same contents, however a server stores them, and any lost or changed part is told.

mod encodings;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rstest::rstest;

use self::encodings::{Key, file, hash_listpack, lzf, pairs, string, strings};
use super::*;
use crate::contents::{Comparison, compare};

const REDIS_6: &[u8] = include_bytes!("../../../../format/rdb/golden/redis-6.2.rdb");
const REDIS_7: &[u8] = include_bytes!("../../../../format/rdb/golden/redis-7.0.rdb");
const VALKEY_9: &[u8] = include_bytes!("../../../../format/rdb/golden/valkey-9.1.rdb");

fn contents(file: &[u8]) -> Result<Contents> {
    Ok(take(file)?.1)
}

/// Long before any key of these tests expires.
fn compared(one: &[u8], other: &[u8]) -> Result<Comparison> {
    Ok(compare(
        &contents(one)?,
        &contents(other)?,
        DateTime::UNIX_EPOCH,
    ))
}

fn is_same(one: &[u8], other: &[u8]) -> Result<bool> {
    let comparison = compared(one, other)?;
    assert_eq!(comparison.left_out, [], "nothing is unknown");
    Ok(comparison.is_equal())
}

#[rstest]
#[case::redis_6(REDIS_6)]
#[case::redis_7(REDIS_7)]
#[case::valkey_9(VALKEY_9)]
fn a_value_is_the_same_whole_and_in_pieces(#[case] file: &[u8]) -> Result<()> {
    let limits = Limits {
        whole_value_bytes: 0,
        ..Limits::default()
    };
    let (census, pieces) = take_within(file, limits)?;
    let whole = contents(file)?;
    assert_eq!(pieces, whole);
    let keys: u64 = whole.items.iter().filter_map(|it| it.count).sum();
    assert_eq!(keys, census.keys.values().sum::<u64>());
    assert!(whole.items.iter().all(|it| it.unknown.is_none()));
    Ok(())
}

/// The hashes are stored, and compared by later builds.
#[test]
fn the_stored_names_and_hashes_are_permanent() -> Result<()> {
    let mut items = contents(VALKEY_9)?.items;
    items.sort_by(|one, other| (&one.kind, &one.name).cmp(&(&other.kind, &other.name)));
    let lines: Vec<_> = items
        .iter()
        .map(|it| {
            let hash = it.hash.map(|hash| hash.to_string());
            format!(
                "{} {:?} {:?} {:?} {:?}",
                it.kind, it.name, it.count, hash, it.until
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
    Ok(())
}

proptest! {
    #[test]
    fn neither_order_nor_encoding_counts(
        members in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 0..40), 1..30),
        seed in any::<u64>(),
    ) {
        let members: Vec<Vec<u8>> = members.into_iter().collect();
        let shuffled = encodings::shuffled(&members, seed);
        let set = file(&[Key::new("k", 2, strings(&members))]);
        let packed = file(&[Key::new("k", 20, string(&encodings::listpack(&shuffled)))]);
        prop_assert!(is_same(&set, &packed).unwrap());

        let scored = file(&[Key::new("k", 5, encodings::scored(&members))]);
        let packed = file(&[Key::new("k", 17, string(&encodings::scored_listpack(&shuffled)))]);
        prop_assert!(is_same(&scored, &packed).unwrap());

        let hash = file(&[Key::new("k", 4, pairs(&members))]);
        let packed = file(&[Key::new("k", 16, string(&hash_listpack(&shuffled)))]);
        prop_assert!(is_same(&hash, &packed).unwrap());

        let list = file(&[Key::new("k", 1, strings(&members))]);
        let nodes = file(&[Key::new("k", 18, encodings::quicklist(&members, seed))]);
        prop_assert!(is_same(&list, &nodes).unwrap());
        let turned = file(&[Key::new("k", 1, strings(&shuffled))]);
        prop_assert_eq!(is_same(&list, &turned).unwrap(), members == shuffled);
    }

    #[test]
    fn a_string_is_the_same_however_it_is_stored(text in prop::collection::vec(any::<u8>(), 1..3000)) {
        let plain = file(&[Key::new("k", 0, string(&text))]);
        let packed = file(&[Key::new("k", 0, lzf(&text))]);
        prop_assert!(is_same(&plain, &packed).unwrap());
    }

    #[test]
    fn one_changed_byte_is_told(
        members in prop::collection::btree_set("[a-z]{1,20}", 1..20),
        which in any::<prop::sample::Index>(),
        type_byte in prop::sample::select(vec![1_u8, 2, 4, 5]),
    ) {
        let members: Vec<Vec<u8>> = members.into_iter().map(String::into_bytes).collect();
        let mut changed = members.clone();
        let at = which.index(members.len());
        changed[at][0] = b'A';
        let of = |members: &[Vec<u8>]| file(&[Key::new("k", type_byte, match type_byte {
            4 => pairs(members),
            5 => encodings::scored(members),
            _ => strings(members),
        })]);
        let comparison = compared(&of(&members), &of(&changed)).unwrap();
        prop_assert_eq!(comparison.differing, 1);
    }
}

#[test]
fn an_integer_is_its_digits() -> Result<()> {
    let text = file(&[Key::new("k", 0, string(b"-12345"))]);
    let integer = file(&[Key::new(
        "k",
        0,
        [&[0xc1][..], &(-12345_i16).to_le_bytes()].concat(),
    )]);
    assert!(is_same(&text, &integer)?);
    let intset = [2_u32.to_le_bytes(), 2_u32.to_le_bytes()].concat();
    let intset = [&intset[..], &1_i16.to_le_bytes(), &7_i16.to_le_bytes()].concat();
    let intset = file(&[Key::new("k", 11, string(&intset))]);
    let set = file(&[Key::new("k", 2, strings(&[b"7".to_vec(), b"1".to_vec()]))]);
    assert!(is_same(&set, &intset)?);
    Ok(())
}

fn one(key: &str, type_byte: u8, raw: Vec<u8>) -> Vec<u8> {
    file(&[Key::new(key, type_byte, raw)])
}

fn zset(score: f64) -> Vec<u8> {
    [&[1][..], &string(b"member"), &score.to_le_bytes()].concat()
}

fn in_database(db: u64) -> Vec<u8> {
    file(&[Key::new("k", 0, string(b"v")).within(db)])
}

fn expiring(at_ms: u64) -> Vec<u8> {
    file(&[Key::new("k", 0, string(b"v")).until(at_ms)])
}

/// A field that expires, in the layout of Valkey 9.
fn with_field(value: &[u8], at_ms: i64) -> Vec<u8> {
    let raw = [
        &[1][..],
        &string(b"field"),
        &string(value),
        &at_ms.to_le_bytes(),
    ]
    .concat();
    encodings::file_of(80, &[Key::new("k", 22, raw)])
}

#[rstest]
#[case::value(one("k", 0, string(b"a")), one("k", 0, string(b"b")), "0")]
#[case::key(one("k", 0, string(b"a")), one("l", 0, string(b"a")), "0")]
#[case::type_(one("k", 1, strings(&[b"a".to_vec()])), one("k", 2, strings(&[b"a".to_vec()])), "0")]
#[case::score(one("k", 5, zset(1.0)), one("k", 5, zset(1.5)), "0")]
#[case::member_twice(one("k", 1, strings(&[b"a".to_vec()])), one("k", 1, strings(&[b"a".to_vec(), b"a".to_vec()])), "0")]
#[case::two_members_or_one(one("k", 1, strings(&[b"ab".to_vec()])), one("k", 1, strings(&[b"a".to_vec(), b"b".to_vec()])), "0")]
#[case::another_database(in_database(3), in_database(4), "3")]
#[case::expiry(
    expiring(1_900_000_000_000),
    expiring(1_900_000_000_001),
    "0, hour 1602 of 2016"
)]
#[case::no_expiry(expiring(1_900_000_000_000), one("k", 0, string(b"v")), "0")]
#[case::field_expiry(
    with_field(b"v", 1_900_000_000_000),
    with_field(b"v", 1_900_000_000_001),
    "0, part 30 of 64"
)]
#[case::no_field_expiry(with_field(b"v", 1_900_000_000_000), with_field(b"v", -1), "0, part 30 of 64")]
#[case::field(with_field(b"v", -1), with_field(b"w", -1), "0, part 30 of 64")]
fn a_change_is_told_by_its_group(
    #[case] dumped: Vec<u8>,
    #[case] back: Vec<u8>,
    #[case] name: &str,
) -> Result<()> {
    let comparison = compared(&dumped, &back)?;
    assert!(!comparison.is_equal());
    let names: Vec<_> = comparison
        .differences
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert!(names.contains(&name), "{names:?}");
    Ok(())
}

#[test]
fn zero_has_no_sign() -> Result<()> {
    let negative = one("k", 5, zset(-0.0));
    assert!(is_same(&one("k", 5, zset(0.0)), &negative)?);
    Ok(())
}

const HOUR: u64 = 60 * 60 * 1000;

#[test]
fn what_expired_meanwhile_takes_only_its_group_with_it() -> Result<()> {
    let base = 1_900_000_000_000 / HOUR * HOUR;
    let key = |name: &str, at| Key::new(name, 0, string(b"v")).until(at);
    let [soon, later, much_later] = [base, base + 5 * HOUR, base + 2016 * HOUR];
    let kept = [key("later", later), key("much later", much_later)];
    let back = file(&kept);
    let [later, much_later] = kept;
    let all = file(&[
        key("soon", soon),
        key("also soon", soon + 1),
        later,
        much_later,
    ]);
    let at = DateTime::from_timestamp_millis(i64::try_from(soon + 2)?).context("a time")?;
    let comparison = compare(&contents(&all)?, &contents(&back)?, at);
    assert!(comparison.is_equal(), "{:?}", comparison.differences);
    assert_eq!((comparison.records, comparison.left_out_items), (1, 1));
    let early = at - TimeDelta::milliseconds(3);
    assert!(!compare(&contents(&all)?, &contents(&back)?, early).is_equal());
    Ok(())
}

#[test]
fn a_hash_that_lost_a_field_by_itself_takes_only_its_part_with_it() -> Result<()> {
    let at = 1_900_000_000_000_i64;
    let field =
        |name: &[u8], at: i64| [&string(name)[..], &string(b"v"), &at.to_le_bytes()].concat();
    let both = [&[2][..], &field(b"a", -1), &field(b"b", at)].concat();
    let left = [&[1][..], &string(b"a"), &string(b"v")].concat();
    let other = || Key::new("other", 4, pairs(&[b"x".to_vec()]));
    let dumped = encodings::file_of(80, &[Key::new("k", 22, both), other()]);
    let back = encodings::file_of(80, &[Key::new("k", 4, left), other()]);
    let after = DateTime::from_timestamp_millis(at).context("a time")?;
    let judged = |at: DateTime<Utc>| -> Result<_> {
        Ok(compare(&contents(&dumped)?, &contents(&back)?, at))
    };
    assert_eq!(judged(after)?.differing, 0);
    assert_eq!(judged(after)?.records, 1);
    assert_eq!(judged(after - TimeDelta::milliseconds(1))?.differing, 1);
    Ok(())
}

#[test]
fn a_value_that_cannot_be_taken_apart_makes_its_group_unknown_and_no_other() -> Result<()> {
    let broken = Key::new("k", 20, string(b"no listpack"));
    let file = file(&[broken, Key::new("h", 4, pairs(&[b"x".to_vec()]))]);
    let contents = contents(&file)?;
    let [keys, hashes] = &contents.items[..] else {
        anyhow::bail!("{contents:?}");
    };
    assert!(keys.unknown.is_some() && keys.hash.is_none());
    assert_eq!(keys.count, Some(1));
    assert!(hashes.unknown.is_none() && hashes.hash.is_some());
    Ok(())
}

#[test]
fn the_mark_of_a_restore_is_not_recorded() -> Result<()> {
    let run = string(b"0190d5e6-0000-7000-8000-000000000001");
    let marked = file(&[
        Key::new("lastgood:restore", 0, run),
        Key::new("k", 0, string(b"v")),
    ]);
    assert!(is_same(&one("k", 0, string(b"v")), &marked)?);
    Ok(())
}

#[test]
fn a_changed_function_is_told_by_the_name_of_its_library() {
    let names = |source: &[u8]| library(source);
    assert_eq!(names(b"#!lua name=shop\nredis.register_function()"), "shop");
    assert_eq!(names(b"#!lua  name=a-b  other=c"), "a-b");
    assert_eq!(names(b"no shebang"), "");
}
