//! A restore into an empty target brings back exactly what was there, and changes nothing else.

use anyhow::{Result, ensure};
use bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};
use lastgood_jobs::{
    attempt::{Attempt, Epoch},
    error::JobError,
    job::RestoreTarget,
};
use mongodb::Client;

use super::{
    forge::Forge,
    lab::{Lab, Private},
    restoring::{counts, state},
};
use crate::lab::attempt;

const OWN: RestoreTarget = RestoreTarget::Own {};

/// Makes a database with everything that may matter to a copy.
pub(crate) async fn furnish(lab: &Lab) -> Result<()> {
    for command in [
        doc! {"create": "people", "validator": {"age": {"$gte": 0}, "name": {"$regex": "^[a-z]", "$options": "i"}}, "validationLevel": "moderate"},
        doc! {"create": "log", "capped": true, "size": 65_536, "max": 1000},
        doc! {"create": "noms", "collation": {"locale": "fr", "strength": 1}},
        clustered(lab, "by id"),
        doc! {"create": "nothing"},
        doc! {"create": "odd.name \u{1f980} \"'"},
        doc! {"create": "adults", "viewOn": "people", "pipeline": [{"$match": {"age": {"$gte": 18}}}]},
        doc! {"create": "a_view_of_adults", "viewOn": "adults", "pipeline": []},
    ] {
        lab.run(command).await?;
    }
    let indexes = [
        doc! {"key": {"z": 1, "a": -1}, "name": "compound"},
        doc! {"key": {"a": 1, "z": -1}, "name": "the other way round"},
        doc! {"key": {"email": 1}, "name": "unique", "unique": true, "sparse": true},
        doc! {"key": {"at": 1.0}, "name": "expires", "expireAfterSeconds": 1_000_000_000},
        doc! {"key": {"place": "2dsphere"}, "name": "where"},
        doc! {"key": {"age": 1_i64}, "name": "partial", "partialFilterExpression": {"age": {"$gt": 18}}},
        doc! {"key": {"hidden": 1}, "name": "hidden", "hidden": true},
    ];
    lab.run(doc! {"createIndexes": "people", "indexes": indexes.to_vec()})
        .await?;
    let french =
        doc! {"key": {"nom": 1}, "name": "nom", "collation": {"locale": "fr", "strength": 2}};
    let simple = doc! {"key": {"rang": 1}, "name": "rang", "collation": {"locale": "simple"}};
    lab.run(doc! {"createIndexes": "noms", "indexes": [french, simple]})
        .await?;
    let people: Vec<Document> = (0..2500).map(|n| person(n, lab)).collect();
    let bypass = doc! {"insert": "people", "documents": people, "bypassDocumentValidation": true};
    let answer = lab.run(bypass).await?;
    ensure!(answer.get_i32("n")? == 2500, "{answer}");
    let lines: Vec<Document> = (0..500).rev().map(|n| doc! {"_id": n, "line": n}).collect();
    lab.insert("log", &lines).await?;
    lab.insert("noms", &[doc! {"_id": "É"}, doc! {"_id": "a", "nom": "b"}])
        .await?;
    lab.insert("clustered", &[doc! {"_id": 2}, doc! {"_id": 1}])
        .await?;
    lab.insert(
        "odd.name \u{1f980} \"'",
        &[doc! {"_id": {"a": [1, doc! {}]}}],
    )
    .await?;
    let large = doc! {"_id": 1, "large": "x".repeat(16 * 1024 * 1024 - 100)};
    lab.insert("large", &[large, doc! {"_id": 2}]).await
}

/// Returns the command that creates `clustered`, an ordinary collection where the server has no other.
pub(crate) fn clustered(lab: &Lab, index: &str) -> Document {
    let mut create = doc! {"create": "clustered"};
    if lab.has_clustered_collections() {
        let by_id = doc! {"key": {"_id": 1}, "unique": true, "name": index};
        create.insert("clusteredIndex", by_id);
    }
    create
}

/// Returns a document; some ages are below the validator's limit.
fn person(n: i32, lab: &Lab) -> Document {
    let odd = if lab.has_odd_keys() {
        "$odd.key"
    } else {
        "odd key"
    };
    doc! {
        "_id": bson::oid::ObjectId::from_bytes(u128::from(n.unsigned_abs()).to_be_bytes()[4..].try_into().unwrap_or_default()),
        "z": n, "a": i64::from(n), "age": n - 10, "double": 1.0, "text": "ä\u{1f980}\n\"$", "nothing": null, odd: 1,
        "name": "x", "email": n, "at": bson::DateTime::from_millis(4_000_000_000_000), "list": [1, "x", {"y": []}],
        "place": {"type": "Point", "coordinates": [1.0, 2.0]},
        "binary": bson::Binary { subtype: bson::spec::BinarySubtype::UserDefined(0x80), bytes: vec![0, 255] },
        "empty": bson::Timestamp { time: 0, increment: 0 }, "min": Bson::MinKey, "max": Bson::MaxKey,
    }
}

fn next(attempt: Attempt) -> Attempt {
    Attempt {
        epoch: Epoch(attempt.epoch.0 + 1),
        ..attempt
    }
}

#[tokio::test]
async fn what_was_there_comes_back_to_the_byte() -> Result<()> {
    let lab = Lab::new().await?;
    furnish(&lab).await?;
    let before = lab.state().await?;
    let dump = Forge::default().database(&lab.database()).await?.bytes()?;
    let point = lab.store(&dump, Some(&lab.name))?;
    for name in before.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    let restored = lab.restore(&point, OWN).await?;
    assert_eq!(lab.state().await?, before);
    assert_eq!(restored.notes, Vec::<String>::new());
    assert_eq!(restored.database, lab.name);
    assert_eq!(counts(&restored), (9, 2500 + 500 + 2 + 2 + 1 + 2, 7 + 9));
    lab.clean().await
}

#[tokio::test]
async fn a_unique_index_with_an_option_of_long_ago_is_built_without_it() -> Result<()> {
    let lab = Lab::new().await?;
    let index = doc! {"v": 1, "key": {"a": 1}, "name": "a_1", "unique": true, "safe": null};
    let documents = vec![rawdoc! {"_id": 1, "a": 1}];
    let forge = Forge::default().add(&lab.name, "old", &doc! {"indexes": [index]}, documents);
    let restored = lab
        .restore(&lab.store(&forge.bytes()?, Some(&lab.name))?, OWN)
        .await?;
    let [note] = &restored.notes[..] else {
        anyhow::bail!("{:?}", restored.notes);
    };
    assert!(note.contains("a_1") && note.contains("safe"), "{note}");
    let state = lab.state().await?;
    let built = state.get("old").and_then(|it| it.indexes.get("a_1"));
    let built: Document = bson::deserialize_from_slice(built.map_or(&[][..], |it| it))?;
    assert!(built.get_bool("unique")?);
    lab.clean().await
}

#[tokio::test]
async fn a_capped_collection_keeps_the_order_of_its_documents() -> Result<()> {
    let lab = Lab::new().await?;
    let documents: Vec<RawDocumentBuf> = (0..25_000).rev().map(|n| rawdoc! {"_id": n}).collect();
    let options = doc! {"options": {"capped": true, "size": 16_777_216}};
    let before: Vec<Vec<u8>> = documents.iter().map(|it| it.as_bytes().to_vec()).collect();
    let dump = Forge::default()
        .add(&lab.name, "log", &options, documents)
        .bytes()?;
    lab.restore(&lab.store(&dump, Some(&lab.name))?, OWN)
        .await?;
    assert!(lab.state().await?["log"].documents == before);
    lab.clean().await
}

#[tokio::test]
async fn another_database_of_the_server_takes_it_too() -> Result<()> {
    let lab = Lab::new().await?;
    lab.insert("orders", &[doc! {"_id": 1}]).await?;
    lab.run(doc! {"create": "all", "viewOn": "orders", "pipeline": []})
        .await?;
    let before = lab.state().await?;
    let dump = Forge::default().database(&lab.database()).await?.bytes()?;
    let point = lab.store(&dump, Some(&lab.name))?;
    let name = format!("{}-copy", lab.name);
    let grant = doc! {"grantRolesToUser": &lab.name, "roles": [{"role": "dbOwner", "db": &name}]};
    lab.run(grant).await?;
    let target = RestoreTarget::Database { name: name.clone() };
    let restored = lab.restore(&point, target.clone()).await?;
    assert_eq!(restored.database, name);
    let copy = lab.client.database(&name);
    assert_eq!(state(&copy).await?, before);
    assert_eq!(lab.state().await?, before);
    let error = lab.restore(&point, target).await.unwrap_err();
    assert!(
        matches!(error, JobError::TargetNotEmpty { .. }),
        "{}",
        error.report()
    );
    copy.drop().await?;
    lab.clean().await
}

#[tokio::test]
async fn another_server_takes_it_under_the_name_in_its_url_or_the_old_one() -> Result<()> {
    let lab = Lab::new().await?;
    let dump = Forge::default().plain(&lab.name, "orders", 3).bytes()?;
    let point = lab.store(&dump, Some(&lab.name))?;
    let server = Private::start().await?;
    let client = Client::with_uri_str(server.url("")).await?;
    for (path, database) in [("fresh", "fresh"), ("", lab.name.as_str())] {
        let reference = RestoreTarget::Reference {
            reference: "env:X".to_owned(),
        };
        let url = Some(server.url(path));
        let restored = lab.restore_to(attempt(), &point, reference, url).await?;
        assert_eq!(restored.database, database);
        assert_eq!(
            state(&client.database(database)).await?["orders"]
                .documents
                .len(),
            3
        );
    }
    assert!(lab.state().await?.is_empty());
    lab.clean().await
}

#[tokio::test]
async fn a_whole_deployment_comes_back_with_each_database_under_its_name() -> Result<()> {
    let server = Private::start().await?;
    let mut lab = Lab::private(&server).await?;
    let dump = Forge::default()
        .plain("shop", "orders", 3)
        .plain("blog", "posts", 2)
        .plain("local", "oplog.rs", 1)
        .plain("blog", "system.profile", 1)
        .bytes()?;
    let point = lab.store(&dump, None)?;
    let into_one = RestoreTarget::Database {
        name: "one".to_owned(),
    };
    let error = lab.restore(&point, into_one).await.unwrap_err();
    assert!(
        matches!(error, JobError::NotThisWay { .. }),
        "{}",
        error.report()
    );
    let error = lab.restore(&point, OWN).await.unwrap_err();
    assert!(
        error.report().contains("leave it out"),
        "{}",
        error.report()
    );
    lab.resource.url = server.url("").into();
    lab.client
        .database("blog")
        .run_command(doc! {"create": "mine"})
        .await?;
    let error = lab.restore(&point, OWN).await.unwrap_err();
    assert!(
        error
            .report()
            .contains("\"blog\" is not empty: it has collection mine"),
        "{}",
        error.report()
    );
    lab.client.database("blog").drop().await?;
    let restored = lab.restore(&point, OWN).await?;
    assert_eq!(
        (restored.database.as_str(), counts(&restored)),
        ("blog, shop", (2, 5, 2))
    );
    let note =
        "left out, because only a server itself writes them: local.oplog.rs, blog.system.profile";
    assert_eq!(restored.notes, [note]);
    let names = lab.client.list_database_names().await?;
    assert!(
        names
            .iter()
            .all(|it| ["blog", "shop", "local", "admin", "config"].contains(&it.as_str())),
        "{names:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_second_delivery_finds_it_done_and_another_run_is_refused() -> Result<()> {
    let lab = Lab::new().await?;
    let dump = Forge::default()
        .plain(&lab.name, "orders", 3)
        .plain(&lab.name, "more", 1)
        .bytes()?;
    let point = lab.store(&dump, Some(&lab.name))?;
    let first = attempt();
    lab.restore_as(first, &point, OWN).await?;
    let after = lab.state().await?;
    let again = lab.restore_as(next(first), &point, OWN).await?;
    assert_eq!(
        again.notes,
        ["an earlier attempt of this run had already finished the restore"]
    );
    let error = lab.restore(&point, OWN).await.unwrap_err();
    assert!(
        matches!(error, JobError::TargetNotEmpty { .. }),
        "{}",
        error.report()
    );
    assert_eq!(lab.state().await?, after);
    lab.insert("more", &[doc! {"_id": "another"}]).await?;
    let error = lab.restore_as(next(first), &point, OWN).await.unwrap_err();
    assert!(
        matches!(error, JobError::PerhapsFilledBefore { .. }),
        "{}",
        error.report()
    );
    lab.clean().await
}

#[tokio::test]
async fn as_many_other_documents_are_not_taken_for_an_earlier_attempts_work() -> Result<()> {
    let lab = Lab::new().await?;
    let dump = Forge::default().plain(&lab.name, "orders", 3).bytes()?;
    let point = lab.store(&dump, Some(&lab.name))?;
    lab.restore(&point, OWN).await?;
    let orders = lab
        .client
        .database(&lab.name)
        .collection::<Document>("orders");
    orders
        .update_many(doc! {}, doc! {"$set": {"total": 0}})
        .await?;
    // An attempt of another run, whose first attempt did not reach the server.
    let second = next(attempt());
    let error = lab.restore_as(second, &point, OWN).await.unwrap_err();
    assert!(
        matches!(error, JobError::PerhapsFilledBefore { .. }),
        "{}",
        error.report()
    );
    lab.clean().await
}

#[tokio::test]
async fn an_index_that_the_server_does_not_know_costs_no_document() -> Result<()> {
    let lab = Lab::new().await?;
    let indexes = [
        doc! {"key": {"_fts": "text"}, "name": "words"},
        doc! {"key": {"of": 1}, "name": "of"},
    ];
    let metadata = doc! {"indexes": indexes.to_vec()};
    let documents = vec![rawdoc! {"_id": 1}, rawdoc! {"_id": 2}];
    let dump = Forge::default()
        .add(&lab.name, "orders", &metadata, documents)
        .bytes()?;
    let restored = lab
        .restore(&lab.store(&dump, Some(&lab.name))?, OWN)
        .await?;
    let [note] = restored.notes.as_slice() else {
        anyhow::bail!("{:?}", restored.notes)
    };
    assert!(
        note.contains("\"words\" of") && note.contains("\"_fts\":\"text\""),
        "{note}"
    );
    let after = lab.state().await?;
    assert!(after["orders"].indexes.keys().eq(["_id_", "of"]));
    assert_eq!(
        (after["orders"].documents.len(), counts(&restored)),
        (2, (1, 2, 2))
    );
    lab.clean().await
}

#[tokio::test]
async fn users_that_the_server_cannot_merge_are_told_of() -> Result<()> {
    let lab = Lab::new().await?;
    let dump = Forge::default()
        .plain(&lab.name, "orders", 1)
        .plain(&lab.name, "$admin.system.users", 1)
        .bytes()?;
    let restored = lab
        .restore(&lab.store(&dump, Some(&lab.name))?, OWN)
        .await?;
    let [note] = restored.notes.as_slice() else {
        anyhow::bail!("{:?}", restored.notes)
    };
    let by_hand = format!("--restoreDbUsersAndRoles --db={}", lab.name);
    assert!(note.contains(&by_hand), "{note}");
    assert!(lab.state().await?.keys().eq(["orders"]));
    lab.clean().await
}
