//! What no server at hand writes, built byte by byte by the format's rules, and what has to be refused.

use rstest::rstest;

use super::*;

const REDIS_2_6: &str = "REDIS0006";
const REDIS_7_2: &str = "REDIS0011";
const REDIS_7_4: &str = "REDIS0012";
const REDIS_8_6: &str = "REDIS0013";
const VALKEY_9: &str = "VALKEY080";

/// A listpack of short strings and integers.
fn listpack(entries: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in entries {
        let length = match entry.parse::<i64>() {
            Ok(number @ 0..128) => {
                body.push(u8::try_from(number).unwrap());
                1
            }
            Ok(number) => {
                body.push(0xf4);
                body.extend_from_slice(&number.to_le_bytes());
                9
            }
            Err(_) => {
                body.push(0x80 | u8::try_from(entry.len()).unwrap());
                body.extend_from_slice(entry.as_bytes());
                u8::try_from(entry.len()).unwrap() + 1
            }
        };
        body.push(length);
    }
    let total = u32::try_from(body.len() + 7).unwrap();
    let count = u16::try_from(entries.len()).unwrap();
    [
        &total.to_le_bytes()[..],
        &count.to_le_bytes(),
        &body,
        &[255],
    ]
    .concat()
}

fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = vec![0x81];
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

/// A key of this type, and what follows it.
fn key(type_byte: u8, rest: &[&[u8]]) -> Vec<u8> {
    [&[type_byte, 3][..], b"key", &rest.concat()].concat()
}

fn set(members: &[&str]) -> Content {
    Content::Set(members.iter().map(|it| it.as_bytes().to_vec()).collect())
}

fn zset(members: &[(&str, f64)]) -> Content {
    let member = |(member, score): &(&str, f64)| (member.as_bytes().to_vec(), score.to_bits());
    Content::Zset(members.iter().map(member).collect())
}

const MIN: [u8; 8] = 1_000_u64.to_le_bytes();

#[rstest]
#[case::set_listpack(REDIS_7_2, key(20, &[&string(listpack(&["a", "7", "-300"]))]), set(&["a", "7", "-300"]))]
#[case::list(REDIS_7_2, key(1, &[&[2], &string("x"), &[0xc0, 0xfb]]), Content::List(vec![b"x".to_vec(), b"-5".to_vec()]))]
#[case::zset_text(REDIS_2_6, key(3, &[&[3, 1], b"a", &[3], b"1.5", &[1], b"b", &[254, 1], b"c", &[255]]), zset(&[("a", 1.5), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY)]))]
#[case::zipmap(REDIS_2_6, key(9, &[&string(b"\x02\x01a\x02\x03xy...\x01b\x00\x00\xff")]), hash(&[("a", "xy", None), ("b", "", None)]))]
#[case::hash_metadata_pre_ga(REDIS_7_4, key(22, &[&[2, 0, 1], b"a", &[1], b"b", &[0x43, 0xe9, 1], b"c", &[1], b"d"]), hash(&[("a", "b", None), ("c", "d", Some(1_001))]))]
#[case::hash_listpack_pre_ga(REDIS_7_4, key(23, &[&string(listpack(&["a", "b", "0", "c", "d", "1001"]))]), hash(&[("a", "b", None), ("c", "d", Some(1_001))]))]
#[case::hash_metadata(REDIS_7_4, key(24, &[&MIN, &[2, 0, 1], b"a", &[1], b"b", &[2, 1], b"c", &[1], b"d"]), hash(&[("a", "b", None), ("c", "d", Some(1_001))]))]
#[case::hash_listpack(REDIS_7_4, key(25, &[&MIN, &string(listpack(&["a", "b", "0", "c", "d", "1001"]))]), hash(&[("a", "b", None), ("c", "d", Some(1_001))]))]
#[case::hash_of_valkey(VALKEY_9, key(22, &[&[2, 1], b"a", &[1], b"b", &[0xff; 8], &[1], b"c", &[1], b"d", &1_001_u64.to_le_bytes()]), hash(&[("a", "b", None), ("c", "d", Some(1_001))]))]
fn a_value_is_what_its_bytes_say(
    #[case] magic: &str,
    #[case] body: Vec<u8>,
    #[case] expected: Content,
) -> anyhow::Result<()> {
    assert_eq!(content(magic, &body)?, expected);
    Ok(())
}

/// A stream with two entries, and one group with one consumer; `consumer_times` is how many bytes of times follow a
/// consumer's name.
fn stream(type_byte: u8, consumer_times: usize, tail: &[u8]) -> Vec<u8> {
    let node_id = [5_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat();
    let entries = listpack(&[
        "2", "0", "1", "name", "0", // the node
        "2", "0", "0", "first", "4", // an entry with the node's field
        "0", "1", "-1", "1", "other", "second", "6", // and one with its own
    ]);
    let id = [6_u64.to_be_bytes(), 0_u64.to_be_bytes()].concat();
    let time = 77_u64.to_le_bytes();
    key(
        type_byte,
        &[
            &[1],
            &string(node_id),
            &string(entries),
            &[2, 6, 0, 5, 1, 0, 0, 2],
            &[1, 1],
            b"g",
            &[6, 0, 2],
            &[1],
            &id,
            &time,
            &[3, 1, 1],
            b"c",
            &vec![0; consumer_times],
            &[1],
            &id,
            tail,
        ],
    )
}

#[rstest]
#[case::redis_7_0("REDIS0010", 19, 8, &[])]
#[case::redis_7_2(REDIS_7_2, 21, 16, &[])]
#[case::redis_8_6_without_producers(REDIS_8_6, 26, 16, &[0x40, 100, 0x40, 100, 0, 0, 0])]
#[case::redis_8_6(REDIS_8_6, 26, 16, &[0x40, 100, 0x40, 100, 1, 1, b'p', 2, 1, b'i', 5, 1, 1, b'j', 6, 0, 2, 0])]
fn streams_of_every_version_are_read(
    #[case] magic: &str,
    #[case] type_byte: u8,
    #[case] consumer_times: usize,
    #[case] tail: &[u8],
) -> anyhow::Result<()> {
    let expected = [
        "xadd 5-1 name first",
        "xadd 6-0 other second",
        "xsetid 6-0 of 2 added 2 deleted 0-0",
        "group g 6-0 Some(2)",
        "consumer g c",
        "pending g c 6-0 3",
    ];
    let body = stream(type_byte, consumer_times, tail);
    let expected = Content::Stream(expected.map(str::to_owned).to_vec());
    assert_eq!(content(magic, &body)?, expected);
    let (_, summary) = hear(&file(magic, &body), PIECES)?;
    let ids = if tail.len() > 10 { 2 } else { 0 };
    assert_eq!(summary.idempotency_ids_dropped, ids);
    Ok(())
}

/// Every kind of data that a module writes, and its end.
const MODULE_DATA: &[u8] = &[
    1, 5, 2, 0x40, 100, 3, 1, 2, 3, 4, 4, 1, 2, 3, 4, 5, 6, 7, 8, 5, 2, b'h', b'i', 0,
];

#[test]
fn a_modules_value_is_given_whole_or_refused_by_name() -> anyhow::Result<()> {
    // `vectorset`, version 0.
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let id = b"vectorset".iter().fold(0_u64, |id, letter| {
        let digit = letters.iter().position(|it| it == letter).unwrap();
        id << 6 | digit as u64
    }) << 10;
    let body = key(7, &[&[0x81], &id.to_be_bytes(), MODULE_DATA]);
    let bytes = file(REDIS_8_6, &body);
    let (heard, _) = hear(&bytes, WHOLE)?;
    assert_eq!(heard.whole[0].raw, body[5..]);
    let error = hear(&bytes, PIECES).unwrap_err();
    assert!(error.to_string().contains("vectorset"), "{error}");
    Ok(())
}

#[test]
fn metadata_of_a_key_travels_with_its_payload() -> anyhow::Result<()> {
    let metadata = [&[243, 1][..], b"meta", MODULE_DATA].concat();
    let bytes = file(REDIS_8_6, &[&metadata[..], &key(0, &[&[1], b"v"])].concat());
    let (heard, summary) = hear(&bytes, WHOLE)?;
    assert_eq!(heard.whole[0].metadata, metadata);
    assert_eq!(heard.whole[0].raw, b"\x01v");
    let stored = Stored {
        metadata: &metadata,
        type_byte: 0,
        raw: b"\x01v",
    };
    let mut payload = Vec::new();
    restore_payload(stored, summary.version, &mut payload);
    assert_eq!(parse_dump_payload(&payload)?, (stored, summary.version));
    let error = hear(&bytes, PIECES).unwrap_err();
    assert_eq!(error, FormatError::MetadataOnLarge { limit: 0 });
    Ok(())
}

#[test]
fn a_payload_is_what_a_server_made_of_it() -> anyhow::Result<()> {
    // `SET key hello` and `DUMP key` on Redis 7.0.
    let payload = b"\x00\x05hello\n\x00cr\xdfve4 \n";
    let (stored, version) = parse_dump_payload(payload)?;
    assert_eq!((stored.type_byte, stored.raw), (0, &b"\x05hello"[..]));
    assert_eq!(version.number(), 10);
    let mut again = b"before".to_vec();
    restore_payload(stored, version, &mut again);
    assert_eq!(&again[6..], payload);
    Ok(())
}

#[test]
fn what_is_no_value_is_counted_or_passed_over() -> anyhow::Result<()> {
    let body = [
        &[247, 5, 2, 1][..], // data of a module, before the keys
        MODULE_DATA,
        &[244, 1, 2, 3],      // a slot and its sizes
        &[251, 2, 1, 254, 4], // sizes, database
        &key(1, &[&[0]]),     // an empty list
        &[253, 1, 0, 0, 0],   // one second after 1970
        &key(0, &[&[1], b"v"]),
        &[252, 0, 0, 0, 0, 0, 0, 0, 0], // 1970 itself
        &[248, 9, 249, 7],
        &key(0, &[&[1], b"v"]),
        &key(0, &[&[1], b"v"]),
    ]
    .concat();
    let (heard, summary) = hear(&file(REDIS_7_4, &body), WHOLE)?;
    assert_eq!(
        (summary.module_aux, summary.empty, summary.whole),
        (1, 1, 3)
    );
    let times: Vec<_> = heard.whole.iter().map(|it| it.expires_at_ms).collect();
    assert_eq!(times, [Some(1000), Some(1), None]);
    let used: Vec<_> = heard
        .whole
        .iter()
        .map(|it| (it.idle_seconds, it.frequency))
        .collect();
    assert_eq!(used, [(None, None), (Some(9), Some(7)), (None, None)]);
    assert!(heard.whole.iter().all(|value| value.db == 4));
    let import = [&[243][..], &string("job"), &[2, 1, 2, 3, 4]].concat();
    assert_eq!(hear(&file(VALKEY_9, &import), WHOLE)?.1.slot_imports, 1);
    Ok(())
}

#[rstest]
#[case::no_rdb(b"PGDMP....".to_vec(), FormatError::NotRdb)]
#[case::too_new(file("REDIS0014", b""), FormatError::Version { number: 14 })]
#[case::valkey_in_redis_clothes(file("REDIS0080", b""), FormatError::Version { number: 80 })]
#[case::redis_in_valkey_clothes(file("VALKEY011", b""), FormatError::Version { number: 11 })]
#[case::old_function(file("REDIS0010", &[246]), FormatError::PreRelease { what: "functions", by: "a 7.0 release candidate" })]
#[case::something_after(
    [&file(REDIS_7_2, b"")[..], b"\n"].concat(),
    FormatError::TrailingBytes { at: 18 }
)]
#[case::something_after_without_checksum(b"REDIS0004\xff\n".to_vec(), FormatError::TrailingBytes { at: 10 })]
fn what_is_not_known_is_refused_by_name(#[case] bytes: Vec<u8>, #[case] expected: FormatError) {
    assert_eq!(hear(&bytes, WHOLE).unwrap_err(), expected);
}

#[rstest]
#[case::field_expiry_before_its_time(REDIS_7_2, 22)]
#[case::redis_type_in_valkey(VALKEY_9, 24)]
#[case::stream_before_its_time(REDIS_7_4, 26)]
#[case::never(REDIS_8_6, 27)]
#[case::gap(REDIS_8_6, 8)]
fn an_unknown_type_is_refused_with_the_version(#[case] magic: &str, #[case] type_byte: u8) {
    let error = hear(&file(magic, &[type_byte]), WHOLE).unwrap_err();
    let text = error.to_string();
    let version = magic.trim_start_matches(|c: char| !c.is_ascii_digit());
    assert!(
        text.contains(&format!("type {type_byte} at byte 9")),
        "{text}"
    );
    assert!(text.contains(version.trim_start_matches('0')), "{text}");
}

#[rstest]
#[case::metadata_before_its_time(REDIS_7_4, 243)]
#[case::never(REDIS_8_6, 242)]
fn an_unknown_opcode_is_refused(#[case] magic: &str, #[case] opcode: u8) {
    let text = hear(&file(magic, &[opcode]), WHOLE)
        .unwrap_err()
        .to_string();
    assert!(text.contains(&format!("unknown opcode {opcode}")), "{text}");
}

#[test]
fn a_checksum_may_be_switched_off_and_that_is_said() -> anyhow::Result<()> {
    let mut bytes = file(REDIS_7_2, &key(0, &[&[1], b"v"]));
    let sum = bytes.len() - 8;
    bytes[sum..].fill(0);
    assert_eq!(hear(&bytes, WHOLE)?.1.checksum, Checksum::Disabled);
    bytes[sum] = 1;
    assert_eq!(hear(&bytes, WHOLE).unwrap_err(), FormatError::Checksum);
    let old = [&b"REDIS0004"[..], &key(0, &[&[1], b"v"]), &[255]].concat();
    assert_eq!(hear(&old, WHOLE)?.1.checksum, Checksum::Absent);
    Ok(())
}

#[rstest]
#[case::too_much(&[0xc3, 2, 5, 0x00, b'a'])]
#[case::too_little(&[0xc3, 3, 1, 0x01, b'a', b'b'])]
#[case::before_the_begin(&[0xc3, 4, 4, 0x00, b'a', 0x20, 1])]
#[case::cut(&[0xc3, 1, 4, 0x03, b'a', b'b', b'c', b'd'])]
fn a_wrong_compressed_string_is_refused(#[case] string: &[u8]) {
    let error = hear(&file(REDIS_7_2, &key(0, &[string])), PIECES).unwrap_err();
    assert!(matches!(error, FormatError::Malformed { .. }), "{error}");
}

#[test]
fn a_promise_of_much_takes_no_memory() {
    // A string, a compressed string and a list that announce nearly 2^64 bytes, in a file of a few bytes.
    for body in [
        key(0, &[&[0x81], &[0xff; 8]]),
        key(0, &[&[0xc3, 0x81], &[0xff; 8], &[0x81], &[0xff; 8]]),
        key(1, &[&[0x81], &[0xff; 8]]),
        key(10, &[&[0x81], &[0xff; 8]]),
    ] {
        for limits in [WHOLE, PIECES, Limits::default()] {
            let error = hear(&file(REDIS_7_2, &body), limits).unwrap_err();
            let is_bounded = matches!(
                error,
                FormatError::Truncated { .. }
                    | FormatError::TooLong { .. }
                    | FormatError::Malformed { .. }
            );
            assert!(is_bounded, "{error}");
        }
    }
}

#[test]
fn long_strings_come_in_chunks_compressed_or_not() -> anyhow::Result<()> {
    let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(
        content(REDIS_7_2, &key(0, &[&string(&text)]))?,
        Content::String(text)
    );
    // One byte, then references of 264 bytes to it.
    let mut compressed = vec![0, b'z'];
    for _ in 0..5_000 {
        compressed.extend_from_slice(&[0xe0, 255, 0]);
    }
    let expanded = 1 + 5_000 * 264_u64;
    let lengths = [
        &[0xc3, 0x81][..],
        &(compressed.len() as u64).to_be_bytes(),
        &[0x81],
        &expanded.to_be_bytes(),
    ]
    .concat();
    let found = content(REDIS_7_2, &key(0, &[&lengths, &compressed]))?;
    assert_eq!(
        found,
        Content::String(vec![b'z'; usize::try_from(expanded)?])
    );
    Ok(())
}

/// An empty aggregate, as old servers wrote by mistake, in each encoding: no server keeps it, and `RESTORE` refuses it.
#[rstest]
#[case::list(1, vec![0])]
#[case::set(2, vec![0])]
#[case::zset_text(3, vec![0])]
#[case::hash(4, vec![0])]
#[case::zset(5, vec![0])]
#[case::zipmap(9, vec![2, 0, 255])]
#[case::list_ziplist(10, ZIPLIST.to_vec())]
#[case::intset(11, vec![8, 2, 0, 0, 0, 0, 0, 0, 0])]
#[case::zset_ziplist(12, ZIPLIST.to_vec())]
#[case::hash_ziplist(13, ZIPLIST.to_vec())]
#[case::quicklist_without_nodes(14, vec![0])]
#[case::quicklist(14, [&[2], ZIPLIST, ZIPLIST].concat())]
#[case::hash_listpack(16, LISTPACK.to_vec())]
#[case::zset_listpack(17, LISTPACK.to_vec())]
#[case::quicklist2(18, [&[2, 2], LISTPACK, &[2], LISTPACK].concat())]
#[case::set_listpack(20, LISTPACK.to_vec())]
#[case::expiring_hash_listpack(25, [&MIN, LISTPACK].concat())]
fn a_packed_value_of_nothing_is_passed_over_like_any_other(
    #[case] type_byte: u8,
    #[case] raw: Vec<u8>,
    #[values(WHOLE, PIECES, Limits::to_count())] limits: Limits,
) -> anyhow::Result<()> {
    let body = [key(type_byte, &[&raw]), key(0, &[&[1], b"v"])].concat();
    let (_, summary) = hear(&file(REDIS_7_4, &body), limits)?;
    assert_eq!((summary.empty, summary.whole + summary.large), (1, 1));
    Ok(())
}

/// Each after its length.
const ZIPLIST: &[u8] = &[11, 11, 0, 0, 0, 10, 0, 0, 0, 0, 0, 255];
const LISTPACK: &[u8] = &[7, 7, 0, 0, 0, 0, 0, 255];

#[rstest]
#[case::quicklist_with_one(14, [&[2], ZIPLIST, &[13, 13, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0xf2, 255]].concat())]
#[case::plain_node(18, [&[2, 2], LISTPACK, &[1, 1, b'x']].concat())]
fn a_list_with_an_empty_node_keeps_the_others(
    #[case] type_byte: u8,
    #[case] raw: Vec<u8>,
) -> anyhow::Result<()> {
    let (_, summary) = hear(&file(REDIS_7_4, &key(type_byte, &[&raw])), WHOLE)?;
    assert_eq!((summary.empty, summary.whole), (0, 1));
    Ok(())
}

/// A string that is too long to be held, as on a server whose `proto-max-bulk-len` was raised.
#[rstest]
#[case::list(key(1, &[&[2], &string("long"), &[1, b'x']]))]
#[case::set(key(2, &[&[2], &string("long"), &[1, b'x']]))]
#[case::zset(key(5, &[&[1], &string("long"), &[0; 8]]))]
#[case::hash(key(4, &[&[1], &string("long"), &[1, b'x']]))]
#[case::hash_value(key(4, &[&[1, 1, b'x'], &string("long")]))]
#[case::compressed(key(1, &[&[1, 0xc3, 5, 4, 3, b'l', b'o', b'n', b'g']]))]
#[case::plain_node(key(18, &[&[1, 1], &string("long")]))]
#[case::packed(key(20, &[&string(listpack(&["a", "b"]))]))]
fn who_only_counts_is_not_stopped_by_an_element_that_is_too_long_to_be_held(
    #[case] body: Vec<u8>,
) -> anyhow::Result<()> {
    let bytes = file(REDIS_7_4, &body);
    let short = Limits {
        string_bytes: 3,
        ..PIECES
    };
    let error = hear(&bytes, short).unwrap_err();
    assert!(matches!(error, FormatError::TooLong { .. }), "{error}");
    let counting = Limits {
        longer: Longer::PassedOver,
        ..short
    };
    let (_, summary) = hear(&bytes, counting)?;
    assert_eq!((summary.large, summary.too_long), (1, 1));
    assert!(summary.longest_bytes >= 4, "{summary:?}");
    Ok(())
}
