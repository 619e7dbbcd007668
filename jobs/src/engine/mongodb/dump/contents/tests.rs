//! The same documents, options and indexes give the same contents, and any lost or changed one is told by its name.

use anyhow::{Context as _, Result};
use bson::{DateTime as BsonTime, Document, doc};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use rstest::rstest;

use super::{super::metadata::of_collection, *};
use crate::{
    contents::{Comparison, compare},
    format::mongodump::{Body, Header, Kind, Namespace as Listed},
};

/// A collection or view in an archive.
#[derive(Clone)]
struct Made {
    database: &'static str,
    name: &'static str,
    kind: Kind,
    options: Document,
    indexes: Vec<Document>,
    documents: Vec<Document>,
}

fn made(name: &'static str, documents: Vec<Document>) -> Made {
    Made {
        database: "shop",
        name,
        kind: Kind::Collection,
        options: doc! {},
        indexes: vec![doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}],
        documents,
    }
}

fn oplog(entries: Vec<Document>) -> Made {
    Made {
        database: "",
        indexes: Vec::new(),
        ..made("oplog", entries)
    }
}

fn archive(all: &[Made]) -> Result<Vec<u8>> {
    let header = Header {
        concurrent_collections: 2,
        server_version: "8.0.4".to_owned(),
        tool_version: String::new(),
    };
    let listed = |it: &Made| -> Result<Listed> {
        let told = doc! {"name": it.name, "type": "collection"};
        let metadata = of_collection(&told, it.options.clone(), it.indexes.clone())?;
        Ok(Listed {
            database: it.database.to_owned(),
            collection: it.name.to_owned(),
            metadata: metadata.text,
            exact: metadata.exact,
            size: 0,
            kind: it.kind,
        })
    };
    let namespaces = all.iter().map(listed).collect::<Result<Vec<_>>>()?;
    let prelude = Prelude { header, namespaces };
    let mut out = Vec::new();
    prelude.write(&mut out)?;
    for (made, namespace) in all.iter().zip(&prelude.namespaces) {
        let mut body = Body::new(&prelude.header, namespace);
        for document in &made.documents {
            let raw = bson::serialize_to_vec(document)?;
            body.block([raw.as_slice()], &mut out)?;
        }
        body.end(&mut out);
    }
    Ok(out)
}

fn contents(all: &[Made], reads: Reads) -> Result<Contents> {
    let mut recording = Recording::start(reads);
    for piece in archive(all)?.chunks(77) {
        recording.inspect(piece)?;
    }
    let contents = recording.contents();
    recording.finish()?;
    Ok(contents)
}

fn compared(dumped: &[Made], back: &[Made]) -> Result<Comparison> {
    let (dumped, back) = (contents(dumped, Reads::Once)?, contents(back, Reads::Once)?);
    Ok(compare(&dumped, &back, DateTime::UNIX_EPOCH))
}

/// Returns the names of what differs.
fn told(dumped: &[Made], back: &[Made]) -> Result<Vec<String>> {
    let differences = compared(dumped, back)?.differences.into_iter();
    Ok(differences
        .map(|it| format!("{} {}", it.kind, it.name))
        .collect())
}

fn orders() -> Made {
    Made {
        options: doc! {"validator": {"n": {"$gt": 0}}, "collation": {"locale": "fr", "version": "57.1"}},
        indexes: vec![
            doc! {"v": 2, "key": {"_id": 1}, "name": "_id_", "collation": {"locale": "fr"}},
            doc! {"v": 2, "key": {"at": 1}, "name": "at_1", "expireAfterSeconds": 3600},
            doc! {"v": 2, "key": {"b": 1, "a": -1}, "name": "b_a", "unique": true},
        ],
        ..made(
            "orders",
            vec![doc! {"_id": 1, "n": 1}, doc! {"_id": 2, "n": 1.5}],
        )
    }
}

fn view() -> Made {
    Made {
        kind: Kind::View,
        options: doc! {"viewOn": "orders", "pipeline": [{"$match": {"n": 1}}]},
        indexes: Vec::new(),
        ..made("dear", Vec::new())
    }
}

#[rstest]
#[case::a_document(|it: &mut Made| { it.documents.pop(); }, "collection shop.orders")]
#[case::a_value(|it: &mut Made| { it.documents[0].insert("n", 2); }, "collection shop.orders")]
#[case::a_type(|it: &mut Made| { it.documents[0].insert("n", 1_i64); }, "collection shop.orders")]
#[case::an_option(|it: &mut Made| { it.options.remove("validator"); }, "collection shop.orders")]
#[case::a_type_in_an_option(|it: &mut Made| { it.options.insert("validator", doc! {"n": {"$gt": 0_i64}}); }, "collection shop.orders")]
#[case::an_index(|it: &mut Made| { it.indexes.pop(); }, "index shop.orders.b_a")]
#[case::the_order_of_a_key(|it: &mut Made| { it.indexes[2].insert("key", doc! {"a": -1, "b": 1}); }, "index shop.orders.b_a")]
#[case::uniqueness(|it: &mut Made| { it.indexes[2].insert("unique", false); }, "index shop.orders.b_a")]
#[case::a_ttl(|it: &mut Made| { it.indexes[1].remove("expireAfterSeconds"); }, "index shop.orders.at_1")]
#[case::another_ttl(|it: &mut Made| { it.indexes[1].insert("expireAfterSeconds", 7200); }, "index shop.orders.at_1")]
fn a_lost_or_changed_part_is_told_by_its_name(
    #[case] change: fn(&mut Made),
    #[case] name: &str,
) -> Result<()> {
    let mut back = orders();
    change(&mut back);
    assert_eq!(told(&[orders(), view()], &[back, view()])?, [name]);
    Ok(())
}

#[rstest]
#[case::the_order_of_documents(|it: &mut Made| it.documents.reverse())]
#[case::the_order_of_options(|it: &mut Made| {
    let validator = it.options.remove("validator").unwrap();
    it.options.insert("validator", validator);
})]
#[case::the_order_of_indexes(|it: &mut Made| it.indexes.reverse())]
#[case::the_order_in_an_index(|it: &mut Made| {
    let key = it.indexes[2].remove("key").unwrap();
    it.indexes[2].insert("key", key);
})]
#[case::what_the_server_makes(|it: &mut Made| {
    it.options.insert("uuid", "another");
    it.options.insert("collation", doc! {"locale": "fr", "version": "153.120"});
    for index in &mut it.indexes {
        index.remove("v");
        index.insert("ns", "shop.orders");
        index.insert("background", true);
    }
})]
#[case::the_type_of_a_number(|it: &mut Made| {
    it.indexes[1].insert("expireAfterSeconds", 3600.0);
    it.indexes[2].insert("key", doc! {"b": 1.0, "a": -1_i64});
})]
#[case::a_switch_that_is_off(|it: &mut Made| { it.indexes[2].insert("sparse", false); })]
#[case::a_collation_that_was_not_listed(|it: &mut Made| {
    it.indexes[2].insert("collation", doc! {"locale": "simple"});
})]
#[case::what_an_old_server_did_not_know(|it: &mut Made| { it.indexes[2].insert("safe", 1); })]
fn what_a_restore_may_change_is_no_difference(#[case] change: fn(&mut Made)) -> Result<()> {
    let mut back = orders();
    change(&mut back);
    assert_eq!(
        told(&[orders(), view()], &[view(), back])?,
        Vec::<String>::new()
    );
    Ok(())
}

#[test]
fn a_lost_view_and_a_changed_one_are_told() -> Result<()> {
    let mut back = view();
    back.options
        .insert("pipeline", vec![doc! {"$match": {"n": 2}}]);
    assert_eq!(told(&[view()], &[back])?, ["view shop.dear"]);
    assert_eq!(told(&[orders(), view()], &[orders()])?, ["view shop.dear"]);
    Ok(())
}

#[test]
fn what_a_restore_leaves_out_is_not_recorded() -> Result<()> {
    let own = ["lastgood_restore.mark", "system.profile"].map(|it| made(it, vec![doc! {"_id": 1}]));
    let all = [&[orders()][..], &own].concat();
    assert_eq!(told(&all, &[orders()])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn users_are_recorded_by_name_and_nothing_else() -> Result<()> {
    let user =
        doc! {"_id": "shop.anna", "user": "anna", "db": "shop", "credentials": {"secret": "s"}};
    let users = made("$admin.system.users", vec![user]);
    let version = made("$admin.system.version", vec![doc! {"_id": "authSchema"}]);
    let contents = contents(&[users, version], Reads::Once)?;
    assert_eq!(contents.items, [Item::new("user", "shop.anna")]);
    Ok(())
}

proptest! {
    #[test]
    fn a_changed_byte_is_told_and_the_order_is_not(
        texts in prop::collection::vec("[a-z]{1,30}", 1..20),
        which in any::<prop::sample::Index>(),
    ) {
        let all = |texts: &[String]| {
            let documents = texts.iter().zip(0..).map(|(text, n)| doc! {"_id": n, "text": text});
            made("texts", documents.collect())
        };
        let dumped = all(&texts);
        let mut turned = dumped.clone();
        turned.documents.reverse();
        prop_assert_eq!(told(std::slice::from_ref(&dumped), &[turned]).unwrap(), Vec::<String>::new());
        let mut changed = texts.clone();
        let at = which.index(texts.len());
        changed[at].replace_range(0..1, "A");
        prop_assert_eq!(told(&[dumped], &[all(&changed)]).unwrap(), ["collection shop.texts"]);
    }
}

fn until(all: &[Made]) -> Result<Option<DateTime<Utc>>> {
    let contents = contents(all, Reads::Once)?;
    let item = contents.items.into_iter().find(|it| it.kind != "index");
    Ok(item.context("no collection")?.until)
}

fn expiring(key: Document, after: impl Into<bson::Bson>, documents: Vec<Document>) -> Made {
    let ttl = doc! {"key": key, "name": "ttl", "expireAfterSeconds": after.into()};
    Made {
        indexes: vec![ttl],
        ..made("sessions", documents)
    }
}

#[rstest]
#[case::the_earliest(doc! {"at": 1}, doc! {"at": BsonTime::from_millis(5000)}, Some(65_000))]
#[case::in_an_array(doc! {"at": 1}, doc! {"at": [1, BsonTime::from_millis(7000), BsonTime::from_millis(6000)]}, Some(66_000))]
#[case::within(doc! {"a.at": 1}, doc! {"a": [{"at": BsonTime::from_millis(6000)}]}, Some(66_000))]
#[case::no_time(doc! {"at": 1}, doc! {"at": 5}, None)]
#[case::none(doc! {"at": 1}, doc! {"b": 5}, None)]
fn a_collection_is_compared_until_its_first_document_expires(
    #[case] key: Document,
    #[case] document: Document,
    #[case] until_ms: Option<i64>,
) -> Result<()> {
    let late = doc! {"_id": 2, "at": BsonTime::from_millis(1_000_000)};
    let late = if until_ms.is_some() {
        vec![late]
    } else {
        Vec::new()
    };
    let documents = [vec![document], late].concat();
    let expected = until_ms.and_then(DateTime::from_timestamp_millis);
    assert_eq!(until(&[expiring(key, 60, documents)])?, expected);
    Ok(())
}

#[test]
fn a_time_series_expires_bucket_by_bucket() -> Result<()> {
    let bucket = doc! {"_id": 1, "control": {"min": {"t": BsonTime::from_millis(5000)}}};
    let series = Made {
        kind: Kind::Timeseries,
        options: doc! {"timeseries": {"timeField": "t"}, "expireAfterSeconds": 60_i64},
        indexes: Vec::new(),
        ..made("load", vec![bucket])
    };
    assert_eq!(until(&[series])?, DateTime::from_timestamp_millis(65_000));
    Ok(())
}

#[test]
fn a_document_that_was_read_twice_makes_its_collection_unknown() -> Result<()> {
    let twice = made(
        "twice",
        vec![doc! {"_id": 1, "n": 1}, doc! {"_id": 1, "n": 2}],
    );
    let once = made("once", vec![doc! {"_id": 1}]);
    let contents = contents(&[twice, once], Reads::Loosely)?;
    let [twice, once] = &contents.items[..] else {
        anyhow::bail!("{contents:?}");
    };
    assert!(
        twice
            .unknown
            .as_deref()
            .is_some_and(|it| it.contains("twice"))
    );
    assert!(once.unknown.is_none() && once.hash.is_some());
    Ok(())
}

fn insert(collection: &str) -> Document {
    doc! {"op": "i", "ns": format!("shop.{collection}"), "o": {"_id": 7}}
}

fn command(command: Document) -> Document {
    doc! {"op": "c", "ns": "shop.$cmd", "o": command}
}

/// Each case is what an oplog does to `orders` and `others`, and what a dump of the restored database then shows.
#[rstest]
#[case::nothing(vec![], vec![orders(), made("others", vec![])], 0)]
#[case::documents(vec![insert("others")], vec![orders(), made("others", vec![doc! {"_id": 7}])], 1)]
#[case::drop(vec![command(doc! {"drop": "others"})], vec![orders()], 0)]
#[case::create(
    vec![command(doc! {"create": "new", "capped": true, "size": 4096})],
    vec![orders(), made("others", vec![]), Made { options: doc! {"capped": true, "size": 4096}, ..made("new", vec![]) }],
    1
)]
#[case::rename(
    vec![command(doc! {"renameCollection": "shop.others", "to": "shop.renamed"})],
    vec![orders(), made("renamed", vec![])],
    1
)]
#[case::index(
    vec![command(doc! {"createIndexes": "others", "v": 2, "key": {"x": 1}, "name": "x_1"})],
    vec![orders(), Made { indexes: vec![doc! {"key": {"x": 1}, "name": "x_1"}], ..made("others", vec![]) }],
    0
)]
fn what_an_oplog_changes_is_foreseen(
    #[case] entries: Vec<Document>,
    #[case] back: Vec<Made>,
    #[case] unknown: u64,
) -> Result<()> {
    let dumped = [orders(), made("others", vec![]), oplog(entries)];
    let comparison = compared(&dumped, &back)?;
    assert_eq!(comparison.differences, []);
    assert_eq!(comparison.left_out_items, unknown);
    assert_eq!(comparison.records, 2);
    Ok(())
}

#[test]
fn a_view_that_an_oplog_touches_is_not_compared() -> Result<()> {
    let touched =
        doc! {"op": "i", "ns": "shop.system.views", "o": {"_id": "shop.new", "viewOn": "orders"}};
    let removed = doc! {"op": "d", "ns": "shop.system.views", "o": {"_id": "shop.dear"}};
    let dumped = [orders(), view(), oplog(vec![touched, removed])];
    let new = Made {
        name: "new",
        ..view()
    };
    assert_eq!(told(&dumped, &[orders(), new])?, Vec::<String>::new());
    Ok(())
}
