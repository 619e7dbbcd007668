//! Everything that changes while the oplog is captured comes back as it was at the end.

use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use lastgood_jobs::job::RestoreTarget;

use super::super::{
    lab::{Lab, private_servers_read_snapshots},
    restoring::{Point, state},
};
use super::{Forgetful, archive, code, entries};
use crate::lab::until;

/// The error code of a transaction that the server has no room for.
const TOO_LARGE_FOR_CACHE: i32 = 388;

pub(super) fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut all, byte| {
        let _never_fails = write!(all, "{byte:02x}");
        all
    })
}

#[expect(clippy::too_many_lines, reason = "one list of changes, in their order")]
async fn change_everything(lab: &Lab) -> Result<()> {
    let shop = lab.database();
    let run = |command: Document| shop.run_command(command);
    // Documents: by diffs of every kind, and by retryable writes.
    let plain = shop.collection::<Document>("plain");
    plain
        .update_one(
            doc! {"_id": 1},
            doc! {"$set": {"x.y.2.z": 5, "n.m": 1}, "$unset": {"k": 1}, "$push": {"l": 1}},
        )
        .await?;
    plain
        .update_many(doc! {}, doc! {"$inc": {"n.count": 1}})
        .await?;
    plain
        .update_one(
            doc! {"_id": 1},
            vec![doc! {"$set": {"l": {"$slice": ["$x.y", 1]}}}],
        )
        .await?;
    plain
        .replace_one(doc! {"_id": 2}, doc! {"whole": "new"})
        .await?;
    plain.delete_one(doc! {"_id": 3}).await?;
    plain
        .insert_many([doc! {"_id": 3, "back": true}, doc! {"_id": 100}])
        .await?;
    plain.insert_one(doc! {"_id": 3.5, "$odd": 1}).await?;
    plain
        .find_one_and_update(doc! {"_id": 4}, doc! {"$set": {"w": 1}})
        .await?;
    // Indexes.
    run(doc! {"dropIndexes": "plain", "index": "goes"}).await?;
    run(doc! {"createIndexes": "plain", "indexes": [
        {"key": {"z": 1, "a": -1}, "name": "comes"}, {"key": {"email": 1}, "name": "unique", "unique": true, "sparse": true},
    ]})
    .await?;
    run(doc! {"collMod": "plain", "index": {"name": "expires", "expireAfterSeconds": 2_000_000_000}}).await?;
    run(doc! {"collMod": "plain", "validator": {"q": {"$exists": false}}, "validationLevel": "moderate"}).await?;
    // Two collections that swap names, one that is dropped and created again, one that goes, and one that comes.
    let rename = |from: &str, to: &str| doc! {"renameCollection": format!("shop.{from}"), "to": format!("shop.{to}")};
    let admin = lab.client.database("admin");
    for (from, to) in [
        ("left", "aside"),
        ("right", "left"),
        ("aside", "right"),
        ("old_name", "new_name"),
    ] {
        admin.run_command(rename(from, to)).await?;
    }
    run(doc! {"drop": "anew"}).await?;
    run(doc! {"create": "anew", "collation": {"locale": "fr"}}).await?;
    run(doc! {"createIndexes": "anew", "indexes": [{"key": {"x": 1}, "name": "x", "collation": {"locale": "simple"}}]}).await?;
    lab.insert("anew", &[doc! {"_id": "é"}]).await?;
    run(doc! {"drop": "goes"}).await?;
    lab.insert("comes", &[doc! {"_id": 1}]).await?;
    lab.insert("comes_and_goes", &[doc! {"_id": 1}]).await?;
    run(doc! {"drop": "comes_and_goes"}).await?;
    // Collections that are built under another name and then replace the original.
    for _ in 0..3 {
        run(doc! {"aggregate": "plain", "pipeline": [{"$match": {"_id": {"$lt": 5}}}, {"$out": "out"}], "cursor": {}}).await?;
    }
    run(doc! {"convertToCapped": "to_cap", "size": 65_536}).await?;
    lab.insert("log", &[doc! {"_id": 2}, doc! {"_id": 1}])
        .await?;
    // Views, and a time series.
    run(doc! {"create": "view_comes", "viewOn": "plain", "pipeline": []}).await?;
    run(doc! {"collMod": "view", "viewOn": "plain", "pipeline": [{"$match": {"_id": 1}}]}).await?;
    run(doc! {"drop": "view_goes"}).await?;
    let at = |n: i64| bson::DateTime::from_millis(1_700_000_000_000 + n * 1000);
    lab.insert(
        "series",
        &[
            doc! {"at": at(2), "of": "a", "v": 2},
            doc! {"at": at(3), "of": "b", "v": 3},
        ],
    )
    .await?;
    run(doc! {"create": "series_comes", "timeseries": {"timeField": "at", "metaField": "of"}})
        .await?;
    lab.insert("series_comes", &[doc! {"at": at(1), "of": "a", "v": 1}])
        .await?;
    // Transactions: one over several databases, one in several entries, and one that is aborted.
    let mut session = lab.client.start_session().await?;
    let other = lab.client.database("another");
    let other = other.collection::<Document>("secrets");
    let large = shop.collection::<Document>("large");
    // They create collections, and are repeated if the server wants that.
    let over_two = session.start_transaction().and_run2(async |session| {
        let new = doc! {"_id": "in a transaction"};
        plain.insert_one(new).session(&mut *session).await?;
        let secret = doc! {"secret": "somebody else's"};
        other.insert_one(secret).session(&mut *session).await?;
        let set = plain.update_one(doc! {"_id": 5}, doc! {"$set": {"t": 1}});
        set.session(session).await
    });
    over_two.await?;
    // Longer than the 16 MB of one oplog entry. A busy server may not have written out enough of its cache yet.
    until("a large transaction fits in the server's cache", || async {
        let mut session = lab.client.start_session().await?;
        let of_two_entries = session.start_transaction().and_run2(async |session| {
            for n in 0..2 {
                let document = doc! {"_id": n, "text": "y".repeat(9_000_000)};
                large.insert_one(document).session(&mut *session).await?;
            }
            Ok(())
        });
        match of_two_entries.await {
            Err(error) if code(&error) == Some(TOO_LARGE_FOR_CACHE) => Ok(false),
            done => Ok(done.map(|()| true)?),
        }
    })
    .await?;
    session.start_transaction().await?;
    plain
        .insert_one(doc! {"_id": "never"})
        .session(&mut session)
        .await?;
    session.abort_transaction().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_while_the_oplog_is_captured_comes_back_as_it_was_at_the_end() -> Result<()>
{
    if !private_servers_read_snapshots()? {
        return Ok(());
    }
    let forgetful = Forgetful::start().await?;
    let lab = &forgetful.lab;
    let some: Vec<_> = (0..50)
        .map(|n| doc! {"_id": n, "x": {"y": [1, 2, {"z": 1}]}, "k": n, "email": n})
        .collect();
    lab.insert("plain", &some).await?;
    lab.run(doc! {"createIndexes": "plain", "indexes": [
        {"key": {"k": 1}, "name": "goes"}, {"key": {"at": 1}, "name": "expires", "expireAfterSeconds": 1_000_000_000},
    ]})
    .await?;
    for name in ["left", "right", "old_name", "anew", "goes", "to_cap", "out"] {
        lab.insert(name, &[doc! {"_id": 1, "of": name}, doc! {"_id": name}])
            .await?;
    }
    lab.run(doc! {"create": "log", "capped": true, "size": 65_536})
        .await?;
    lab.insert("log", &[doc! {"_id": 9}, doc! {"_id": 8}])
        .await?;
    for view in ["view", "view_goes"] {
        lab.run(doc! {"create": view, "viewOn": "plain", "pipeline": []})
            .await?;
    }
    lab.run(doc! {"create": "series", "timeseries": {"timeField": "at", "metaField": "of"}})
        .await?;
    let at = bson::DateTime::from_millis(1_700_000_000_000);
    lab.insert("series", &[doc! {"at": at, "of": "a", "v": 1}])
        .await?;

    let running = forgetful.begin();
    forgetful.forgets_the_snapshot().await?;
    change_everything(lab).await?;
    forgetful.gate.open();
    let point = running.await??;
    ensure!(entries(&point)? > 50, "the oplog was not captured");
    let text = format!(
        "{:?}",
        archive(lab, &point)?
            .documents
            .get(".oplog")
            .context("no oplog")?
    );
    ensure!(text.contains(&hex("in a transaction")), "not captured");
    ensure!(
        !text.contains(&hex("somebody else's")),
        "another database's document is in it"
    );

    let expected = state(&lab.client.database("shop")).await?;
    let point = Point::from(&point);
    let target = RestoreTarget::Database {
        name: "copy".to_owned(),
    };
    let restored = lab.restore(&point, target).await?;
    let differing = |found: &crate::mongodb::restoring::State| {
        let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        let differ = names
            .into_iter()
            .filter(|it| expected.get(*it) != found.get(*it));
        differ
            .map(|it| {
                format!(
                    "{it}: {:?} {:?}",
                    expected.get(it).map(brief),
                    found.get(it).map(brief)
                )
            })
            .collect::<Vec<_>>()
    };
    let found = state(&lab.client.database("copy")).await?;
    ensure!(
        found == expected,
        "{:#?} {:?}",
        differing(&found),
        restored.notes
    );
    let restored = lab.restore(&point, lab.over_itself()).await?;
    let found = state(&lab.client.database("shop")).await?;
    ensure!(
        found == expected,
        "{:#?} {:?}",
        differing(&found),
        restored.notes
    );
    drop(forgetful.server);
    Ok(())
}

fn brief(collection: &crate::mongodb::restoring::Collection) -> String {
    let document =
        |bytes: &[u8]| bson::deserialize_from_slice::<Document>(bytes).map(|it| it.to_string());
    let indexes: Vec<_> = collection.indexes.values().map(|it| document(it)).collect();
    let documents: Vec<_> = collection
        .documents
        .iter()
        .filter(|it| it.len() < 500)
        .map(|it| document(it))
        .collect();
    format!(
        "{:?} {indexes:?} {} {documents:?}",
        document(&collection.options),
        collection.documents.len()
    )
}
