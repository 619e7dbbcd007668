//! What a dump of MongoDB contains and promises.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use bson::{Bson, Document, RawDocumentBuf, doc};
use chrono::Utc;
use futures::TryStreamExt as _;
use lastgood_jobs::{
    manifest::{Consistency, Details},
    resource::ReadPreference,
};
use mongodb::Collection;

use super::{
    lab::{Lab, Private, private_servers_read_snapshots},
    restores::clustered,
};
use crate::lab::is_clean;

/// Returns a document with nearly every type, and with keys that would break a careless copy.
fn every_type(n: i32) -> Result<Document> {
    let binary = bson::Binary {
        subtype: bson::spec::BinarySubtype::UserDefined(0x80),
        bytes: vec![0, 255],
    };
    let regex = bson::Regex {
        pattern: bson::cstr!("^a").to_owned(),
        options: bson::cstr!("i").to_owned(),
    };
    Ok(doc! {
        "_id": bson::oid::ObjectId::new(), "z": n, "a": 1_i64, "double": 1.0, "nan": f64::NAN, "text": "ä\u{1f980}\n\"$",
        "nothing": null, "yes": true, "at": bson::DateTime::from_millis(-1), "list": [1, "x", {"y": []}],
        "Key": 1, "binary": binary, "regex": Bson::RegularExpression(regex),
        "timestamp": bson::Timestamp { time: 1, increment: 2 }, "decimal": "1.10".parse::<bson::Decimal128>()?,
        "min": Bson::MinKey, "max": Bson::MaxKey, "code": Bson::JavaScriptCode("f()".to_owned()),
    })
}

/// Returns the documents of a collection byte by byte.
async fn stored(lab: &Lab, collection: &str) -> Result<Vec<RawDocumentBuf>> {
    let collection: Collection<RawDocumentBuf> = lab.database().collection(collection);
    Ok(collection.find(doc! {}).await?.try_collect().await?)
}

#[tokio::test]
async fn every_document_is_in_the_archive_as_it_is_on_the_server() -> Result<()> {
    let lab = Lab::new().await?;
    let many: Vec<_> = (0..3000).map(every_type).collect::<Result<_>>()?;
    lab.database().collection("many").insert_many(many).await?;
    let big = doc! {"_id": 1, "text": "x".repeat(15 * 1024 * 1024)};
    lab.database().collection("big").insert_one(big).await?;
    lab.run(doc! {"create": "empty"}).await?;
    let before = Utc::now();
    let (point, archive) = lab.backup().await?;
    for collection in ["many", "big"] {
        let found = archive.documents.get(&format!("{}.{collection}", lab.name));
        ensure!(
            found == Some(&stored(&lab, collection).await?),
            "{collection} differs"
        );
    }
    let manifest = &point.manifest;
    let expected = Details::Mongodb {
        database: Some(lab.name.clone()),
        collections: 3,
        documents: 3001,
        users_and_roles: false,
        oplog_entries: None,
        exceptions: Vec::new(),
    };
    assert_eq!(manifest.details, expected);
    assert_eq!(manifest.dump.format, "mongodump archive 0.1");
    assert!(
        manifest.server_version.starts_with("MongoDB "),
        "{manifest:?}"
    );
    assert!(
        manifest.tool_version.starts_with("lastgood "),
        "{manifest:?}"
    );
    assert!(manifest.consistent_at <= Utc::now() && before <= manifest.finished_at);
    assert_eq!(archive.header.get_str("version")?, "0.1");
    is_clean(&serde_json::to_string(manifest)?)?;
    lab.clean().await
}

#[tokio::test]
async fn options_and_indexes_keep_their_order_and_their_types() -> Result<()> {
    let lab = Lab::new().await?;
    let validator = doc! {"z": {"$gt": 0_i64}, "a": {"$type": "string"}};
    lab.run(doc! {"create": "plain", "validator": validator, "validationLevel": "moderate"})
        .await?;
    lab.run(doc! {"createIndexes": "plain", "indexes": [
        {"key": {"z": 1, "a": -1.0, "m": 1_i64}, "name": "zam", "unique": true},
        {"key": {"t": 1}, "name": "ttl", "expireAfterSeconds": 60},
        {"key": {"p": 1}, "name": "part", "partialFilterExpression": {"z": {"$gt": 1}}},
        {"key": {"where": "2dsphere"}, "name": "geo"},
        {"key": {"$**": 1}, "name": "wild"},
        {"key": {"h": 1}, "name": "hidden", "hidden": true, "sparse": true, "collation": {"locale": "de"}},
    ]})
    .await?;
    lab.run(doc! {"create": "capped", "capped": true, "size": 4096, "max": 10})
        .await?;
    lab.run(doc! {"create": "french", "collation": {"locale": "fr"}})
        .await?;
    lab.run(clustered(&lab, "c")).await?;
    lab.run(doc! {"create": "view", "viewOn": "plain", "pipeline": [{"$match": {"z": 1}}]})
        .await?;
    let (_, archive) = lab.backup().await?;
    let metadata = |collection: &str| archive.metadata(&format!("{}.{collection}", lab.name));
    let plain = metadata("plain")?;
    for part in [
        r#"{"options":{"validator":{"z":{"$gt":{"$numberLong":"0"}},"a":{"$type":"string"}},"validationLevel":"moderate""#,
        r#""key":{"z":{"$numberInt":"1"},"a":{"$numberDouble":"-1.0"},"m":{"$numberLong":"1"}}"#,
        r#""unique":true"#,
        r#""expireAfterSeconds":{"$numberInt":"60"}"#,
        r#""partialFilterExpression":{"z":{"$gt":{"$numberInt":"1"}}}"#,
        r#""key":{"where":"2dsphere"}"#,
        r#""key":{"$**":{"$numberInt":"1"}}"#,
        r#""hidden":true"#,
        r#""collation":{"locale":"de""#,
        r#""collectionName":"plain","type":"collection"}"#,
    ] {
        ensure!(plain.contains(part), "{part} is not in {plain}");
    }
    for (collection, part) in [
        (
            "capped",
            r#""capped":true,"size":{"$numberInt":"4096"},"max":{"$numberInt":"10"}"#,
        ),
        ("french", r#""collation":{"locale":"fr""#),
        (
            "clustered",
            if lab.has_clustered_collections() {
                r#""clusteredIndex":{"#
            } else {
                r#""collectionName":"clustered""#
            },
        ),
        (
            "view",
            r#"{"options":{"viewOn":"plain","pipeline":[{"$match":{"z":{"$numberInt":"1"}}}]},"indexes":[],"#,
        ),
    ] {
        let found = metadata(collection)?;
        ensure!(found.contains(part), "{part} is not in {found}");
    }
    let kind = |collection: &str| {
        let told = archive
            .namespaces
            .get(&format!("{}.{collection}", lab.name));
        told.and_then(|it| it.get_str("type").ok())
    };
    assert_eq!(
        (kind("plain"), kind("view")),
        (Some("collection"), Some("view"))
    );
    lab.clean().await
}

#[tokio::test]
async fn a_quiet_replica_set_is_dumped_as_of_one_instant() -> Result<()> {
    let server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    let before = Utc::now();
    for collection in ["a", "b", "c"] {
        let one = doc! {"_id": 1};
        lab.database()
            .collection(collection)
            .insert_one(one)
            .await?;
    }
    let (point, _) = lab.backup().await?;
    assert_eq!(
        point.manifest.consistency,
        Consistency::Snapshot,
        "{:?}",
        point.manifest.warnings
    );
    assert_eq!(point.manifest.warnings, Vec::<String>::new());
    // The cluster time has whole seconds only.
    let since = point.manifest.consistent_at - before;
    assert!(since.num_milliseconds() > -1000, "{since}");
    Ok(())
}

#[tokio::test]
async fn a_standalone_is_dumped_with_a_warning() -> Result<()> {
    let lab = Lab::standalone().await?;
    lab.database()
        .collection("a")
        .insert_one(doc! {"x": 1})
        .await?;
    let before = Utc::now();
    let (point, archive) = lab.backup().await?;
    assert_eq!(point.manifest.consistency, Consistency::None);
    let [warning] = &point.manifest.warnings[..] else {
        anyhow::bail!("{:?}", point.manifest.warnings);
    };
    assert!(warning.contains("make it a replica set"), "{warning}");
    assert!(point.manifest.consistent_at >= before);
    assert_eq!(
        archive.documents.get(&format!("{}.a", lab.name)),
        Some(&stored(&lab, "a").await?)
    );
    lab.clean().await
}

#[tokio::test]
async fn a_whole_deployment_has_every_database_but_the_servers_own() -> Result<()> {
    let server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    for database in ["shop", "forum", "admin"] {
        let on = lab.client.database(database);
        on.collection("a").insert_one(doc! {"in": database}).await?;
    }
    let create = doc! {"createUser": "u", "pwd": "hunter2-marker", "roles": [{"role": "readWrite", "db": "shop"}]};
    lab.run(create).await?;
    let mut lab = Lab {
        resource: lab.with_url("/shop", "/"),
        ..lab
    };
    let (point, archive) = lab.backup().await?;
    let names: Vec<_> = archive.namespaces.keys().map(String::as_str).collect();
    let names = names.into_iter().filter(|it| *it != ".oplog");
    assert_eq!(names.collect::<Vec<_>>(), ["admin.a", "forum.a", "shop.a"]);
    let Details::Mongodb {
        database: None,
        collections: 3,
        documents: 3,
        ..
    } = point.manifest.details
    else {
        anyhow::bail!("{:?}", point.manifest.details);
    };

    lab.resource.options.users_and_roles = true;
    lab.resource.options.read_preference = Some(ReadPreference::SecondaryPreferred);
    let (point, archive) = lab.backup().await?;
    let users = archive
        .documents
        .get("admin.system.users")
        .context("no users")?;
    assert_eq!(users.len(), 1);
    assert!(archive.namespaces.contains_key("admin.system.roles"));
    let Details::Mongodb {
        collections: 3,
        users_and_roles: true,
        ..
    } = point.manifest.details
    else {
        anyhow::bail!("{:?}", point.manifest.details);
    };
    Ok(())
}

#[tokio::test]
async fn users_and_roles_of_a_database_come_with_it_if_they_are_asked_for() -> Result<()> {
    let server = Private::start().await?;
    let mut lab = Lab::private(&server).await?;
    lab.database()
        .collection("a")
        .insert_one(doc! {"x": 1})
        .await?;
    for database in ["shop", "forum"] {
        let create = doc! {"createUser": "u", "pwd": "hunter2-marker", "roles": [{"role": "read", "db": "shop"}]};
        lab.client.database(database).run_command(create).await?;
    }
    lab.resource.options.users_and_roles = true;
    let (_, archive) = lab.backup().await?;
    let users = archive
        .documents
        .get("shop.$admin.system.users")
        .context("no users")?;
    let of: Vec<_> = users
        .iter()
        .map(|it| it.get_str("db").unwrap_or_default())
        .collect();
    assert_eq!(of, ["shop"]);
    assert!(archive.documents.contains_key("shop.$admin.system.roles"));
    assert!(archive.documents.contains_key("shop.$admin.system.version"));
    Ok(())
}

#[tokio::test]
async fn of_a_server_that_never_had_a_user_no_users_are_in_the_archive() -> Result<()> {
    let server = Private::start().await?;
    let mut lab = Lab::private(&server).await?;
    lab.insert("a", &[doc! {"x": 1}]).await?;
    lab.resource.options.users_and_roles = true;
    let (_, archive) = lab.backup().await?;
    let names: Vec<_> = archive.namespaces.keys().map(String::as_str).collect();
    // With an empty `system.version`, mongorestore would reject the whole archive.
    let names = names.into_iter().filter(|it| *it != ".oplog");
    assert_eq!(names.collect::<Vec<_>>(), ["shop.a"]);
    Ok(())
}

/// Moves money between two collections, one transaction after another, and returns how many it made.
async fn transfers(client: mongodb::Client, until: &AtomicBool) -> Result<u32> {
    let on = client.database("shop");
    let (giving, taking) = (
        on.collection::<Document>("giving"),
        on.collection::<Document>("taking"),
    );
    let mut count = 0;
    while !until.load(Ordering::SeqCst) {
        let mut session = client.start_session().await?;
        session.start_transaction().await?;
        let one = doc! {"_id": 0};
        giving
            .update_one(one.clone(), doc! {"$inc": {"holds": -1}})
            .session(&mut session)
            .await?;
        taking
            .update_one(one, doc! {"$inc": {"holds": 1}})
            .session(&mut session)
            .await?;
        session.commit_transaction().await?;
        count += 1;
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_a_snapshot_adds_up_while_others_write() -> Result<()> {
    if !private_servers_read_snapshots()? {
        return Ok(());
    }
    let server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    let account = |n: i32| doc! {"_id": n, "holds": 1000, "text": "x".repeat(200_000)};
    for collection in ["giving", "taking"] {
        let accounts: Vec<_> = (0..200).map(account).collect();
        lab.database()
            .collection(collection)
            .insert_many(accounts)
            .await?;
    }
    let until = Arc::new(AtomicBool::new(false));
    let (client, flag) = (lab.client.clone(), until.clone());
    let writer = tokio::spawn(async move { transfers(client, &flag).await });
    let dumped = lab.backup().await;
    until.store(true, Ordering::SeqCst);
    let count = writer.await??;
    let (point, archive) = dumped?;
    assert!(count > 0, "nobody wrote");
    let mut total = 0;
    for documents in archive.documents.values() {
        for document in documents {
            total += document.get_i32("holds")?;
        }
    }
    // Not every MongoDB-compatible server keeps to the requested instant. One that does not is detected.
    match point.manifest.consistency {
        Consistency::Snapshot => assert_eq!(total, 400_000),
        Consistency::None => assert!(!point.manifest.warnings.is_empty()),
    }
    Ok(())
}
