use anyhow::Result;
use chrono::{DateTime, TimeDelta};
use rstest::rstest;

use super::*;

fn item(kind: &'static str, name: &str, count: u64, hash: u128) -> Item {
    Item {
        count: Some(count),
        hash: Some(ItemHash(hash)),
        ..Item::new(kind, name)
    }
}

fn example() -> Contents {
    Contents {
        items: vec![
            item("table", "public.orders", 3, 7),
            item("table", "public.customers", 2, 8),
            Item {
                value: Some("1000, true".to_owned()),
                ..Item::new("sequence", "public.orders_id_seq")
            },
            Item::new("index", "public.orders_pkey"),
            Item {
                value: Some("0.8.1".to_owned()),
                ..Item::new("extension", "vector")
            },
        ],
    }
}

#[test]
fn the_stored_form_is_permanent() -> Result<()> {
    let (frame, recorded) = example().to_frame()?;
    assert_eq!(Contents::from_frame(&frame)?, example());
    assert_eq!(recorded.frame_bytes()?, frame.len());
    let json = zstd::decode_all(&frame[8..])?;
    insta::assert_snapshot!(String::from_utf8(json)?);
    insta::assert_snapshot!(
        "recorded",
        serde_json::to_string(&Recorded {
            size_bytes: 0,
            ..recorded
        })?
    );
    Ok(())
}

#[test]
fn a_zstd_decoder_passes_over_the_list() -> Result<()> {
    let mut archive = zstd::encode_all(&b"the dump"[..], 1)?;
    archive.extend(example().to_frame()?.0);
    assert_eq!(zstd::decode_all(&archive[..])?, b"the dump");
    Ok(())
}

#[rstest]
#[case::nothing(b"")]
#[case::cut(&[0x5a, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1])]
#[case::other_magic(&[0x5b, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 1])]
#[case::not_compressed(&[0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, b'{', b'}'])]
fn other_bytes_are_refused(#[case] frame: &[u8]) {
    assert!(Contents::from_frame(frame).is_err());
}

#[test]
fn a_later_version_is_refused_by_its_number() -> Result<()> {
    let json = br#"{"format":"lastgood-contents","version":2,"things":[]}"#;
    let packed = zstd::bulk::compress(json, 3)?;
    let mut frame = vec![0x5a, 0x2a, 0x4d, 0x18];
    frame.extend(u32::try_from(packed.len())?.to_le_bytes());
    frame.extend(packed);
    assert!(matches!(
        Contents::from_frame(&frame),
        Err(ContentsError::Version(2))
    ));
    Ok(())
}

fn found(change: impl FnOnce(&mut Vec<Item>)) -> Comparison {
    let mut back = example();
    change(&mut back.items);
    back.items.reverse();
    compare(&example(), &back, DateTime::UNIX_EPOCH)
}

#[test]
fn the_same_contents_in_any_order_are_equal() {
    let comparison = found(|_| {});
    assert!(comparison.is_equal());
    assert_eq!(comparison.records, 5);
    assert_eq!(comparison.compared.values().sum::<u64>(), 5);
}

#[rstest]
#[case::fewer_rows(0, Fact::Count, |item: &mut Item| item.count = Some(2))]
#[case::another_row(0, Fact::Hash, |item: &mut Item| item.hash = Some(ItemHash(9)))]
#[case::a_step_of_a_sequence(2, Fact::Value, |item: &mut Item| item.value = Some("999, true".to_owned()))]
#[case::another_version(4, Fact::Value, |item: &mut Item| item.value = None)]
fn one_changed_fact_is_told_by_its_name(
    #[case] index: usize,
    #[case] fact: Fact,
    #[case] change: fn(&mut Item),
) {
    let comparison = found(|items| change(&mut items[index]));
    assert_eq!(comparison.differing, 1);
    let [difference] = &comparison.differences[..] else {
        panic!("{comparison:?}");
    };
    assert_eq!(difference.name, example().items[index].name);
    assert_eq!(difference.fact, fact);
}

#[test]
fn a_missing_and_an_added_item_are_told_by_their_names() {
    let comparison = found(|items| {
        items.remove(3);
        items.push(Item::new("view", "public.v"));
    });
    let told: Vec<_> = comparison
        .differences
        .iter()
        .map(|it| (it.name.as_str(), it.expected.is_some(), it.found.is_some()))
        .collect();
    assert_eq!(
        told,
        [
            ("public.orders_pkey", true, false),
            ("public.v", false, true)
        ]
    );
}

#[test]
fn of_two_of_one_name_a_missing_one_is_told() {
    let twice = Contents {
        items: vec![Item::new("function", "f"), Item::new("function", "f")],
    };
    let once = Contents {
        items: vec![Item::new("function", "f")],
    };
    let comparison = compare(&twice, &once, DateTime::UNIX_EPOCH);
    assert_eq!(comparison.differing, 1);
}

#[test]
fn what_may_have_expired_is_left_out_and_counted() {
    let keys = |count, until| Contents {
        items: vec![Item {
            until: Some(until),
            ..item("keys", "0", count, 1)
        }],
    };
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
    let before = now - TimeDelta::seconds(1);
    let lapsed = compare(&keys(3, before), &keys(2, before), now);
    assert!(lapsed.is_equal());
    assert_eq!(lapsed.left_out_items, 1);
    assert_eq!(lapsed.records, 0);
    let after = now + TimeDelta::seconds(1);
    assert_eq!(compare(&keys(3, after), &keys(2, after), now).differing, 1);
}

#[test]
fn what_was_unknown_is_compared_by_name_only() {
    let unknown = Contents {
        items: vec![Item {
            count: None,
            hash: None,
            unknown: Some("it changed while it was read".to_owned()),
            ..item("collection", "shop.orders", 0, 0)
        }],
    };
    let back = Contents {
        items: vec![item("collection", "shop.orders", 3, 1)],
    };
    let comparison = compare(&unknown, &back, DateTime::UNIX_EPOCH);
    assert!(comparison.is_equal());
    assert_eq!(comparison.left_out_items, 1);
    let gone = compare(&unknown, &Contents::default(), DateTime::UNIX_EPOCH);
    assert_eq!(gone.differing, 1);
}
