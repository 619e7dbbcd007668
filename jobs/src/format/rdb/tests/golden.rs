//! Files that real servers wrote are read as what was put into them, and another reader agrees.

use rdb::{RdbDecoder, RdbValue, filter::Simple};
use rstest::rstest;

use super::*;

const REDIS_6: &[u8] = include_bytes!("../golden/redis-6.2.rdb");
const REDIS_7: &[u8] = include_bytes!("../golden/redis-7.0.rdb");
const VALKEY_9: &[u8] = include_bytes!("../golden/valkey-9.1.rdb");
const VALKEY_9_LFU: &[u8] = include_bytes!("../golden/valkey-9.1-lfu.rdb");

#[rstest]
#[case::redis_6(REDIS_6, 9, 40, 0)]
#[case::redis_7(REDIS_7, 10, 40, 1)]
#[case::valkey_9(VALKEY_9, 80, 41, 1)]
#[case::valkey_9_lfu(VALKEY_9_LFU, 80, 41, 1)]
fn every_value_is_counted_and_the_checksum_fits(
    #[case] bytes: &[u8],
    #[case] version: u16,
    #[case] values: u64,
    #[case] functions: u64,
) -> anyhow::Result<()> {
    let (heard, summary) = hear(bytes, WHOLE)?;
    assert_eq!(summary.version.number(), version);
    assert_eq!(heard.version, Some(summary.version));
    assert_eq!(summary.checksum, Checksum::Verified);
    assert_eq!(summary.bytes, bytes.len() as u64);
    assert_eq!((summary.whole, summary.large), (values, 0));
    assert_eq!(summary.functions, functions);
    assert_eq!(heard.functions.len() as u64, functions);
    assert_eq!(summary.expiring, 3);
    let (heard, summary) = hear(bytes, PIECES)?;
    assert_eq!((summary.whole, summary.large), (0, values));
    assert_eq!(summary.expiring, 3);
    assert_eq!(heard.contents.len() as u64, values);
    Ok(())
}

#[rstest]
#[case::redis_6(REDIS_6)]
#[case::redis_7(REDIS_7)]
fn another_reader_finds_the_same_elements_and_expiries(#[case] bytes: &[u8]) -> anyhow::Result<()> {
    let (whole, _) = hear(bytes, WHOLE)?;
    let (pieces, _) = hear(bytes, PIECES)?;
    let mut db = 0;
    let mut compared = 0;
    for item in RdbDecoder::new(bytes, Simple::new())? {
        let (key, content, expiry) = match item? {
            RdbValue::SelectDb(number) => {
                db = u64::from(number);
                continue;
            }
            RdbValue::String { key, value, expiry } => (key, Content::String(value), expiry),
            RdbValue::List {
                key,
                values,
                expiry,
            } => (key, Content::List(values), expiry),
            RdbValue::Set {
                key,
                members,
                expiry,
            } => (key, Content::Set(members.into_iter().collect()), expiry),
            RdbValue::SortedSet {
                key,
                values,
                expiry,
            } => {
                let values = values.into_iter();
                let values = values.map(|(score, member)| (member, score.to_bits()));
                (key, Content::Zset(values.collect()), expiry)
            }
            RdbValue::Hash {
                key,
                values,
                expiry,
            } => {
                let values = values.into_iter();
                let values = values.map(|(field, value)| (field, (value, None)));
                (key, Content::Hash(values.collect()), expiry)
            }
            RdbValue::ResizeDb { .. } | RdbValue::AuxField { .. } | RdbValue::Checksum(_) => {
                continue;
            }
        };
        let ours = pieces.contents.get(&(db, key.clone()));
        assert_eq!(ours, Some(&content), "{}", String::from_utf8_lossy(&key));
        let mut ours = whole.whole.iter();
        let ours = ours.find(|value| value.db == db && value.key == key);
        assert_eq!(ours.map(|value| value.expires_at_ms), Some(expiry));
        compared += 1;
    }
    // The other reader skips streams.
    assert_eq!(compared, 40 - 3);
    Ok(())
}

#[test]
fn the_same_data_is_read_from_every_server() -> anyhow::Result<()> {
    let (old, _) = hear(REDIS_6, PIECES)?;
    let (middle, _) = hear(REDIS_7, PIECES)?;
    let (valkey, _) = hear(VALKEY_9, PIECES)?;
    for (key, content) in &middle.contents {
        // Only later servers know which entries were ever added.
        if !matches!(content, Content::Stream(_)) {
            assert_eq!(old.contents.get(key), Some(content));
        }
        if !key.1.starts_with(b"hash:ttl") {
            assert_eq!(valkey.contents.get(key), Some(content));
        }
    }
    Ok(())
}

#[test]
fn a_stream_comes_with_groups_consumers_and_what_is_pending() -> anyhow::Result<()> {
    let stream = |meta| {
        Content::Stream(
            [
                "xadd 1-1 a 1 b two",
                "xadd 5-0 other fields c 3",
                "xadd 9999999-7 a 70000 b ",
                meta,
                "group group 9999999-7 None",
                "consumer group alice",
                "pending group alice 5-0 2",
                "consumer group bob",
                "pending group bob 9999999-7 1",
                "consumer group lazy",
                "group idle 9999999-8 None",
            ]
            .map(str::to_owned)
            .to_vec(),
        )
    };
    let counted = "xsetid 9999999-8 of 3 added 5 deleted 9999999-8";
    for (bytes, meta) in [
        (REDIS_6, "xsetid 9999999-8 of 3"),
        (REDIS_7, counted),
        (VALKEY_9, counted),
    ] {
        let (heard, _) = hear(bytes, PIECES)?;
        let found = heard.contents.get(&(0, b"stream".to_vec()));
        assert_eq!(found, Some(&stream(meta)));
    }
    Ok(())
}

#[test]
fn fields_expire_as_they_were_told_to() -> anyhow::Result<()> {
    let (heard, _) = hear(VALKEY_9, PIECES)?;
    let long = "v".repeat(80);
    let expected = hash(&[
        ("stays", "1", None),
        ("goes", "2", Some(4_000_000_000_000)),
        ("goes too", &long, Some(4_000_000_000_000)),
    ]);
    let found = heard.contents.get(&(0, b"hash:ttl".to_vec()));
    assert_eq!(found, Some(&expected));
    Ok(())
}

#[test]
fn keys_come_with_their_database_expiry_and_use() -> anyhow::Result<()> {
    let (heard, _) = hear(VALKEY_9_LFU, WHOLE)?;
    let find = |key: &[u8]| heard.whole.iter().find(|value| value.key == key).unwrap();
    assert_eq!(find(b"other").db, 3);
    assert_eq!(find(b"last").db, 15);
    assert_eq!(find(b"last").expires_at_ms.unwrap() / 1_000_000_000, 5_795);
    assert!(find(b"string:plain").frequency > find(b"string:empty").frequency);
    assert_eq!(find(b"string:plain").idle_seconds, None);
    let (heard, _) = hear(VALKEY_9, WHOLE)?;
    let plain = heard.whole.iter().find(|it| it.key == b"string:plain");
    assert!(plain.unwrap().idle_seconds.is_some());
    assert_eq!(heard.functions.len(), 1);
    assert!(heard.functions[0].starts_with(b"#!lua name=mylib"));
    Ok(())
}

#[rstest]
#[case::redis_6(REDIS_6)]
#[case::redis_7(REDIS_7)]
#[case::valkey_9(VALKEY_9)]
fn what_fits_is_whole_and_what_does_not_is_in_pieces(#[case] bytes: &[u8]) -> anyhow::Result<()> {
    let (whole, all) = hear(bytes, WHOLE)?;
    let (pieces, _) = hear(bytes, PIECES)?;
    for whole_value_bytes in [1, 10, 50, 100, 500] {
        let (heard, summary) = hear(
            bytes,
            Limits {
                whole_value_bytes,
                ..Limits::default()
            },
        )?;
        assert_eq!(summary.whole + summary.large, all.whole);
        assert!(summary.whole > 0 && summary.large > 0);
        for value in &heard.whole {
            assert!(value.raw.len() <= whole_value_bytes);
            assert!(whole.whole.contains(value));
        }
        for (key, content) in &heard.contents {
            assert_eq!(pieces.contents.get(key), Some(content));
        }
    }
    Ok(())
}
