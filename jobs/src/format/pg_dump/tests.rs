//! Archives built here by the format's rules. Archives of the real `pg_dump` are in the tests against real servers.

use proptest::prelude::*;

use super::*;

fn int_of(value: i64) -> Vec<u8> {
    let magnitude = u32::try_from(value.unsigned_abs()).unwrap();
    [&[u8::from(value < 0)], &magnitude.to_le_bytes()[..]].concat()
}

fn text(value: &str) -> Vec<u8> {
    [int_of(i64::try_from(value.len()).unwrap()), value.into()].concat()
}

fn null() -> Vec<u8> {
    int_of(-1)
}

fn header(minor: u8) -> Vec<u8> {
    let compression = if minor >= 15 { vec![0] } else { int_of(0) };
    let date = int_of(1).repeat(7);
    let head = [b'P', b'G', b'D', b'M', b'P', 1, minor, 0, 4, 8, 1];
    [
        head.into(),
        compression,
        date,
        text("app"),
        text("18.6"),
        text("18.6 (X)"),
    ]
    .concat()
}

fn entry(minor: u8, id: i64, kind: &str, tag: &str, state: u8) -> Vec<u8> {
    let mut bytes = [
        int_of(id),
        int_of(0),
        text("0"),
        text("0"),
        text(tag),
        text(kind),
        int_of(2),
    ]
    .concat();
    bytes.extend([text("create …"), null(), text(""), text("public"), text("")].concat());
    if minor >= 14 {
        bytes.extend(text("heap"));
    }
    if minor >= 16 {
        bytes.extend(int_of(114));
    }
    bytes.extend(
        [
            text("owner"),
            text("false"),
            text("1"),
            text("2"),
            null(),
            vec![state; 1],
            vec![0; 8],
        ]
        .concat(),
    );
    bytes
}

fn data(id: i64, rows: &[&str]) -> Vec<u8> {
    let rows: Vec<u8> = rows.iter().flat_map(|row| text(row)).collect();
    [vec![1], int_of(id), rows, int_of(0)].concat()
}

fn archive(minor: u8) -> Vec<u8> {
    let contents = [
        entry(minor, 1, "ENCODING", "ENCODING", 3),
        entry(minor, 2, "TABLE", "orders", 3),
        entry(minor, 3, "TABLE DATA", "orders", 1),
        entry(minor, 4, "BLOBS", "BLOBS", 1),
        entry(minor, 5, "VIEW", "recent", 3),
    ];
    let objects = [
        vec![3],
        int_of(4),
        int_of(77),
        text("blob"),
        int_of(0),
        int_of(0),
    ]
    .concat();
    let blocks = [data(3, &["1\ta\n", "2\tb\n"]), objects].concat();
    [header(minor), int_of(5), contents.concat(), blocks].concat()
}

fn scan(bytes: &[u8], piece: usize) -> Result<Summary, FormatError> {
    let mut scanner = Scanner::new(Keep::Nothing);
    for piece in bytes.chunks(piece.max(1)) {
        scanner.feed(piece)?;
    }
    scanner.finish()
}

#[test]
fn every_version_is_read_in_pieces_of_any_size() {
    for minor in MINOR_OLDEST..=MINOR_NEWEST {
        for piece in [1, 2, 3, 7, 64, 4096] {
            let summary = scan(&archive(minor), piece).unwrap();
            assert_eq!((summary.tables, summary.entries), (1, 5), "1.{minor}");
            assert_eq!(summary.server_version, "18.6");
            assert_eq!(summary.dump_version, "18.6 (X)");
        }
    }
}

#[test]
fn an_archive_cut_at_any_byte_is_refused() {
    for minor in MINOR_OLDEST..=MINOR_NEWEST {
        let whole = archive(minor);
        for end in 0..whole.len() {
            assert!(scan(&whole[..end], 64).is_err(), "1.{minor} cut at {end}");
        }
    }
}

#[test]
fn contents_are_known_before_the_data_and_in_order() {
    let whole = archive(16);
    let mut scanner = Scanner::new(Keep::Entries);
    let mut at = 0;
    while !scanner.has_contents() {
        scanner.feed(&whole[at..=at]).unwrap();
        at += 1;
    }
    let (summary, entries) = scanner.into_contents();
    assert_eq!(summary.tables, 1);
    let tags: Vec<_> = entries
        .iter()
        .map(|it| (it.id, it.kind.as_str(), it.tag.as_str()))
        .collect();
    assert_eq!(
        tags[1..4],
        [
            (2, "TABLE", "orders"),
            (3, "TABLE DATA", "orders"),
            (4, "BLOBS", "BLOBS")
        ]
    );
    assert_eq!(entries[1].namespace, "public");
}

#[test]
fn what_is_wrong_is_said() {
    let says = |bytes: &[u8]| scan(bytes, 64).unwrap_err().to_string();
    assert_eq!(
        says(b"-- PostgreSQL database dump"),
        "it does not begin like a pg_dump custom archive"
    );
    assert!(says(b"PGDMP\x01\x11\0\x04\x08\x01").starts_with("its format is 1.17"));
    let whole = archive(16);
    let garbage = [&whole[..], b"\n"].concat();
    assert!(says(&garbage).contains("an unknown block"));
    let twice = [&whole[..], &data(3, &[])].concat();
    assert!(says(&twice).contains("or whose data came before"));
    let without = [header(16), int_of(1), entry(16, 9, "TABLE DATA", "t", 1)].concat();
    assert!(says(&without).contains("the data of 1 of its entries is missing"));
    assert!(says(&whole[..whole.len() - 1]).contains("in the middle of large objects"));
}

#[test]
fn a_failed_scanner_fails_for_ever() {
    let mut scanner = Scanner::new(Keep::Nothing);
    assert!(scanner.feed(b"not an archive").is_err());
    assert!(scanner.feed(&archive(16)).is_err());
    assert!(scanner.finish().is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1_usize..50) {
        let _any_answer = scan(&bytes, piece);
        let _any_answer = scan(&[header(16), bytes].concat(), piece);
    }

    #[test]
    fn pieces_do_not_matter(at in 0_usize..900, byte in any::<u8>(), piece in 1_usize..50) {
        let mut bytes = archive(16);
        if let Some(changed) = bytes.get_mut(at) {
            *changed = byte;
        }
        prop_assert_eq!(scan(&bytes, piece), scan(&bytes, usize::MAX));
    }

    #[test]
    fn any_rows_are_passed(rows in prop::collection::vec("[a-z]{1,40}", 0..50), piece in 1_usize..50) {
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let bytes = [header(16), int_of(1), entry(16, 9, "TABLE DATA", "t", 1), data(9, &rows)].concat();
        prop_assert!(scan(&bytes, piece).is_ok());
    }
}
