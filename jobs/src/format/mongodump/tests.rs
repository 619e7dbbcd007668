//! Archives that were written byte by byte are read as they are, and errors say what is wrong with one.

mod golden;
mod laws;
mod record;

use rstest::rstest;

use self::{
    golden::{OF_2017, OF_TODAY},
    record::{Record, read},
};
use super::{block::BlockHeader, block::Mark, *};

/// Returns a document with this one field.
fn document(field: i32) -> Vec<u8> {
    bson::rawdoc! { "a": field }.into_bytes()
}

fn namespace(collection: &str) -> Namespace {
    Namespace {
        database: "shop".to_owned(),
        collection: collection.to_owned(),
        metadata: "{}".to_owned(),
        exact: None,
        size: 0,
        kind: Kind::Collection,
    }
}

fn prelude(namespaces: Vec<Namespace>) -> Prelude {
    let header = Header {
        concurrent_collections: 1,
        server_version: "8.0.4".to_owned(),
        tool_version: "lastgood 0.1".to_owned(),
    };
    Prelude { header, namespaces }
}

fn prelude_bytes(collections: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let namespaces = collections.iter().map(|it| namespace(it)).collect();
    prelude(namespaces).write(&mut out).unwrap();
    out
}

fn block(collection: &str, mark: Mark, documents: &[Vec<u8>]) -> Vec<u8> {
    let header = BlockHeader {
        database: "shop",
        collection,
        mark,
    };
    [header.to_bytes(), documents.concat(), TERMINATOR.to_vec()].concat()
}

fn says(bytes: &[u8]) -> String {
    read(bytes, 64).unwrap_err().to_string()
}

/// Replaces the first occurrence of `from`.
fn with(archive: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = archive.windows(from.len()).position(|it| it == from);
    let (before, after) = archive.split_at(at.unwrap());
    [before, to, &after[from.len()..]].concat()
}

#[test]
fn an_archive_of_today_is_read_as_mongodump_means_it() -> anyhow::Result<()> {
    let (summary, record) = read(OF_TODAY, 64)?;
    let header = Header {
        concurrent_collections: 4,
        server_version: "8.0.4".to_owned(),
        tool_version: "100.12.0".to_owned(),
    };
    assert_eq!(record.prelude.header, header);
    let namespaces = &record.prelude.namespaces;
    let kinds: Vec<_> = namespaces
        .iter()
        .map(|it| (it.database.as_str(), it.collection.as_str(), it.kind))
        .collect();
    let wanted = [
        ("shop", "orders", Kind::Collection),
        ("shop", "recent", Kind::View),
        ("shop", "load", Kind::Timeseries),
        ("", "oplog", Kind::Collection),
    ];
    assert_eq!(kinds, wanted);
    assert!(namespaces[0].metadata.ends_with(r#""type":"collection"}"#));
    let buckets = namespaces[2].data_collection(&header);
    assert_eq!(buckets, "system.buckets.load");
    let second = bson::RawDocument::from_bytes(&record.documents[0][1])?;
    assert_eq!(second.get_str("of")?, "café ☕\n");
    let counts: Vec<_> = summary.namespaces.iter().map(|it| it.documents).collect();
    assert_eq!(counts, [2, 0, 1, 0]);
    assert_eq!(summary.namespaces[0].bytes, 66);
    assert_eq!(summary.bytes, OF_TODAY.len() as u64);
    assert_eq!(record.ended, [1, 0, 3, 2]);
    Ok(())
}

#[test]
fn an_archive_from_before_namespaces_had_a_type_is_read() -> anyhow::Result<()> {
    let (summary, record) = read(OF_2017, 64)?;
    assert_eq!(record.prelude.namespaces[0].kind, Kind::Collection);
    assert_eq!(summary.namespaces[0].documents, 1);
    Ok(())
}

#[test]
fn what_is_written_is_what_mongodump_writes() -> anyhow::Result<()> {
    let (_, record) = read(OF_TODAY, 64)?;
    let Record {
        prelude, documents, ..
    } = record;
    let mut out = Vec::new();
    prelude.write(&mut out)?;
    let mut bodies: Vec<Body> = prelude
        .namespaces
        .iter()
        .map(|it| Body::new(&prelude.header, it))
        .collect();
    for (body, document) in [(0, Some(0)), (2, Some(0)), (0, Some(1)), (1, None)] {
        let piece = document.map(|it: usize| documents[body][it].as_slice());
        bodies[body].block(piece, &mut out)?;
    }
    let oplog = bodies.pop();
    let buckets = bodies.pop();
    bodies.pop().unwrap().end(&mut out);
    bodies.pop().unwrap().end(&mut out);
    let mut oplog = oplog.unwrap();
    oplog.block([], &mut out)?;
    oplog.end(&mut out);
    buckets.unwrap().end(&mut out);
    // The golden archive has an empty type for the oplog; we write a type.
    let wanted = with(
        OF_TODAY,
        b"H\0\0\0\x02db\0\x01\0\0\0\0",
        b"R\0\0\0\x02db\0\x01\0\0\0\0",
    );
    let wanted = with(
        &wanted,
        b"\x02type\0\x01\0\0\0\0",
        b"\x02type\0\x0b\0\0\0collection\0",
    );
    assert_eq!(out, wanted);
    Ok(())
}

#[rstest]
#[case::today(OF_TODAY)]
#[case::of_2017(OF_2017)]
fn an_archive_cut_at_any_byte_or_continued_is_refused(#[case] whole: &[u8]) {
    for end in 0..whole.len() {
        assert!(read(&whole[..end], 64).is_err(), "cut at {end}");
    }
    for more in [&b"\0"[..], b"\xff\xff\xff\xff", whole] {
        let error = says(&[whole, more].concat());
        let wanted = format!("it has bytes after its end at byte {}", whole.len());
        assert_eq!(error, wanted);
    }
}

#[rstest]
#[case::today(OF_TODAY)]
#[case::of_2017(OF_2017)]
fn pieces_of_any_size_are_read_alike(#[case] whole: &[u8]) -> anyhow::Result<()> {
    for piece in 1..whole.len() {
        assert_eq!(read(whole, piece)?, read(whole, usize::MAX)?);
    }
    Ok(())
}

#[test]
fn a_time_series_of_a_server_8_3_stands_under_its_own_name() -> anyhow::Result<()> {
    let mut series = namespace("load");
    series.kind = Kind::Timeseries;
    for (version, wanted) in [
        ("8.2.9", "system.buckets.load"),
        ("8.3.0-rc1", "load"),
        ("10.0.0", "load"),
        ("unknown", "system.buckets.load"),
    ] {
        let mut prelude = prelude(vec![series.clone()]);
        prelude.header.server_version = version.to_owned();
        assert_eq!(series.data_collection(&prelude.header), wanted);
        let mut out = Vec::new();
        prelude.write(&mut out)?;
        let other = if wanted == "load" {
            "system.buckets.load"
        } else {
            "load"
        };
        let good = [out.clone(), block(wanted, Mark::End(0), &[])].concat();
        read(&good, 64)?;
        let bad = [out, block(other, Mark::End(0), &[])].concat();
        assert!(says(&bad).contains("not among its namespaces"));
    }
    Ok(())
}

#[test]
fn an_archive_of_an_empty_database_ends_with_its_prelude() -> anyhow::Result<()> {
    let (summary, _) = read(&prelude_bytes(&[]), 64)?;
    assert_eq!(summary.namespaces, []);
    assert!(says(&[prelude_bytes(&[]), vec![0]].concat()).contains("bytes after its end"));
    Ok(())
}

#[test]
fn what_is_no_archive_is_said() {
    assert_eq!(
        says(b"PGDMP\x01"),
        "it does not begin like a mongodump archive"
    );
    assert_eq!(
        says(b"\x1f\x8b\x08\0\0"),
        "it is compressed: decompress it with gzip -d first"
    );
    let later = with(OF_TODAY, b"0.1\0", b"0.2\0");
    assert_eq!(
        says(&later),
        r#"its format is "0.2", but only "0.1" is supported"#
    );
    assert!(says(b"m\xe2").contains("in the middle of its header"));
}

#[test]
fn a_header_that_is_wrong_is_said() {
    let changed = |from: &[u8], to: &[u8]| says(&with(OF_TODAY, from, to));
    assert!(changed(b"\x02server_version", b"\x0dserver_version").contains("without text"));
    assert!(changed(b"\x06\0\0\x008.0.4", b"\x06\0\0\x008.0.\xff").contains("not UTF-8"));
    assert!(changed(b"\x07\0\0\0orders", b"\x07\0\0\0order\xff").contains("not UTF-8"));
    assert!(changed(b"\x02version", b"\x02versio_").contains("without a version"));
    assert!(changed(b"\x02db", b"\x02dc").contains("without a database"));
    assert!(changed(b"\x02collection", b"\x02collectioN").contains("without a collection"));
    assert!(changed(b"timeseries\0\0", b"Timeseries\0\0").contains("of an unknown type"));
    assert!(changed(b"recent\0\x02metadata", b"orders\0\x02metadata").contains("same name"));
    assert!(changed(b"\x08EOF\0\0", b"\x08EOF\0\x02").contains("without a boolean"));
    assert!(changed(b"\x08EOF", b"\x08EoF").contains("with an unknown field"));
    assert!(changed(b"\x12CRC\0\0", b"\x12CRC\0\x01").contains("a checksum before"));
    assert!(changed(b"\x12CRC", b"\x01CRC").contains("without an int64"));
    let twice = bson::rawdoc! { "version": "0.1", "version": "0.1" };
    assert!(says(&[&MAGIC, twice.as_bytes()].concat()).contains("a header with a field twice"));
    let magic_twice = [&OF_TODAY[..4], &TERMINATOR].concat();
    assert!(says(&magic_twice).contains("a terminator where a header belongs at byte 4"));
}

#[rstest]
#[case::not_announced(&[block("other", Mark::End(0), &[])], "not among its namespaces")]
#[case::ended_twice(&[block("a", Mark::End(0), &[]), block("a", Mark::End(0), &[])], r#"block of "shop.a" at byte"#)]
#[case::block_after_end(&[block("a", Mark::End(0), &[]), block("a", Mark::Documents, &[])], "after the end of that namespace")]
#[case::never_ended(&[block("a", Mark::End(0), &[])], "and 1 of its namespaces have not ended")]
#[case::document_in_end(&[block("a", Mark::End(0), &[document(1)])], "a document in a namespace's end")]
#[case::wrong_checksum(&[block("a", Mark::End(1), &[])], r#"the documents of "shop.a" are not those that were dumped"#)]
#[case::no_header(&[TERMINATOR.to_vec()], "a terminator where a header belongs")]
#[case::no_last_0(&[block("a", Mark::Documents, &[b"\x05\0\0\0\x01".to_vec()])], "does not end with a 0")]
#[case::too_short(&[block("a", Mark::Documents, &[b"\x04\0\0\0".to_vec()])], "impossible length")]
#[case::too_long(&[block("a", Mark::Documents, &[b"\x01\0\0\x03\0".to_vec()])], "impossible length")]
#[case::negative(&[block("a", Mark::Documents, &[b"\xfe\xff\xff\xff".to_vec()])], "impossible length")]
fn blocks_that_are_wrong_are_said(#[case] blocks: &[Vec<u8>], #[case] wanted: &str) {
    let archive = [prelude_bytes(&["a", "b"]), blocks.concat()].concat();
    for piece in [1, 7, usize::MAX] {
        let error = read(&archive, piece).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn unknown_fields_of_the_prelude_are_passed_over() -> anyhow::Result<()> {
    let header =
        bson::rawdoc! { "later": { "x": [1] }, "concurrent_collections": 1_i64, "version": "0.1" };
    let namespace = bson::rawdoc! { "collection": "c", "later": 1.5, "db": "d" };
    let prelude = [&MAGIC, header.as_bytes(), namespace.as_bytes(), &TERMINATOR].concat();
    let end = BlockHeader {
        database: "d",
        collection: "c",
        mark: Mark::End(0),
    };
    let archive = [prelude, end.to_bytes(), TERMINATOR.to_vec()].concat();
    let (_, record) = read(&archive, 64)?;
    assert_eq!(record.prelude.header.server_version, "");
    assert_eq!(record.prelude.namespaces[0].metadata, "");
    Ok(())
}

#[test]
fn a_reader_that_failed_fails_for_ever_and_a_visitor_may_refuse() {
    let mut reader = Reader::new(Record::default());
    assert!(reader.feed(b"not an archive").is_err());
    let again = reader.feed(OF_TODAY);
    assert_eq!(again, Err(FormatError::NotArchive));
    assert!(reader.finish().is_err());
    let mut reader = Reader::new(Record {
        refuses: Some("it holds a view"),
        ..Record::default()
    });
    let error = reader.feed(OF_TODAY).unwrap_err();
    assert_eq!(error.to_string(), "it cannot be used: it holds a view");
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let refused = |prelude: &Prelude| {
        let mut out = vec![7];
        let error = prelude.write(&mut out).unwrap_err().to_string();
        assert_eq!(out, [7]);
        error
    };
    let twice = prelude(vec![namespace("a"), namespace("a")]);
    assert!(refused(&twice).ends_with("two namespaces of the same name"));
    assert!(refused(&prelude(vec![namespace("")])).ends_with("a collection without a name"));
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    assert!(refused(&prelude(vec![namespace(&long)])).ends_with("impossible length"));
    let mut large = namespace("a");
    large.metadata = "m".repeat(PRELUDE_DOCUMENT_BYTES_MAX);
    assert!(refused(&prelude(vec![large])).contains("over 16 MiB"));

    let mut out = vec![7];
    let mut body = Body::new(&prelude(vec![]).header, &namespace("a"));
    let whole = document(1);
    for bad in [&whole[..whole.len() - 1], &b"\x05\0\0\0\x01"[..], b"\0"] {
        assert!(body.block([&whole, bad], &mut out).is_err());
        assert_eq!(out, [7]);
    }
    body.end(&mut out);
    let archive = [prelude_bytes(&["a"]), out[1..].to_vec()].concat();
    assert!(read(&archive, 64).is_ok(), "what was refused left no trace");
}
