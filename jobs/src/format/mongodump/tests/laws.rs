//! Written archives are read again, document by document; damaged ones are refused; no input causes a panic.

use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp,
    oid::ObjectId, spec::BinarySubtype,
};
use proptest::{prelude::*, sample::Index};

use super::{
    super::*,
    golden::OF_TODAY,
    record::{Record, read},
};

/// Names as people give them, and as nobody should.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        r#"[a-c.$"'\\\n ☕🦀é]{1,6}"#,
        Just("$admin.system.users".to_owned()),
        Just("system.buckets.a".to_owned()),
    ]
}

fn leaf() -> impl Strategy<Value = Bson> {
    prop_oneof![
        any::<f64>().prop_map(Bson::Double),
        any::<String>().prop_map(Bson::String),
        any::<bool>().prop_map(Bson::Boolean),
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        any::<[u8; 12]>().prop_map(|it| Bson::ObjectId(ObjectId::from_bytes(it))),
        any::<i64>().prop_map(|it| Bson::DateTime(DateTime::from_millis(it))),
        any::<[u8; 16]>().prop_map(|it| Bson::Decimal128(Decimal128::from_bytes(it))),
        any::<(u32, u32)>()
            .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment })),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Bson::Binary(Binary {
            subtype: BinarySubtype::UserDefined(0x85),
            bytes
        })),
        ("[a-z(]{0,5}", "[imsx]{0,2}").prop_map(|(pattern, options)| {
            Bson::RegularExpression(Regex {
                pattern: pattern.try_into().unwrap(),
                options: options.try_into().unwrap(),
            })
        }),
        ".{0,9}".prop_map(Bson::Symbol),
        ".{0,9}".prop_map(Bson::JavaScriptCode),
        ".{0,9}".prop_map(|code| {
            let scope = bson::doc! { "a": 1 };
            Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })
        }),
        Just(pointer()),
        Just(Bson::Null),
        Just(Bson::Undefined),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
    ]
}

/// The one type that has no constructor.
fn pointer() -> Bson {
    let raw = b"\x1c\0\0\0\x0cp\0\x04\0\0\0d.c\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\0";
    let document: Document = bson::deserialize_from_slice(raw).unwrap();
    document.get("p").unwrap().clone()
}

fn document() -> impl Strategy<Value = Vec<u8>> {
    let value = leaf().prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            prop::collection::vec(("[a-z.$é]{0,4}", inner), 0..4)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    });
    let fields = prop::collection::vec(("[a-z.$é]{0,4}", value), 0..5);
    fields.prop_map(|fields| {
        let document: Document = fields.into_iter().collect();
        bson::serialize_to_vec(&document).unwrap()
    })
}

/// Documents that only a server would know to be wrong: to the archive they are bytes.
fn opaque() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..60).prop_map(|inside| {
        let length = u32::try_from(inside.len() + DOCUMENT_BYTES_MIN).unwrap();
        [&length.to_le_bytes()[..], &inside, &[0]].concat()
    })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    let kind = prop::sample::select(vec![Kind::Collection, Kind::View, Kind::Timeseries]);
    let size = prop_oneof![Just(0), any::<i64>()];
    (name(), name(), ".{0,30}", size, kind).prop_map(
        |(database, collection, metadata, size, kind)| Namespace {
            database,
            collection,
            metadata,
            exact: None,
            size,
            kind,
        },
    )
}

fn prelude() -> impl Strategy<Value = Prelude> {
    let version = prop::sample::select(vec!["", "3.2.22", "8.0.4", "8.3.0"]);
    let namespaces = prop::collection::vec(namespace(), 1..6);
    (any::<i32>(), version, namespaces).prop_map(|(collections, version, mut namespaces)| {
        let header = Header {
            concurrent_collections: collections,
            server_version: version.to_owned(),
            tool_version: "lastgood".to_owned(),
        };
        let mut names = std::collections::HashSet::new();
        namespaces.retain(|it| {
            let name = it.data_collection(&header).into_owned();
            names.insert((it.database.clone(), name))
        });
        Prelude { header, namespaces }
    })
}

type Blocks = Vec<(Index, Vec<Vec<u8>>)>;

/// Blocks of any namespaces, one after another.
fn blocks() -> impl Strategy<Value = Blocks> {
    let documents = prop::collection::vec(prop_oneof![document(), opaque()], 0..4);
    prop::collection::vec((any::<Index>(), documents), 0..10)
}

/// Writes an archive, and returns it with what should be read from it.
fn write(prelude: &Prelude, blocks: &Blocks) -> (Vec<u8>, Vec<Vec<Vec<u8>>>) {
    let mut out = Vec::new();
    prelude.write(&mut out).unwrap();
    let begin = |it| Body::new(&prelude.header, it);
    let mut bodies: Vec<_> = prelude.namespaces.iter().map(begin).collect();
    let mut wanted = vec![Vec::new(); bodies.len()];
    for (index, documents) in blocks {
        let at = index.index(bodies.len());
        let pieces = documents.iter().map(Vec::as_slice);
        bodies[at].block(pieces, &mut out).unwrap();
        wanted[at].extend_from_slice(documents);
    }
    for body in bodies {
        body.end(&mut out);
    }
    (out, wanted)
}

proptest! {
    #[test]
    fn what_was_written_is_read(prelude in prelude(), blocks in blocks(), piece in 1_usize..200) {
        let (archive, wanted) = write(&prelude, &blocks);
        let (summary, record) = read(&archive, piece)?;
        prop_assert_eq!(&record.prelude, &prelude);
        prop_assert_eq!(&record.documents, &wanted);
        let ended: Vec<_> = (0..wanted.len()).collect();
        prop_assert_eq!(record.ended, ended);
        for (told, documents) in summary.namespaces.iter().zip(&wanted) {
            prop_assert_eq!(told.documents, documents.len() as u64);
            prop_assert_eq!(told.bytes, documents.concat().len() as u64);
        }
        prop_assert_eq!(summary.bytes, archive.len() as u64);
    }

    #[test]
    fn a_cut_anywhere_is_refused(prelude in prelude(), blocks in blocks(), cut in any::<Index>()) {
        let (archive, _) = write(&prelude, &blocks);
        prop_assert!(read(&archive[..cut.index(archive.len())], 64).is_err());
    }

    #[test]
    fn a_flipped_bit_after_the_prelude_is_refused(
        prelude in prelude(), blocks in blocks(), at in any::<Index>(), bit in 0_u8..8, piece in 1_usize..200,
    ) {
        let (mut archive, _) = write(&prelude, &blocks);
        let mut before = Vec::new();
        prelude.write(&mut before)?;
        let at = before.len() + at.index(archive.len() - before.len());
        archive[at] ^= 1 << bit;
        // The name in a block's header may turn into that of another namespace. If the block is empty, it cannot be
        // told from a correct one.
        let harmed = read(&archive, piece);
        let (whole, _) = write(&prelude, &blocks);
        prop_assert!(harmed.is_err() || harmed == read(&whole, piece));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1_usize..50) {
        let _any_answer = read(&bytes, piece);
        let _any_answer = read(&[&MAGIC[..], &bytes].concat(), piece);
    }

    #[test]
    fn pieces_do_not_matter_to_what_is_said(
        at in 0..OF_TODAY.len(), byte in any::<u8>(), piece in 1_usize..50,
    ) {
        let mut bytes = OF_TODAY.to_vec();
        bytes[at] = byte;
        prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
    }
}

#[test]
fn the_largest_and_the_deepest_documents_pass() -> anyhow::Result<()> {
    let large = bson::rawdoc! { "a": "x".repeat(16 * 1024 * 1024 - 20) }.into_bytes();
    let mut deep = bson::rawdoc! {};
    for _ in 0..200 {
        deep = bson::rawdoc! { "d": deep };
    }
    let deep = deep.into_bytes();
    let prelude = super::prelude(vec![super::namespace("a")]);
    let mut out = Vec::new();
    prelude.write(&mut out)?;
    let mut body = Body::new(&prelude.header, &prelude.namespaces[0]);
    let both = [large.as_slice(), deep.as_slice()].concat();
    body.block([both.as_slice()], &mut out)?;
    body.end(&mut out);
    for piece in [1 << 16, usize::MAX] {
        let (_, record): (_, Record) = read(&out, piece)?;
        assert_eq!(record.documents[0].concat(), both);
        assert_eq!(record.documents[0].len(), 2);
    }
    Ok(())
}

/// An announced length is not believed: memory is allocated for what has arrived.
#[test]
fn a_claimed_length_costs_nothing() -> anyhow::Result<()> {
    let claim = 48 * 1024 * 1024_u32;
    let mut archive = super::prelude_bytes(&["a"]);
    archive.extend(super::block("a", super::Mark::Documents, &[]));
    archive.truncate(archive.len() - TERMINATOR.len());
    archive.extend(claim.to_le_bytes());
    let mut reader = Reader::new(());
    for byte in &archive {
        reader.feed(std::slice::from_ref(byte))?;
    }
    let piece = vec![1; 65_536];
    reader.feed(&piece)?;
    assert!(reader.held() < 4 * piece.len(), "{}", reader.held());
    let mut held = 0;
    for _ in 1..(claim as usize - 4) / piece.len() {
        reader.feed(&piece)?;
        held = held.max(reader.held());
    }
    assert!(held <= DOCUMENT_BYTES_MAX, "{held}");
    Ok(())
}
