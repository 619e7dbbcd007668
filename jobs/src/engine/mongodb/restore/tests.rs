//! What a restore asks of servers that the tests cannot run, and what it makes of their answers.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use bson::{Document, doc, rawdoc};
use futures::future::BoxFuture;
use rstest::rstest;
use uuid::Uuid;

use super::{MARK, restore};
use crate::{
    attempt::{Attempt, AttemptId, Epoch, RunId},
    clients::Toolbox,
    engine::{
        address::mongodb::Address,
        answer::Restored,
        mongodb::pretend::{Pretend, name, no},
    },
    error::{ErrorKind, JobError},
    format::mongodump::{Body, Header, Kind, Namespace, Prelude},
    job::{Restore, RestoreTarget},
    manifest::{Compression, Details, Dump, Manifest, Stored, tests::example},
    resource::ResourceOptions,
    storage::Storage,
    worker::{Lease, Progress, Worker},
};

struct Alive;

impl Lease for Alive {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

/// A private store with one archive of the database `shop`.
struct Lab {
    _store: tempfile::TempDir,
    worker: Worker,
    manifest: Manifest,
}

impl Lab {
    /// Stores an archive of these collections, each with its metadata and one document, from a server of this version.
    async fn with(version: &str, collections: &[(&str, Kind, &str)]) -> Result<Self> {
        let header = Header {
            concurrent_collections: 1,
            server_version: version.to_owned(),
            tool_version: "100.12.0".to_owned(),
        };
        let namespaces = collections
            .iter()
            .map(|(collection, kind, metadata)| Namespace {
                database: "shop".to_owned(),
                collection: (*collection).to_owned(),
                metadata: (*metadata).to_owned(),
                exact: None,
                size: 0,
                kind: *kind,
            });
        let namespaces: Vec<_> = namespaces.collect();
        let mut dump = Vec::new();
        let document = rawdoc! {"_id": 1, "at": bson::Timestamp { time: 0, increment: 0 }};
        let prelude = Prelude { header, namespaces };
        prelude.write(&mut dump)?;
        for namespace in &prelude.namespaces {
            let mut body = Body::new(&prelude.header, namespace);
            if namespace.kind != Kind::View {
                body.block([document.as_bytes()], &mut dump)?;
            }
            body.end(&mut dump);
        }
        let store = tempfile::tempdir()?;
        let storage = Storage::open(&store.path().display().to_string().parse()?).await?;
        let archive = zstd::encode_all(&dump[..], 1)?;
        std::fs::write(store.path().join("objects").join("x"), &archive)?;
        let blake3 = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let manifest = Manifest {
            archive: Stored {
                key: "x".parse()?,
                size_bytes: archive.len() as u64,
                blake3: blake3(&archive),
                compression: Compression::Zstd,
                encryption: None,
            },
            dump: Dump {
                format: "mongodump archive 0.1".to_owned(),
                size_bytes: dump.len() as u64,
                blake3: blake3(&dump),
            },
            details: Details::Mongodb {
                database: Some("shop".to_owned()),
                collections: 0,
                documents: 0,
                users_and_roles: false,
                oplog_entries: None,
                exceptions: Vec::new(),
            },
            ..example()
        };
        let worker = Worker {
            storage,
            tools: Arc::new(Toolbox::default()),
            work_dir: store.path().to_owned(),
            encrypt_to: None,
            keyring: std::sync::Arc::new(crate::key::NoKeys),
            lease: Arc::new(Alive),
            progress: Arc::new(Progress::default()),
        };
        Ok(Self {
            _store: store,
            worker,
            manifest,
        })
    }

    async fn restore(&self, server: &Pretend, target: RestoreTarget) -> Result<Restored, JobError> {
        let own = Address::parse(&server.url("shop").into())?;
        let job = Restore {
            point: self.manifest.run_id.0,
            target,
            no_owner: false,
            no_acl: false,
            as_superuser: false,
            no_tablespaces: false,
            break_replication: false,
            of_owner: false,
        };
        let attempt = Attempt {
            run: RunId(Uuid::from_u128(0x0123_4567 << 96)),
            epoch: Epoch(1),
            id: AttemptId(uuid::Uuid::new_v4()),
            created_at: chrono::Utc::now(),
        };
        restore(
            attempt,
            &own,
            ResourceOptions::default(),
            &job,
            &self.manifest,
            None,
            &self.worker,
        )
        .await
    }
}

const OWN: RestoreTarget = RestoreTarget::Own {};

fn in_place() -> RestoreTarget {
    RestoreTarget::InPlace {
        overwrite: "db-1".parse().unwrap(),
        merge: false,
    }
}

/// Starts an empty server that accepts everything, except for some commands that it answers differently.
async fn server_but(
    version: &'static str,
    other: impl Fn(&Document) -> Option<Document> + Send + Sync + 'static,
) -> Result<Pretend> {
    let answer = move |command: &Document| {
        other(command).unwrap_or_else(|| match name(command) {
            "listCollections" => cursor(vec![]),
            "insert" => {
                doc! {"ok": 1.0, "n": i32::try_from(command.get_array("documents").unwrap().len()).unwrap()}
            }
            "count" => doc! {"ok": 1.0, "n": 1},
            _ => doc! {"ok": 1.0},
        })
    };
    Pretend::start(version, answer).await
}

fn cursor(first: Vec<Document>) -> Document {
    doc! {"ok": 1.0, "cursor": {"id": 0_i64, "ns": "shop.$cmd.listCollections", "firstBatch": first}}
}

fn texts(commands: &[Document], field: &str) -> Vec<String> {
    let text = |it: &Document| it.get_str(field).unwrap_or_default().to_owned();
    commands.iter().map(text).collect()
}

const TIME_SERIES: &str = r#"{"options":{"timeseries":{"timeField":"t"}},"indexes":[]}"#;

#[rstest]
#[case::before_8_3("8.0.4", "system.buckets.load", false)]
#[case::from_8_3("8.3.0", "load", true)]
#[tokio::test]
async fn buckets_go_where_the_target_keeps_them(
    #[case] version: &'static str,
    #[case] collection: &str,
    #[case] is_raw: bool,
    #[values("7.0.2", "8.3.1")] of: &str,
) -> Result<()> {
    let server = server_but(version, |_| None).await?;
    let lab = Lab::with(of, &[("load", Kind::Timeseries, TIME_SERIES)]).await?;
    lab.restore(&server, OWN).await?;
    let [insert] = &server.asked("insert")[..] else {
        anyhow::bail!("not one batch");
    };
    assert_eq!(insert.get_str("insert")?, collection);
    assert_eq!(insert.get_bool("rawData").unwrap_or(false), is_raw);
    assert!(!insert.contains_key("bypassDocumentValidation"));
    let [create] = &server.asked("create")[..] else {
        anyhow::bail!("not one collection");
    };
    assert_eq!(create.get_str("create")?, "load");
    assert_eq!(create.get_document("timeseries")?, &doc! {"timeField": "t"});
    Ok(())
}

#[rstest]
#[case::new("8.0.0", true)]
#[case::late_in_its_series("7.0.13", true)]
#[case::early_in_its_series("7.0.12", false)]
#[case::odd_series("7.3.20", false)]
#[case::old("4.4.29", false)]
#[tokio::test]
async fn an_empty_timestamp_is_kept_or_told_of(
    #[case] version: &'static str,
    #[case] is_kept: bool,
) -> Result<()> {
    let server = server_but(version, |_| None).await?;
    let lab = Lab::with("8.0.4", &[("orders", Kind::Collection, "")]).await?;
    let restored = lab.restore(&server, OWN).await?;
    let asked = server.asked("insert");
    let insert = asked.first().unwrap();
    assert_eq!(insert.get_bool("bypassEmptyTsReplacement").is_ok(), is_kept);
    assert_eq!(restored.notes.is_empty(), is_kept, "{:?}", restored.notes);
    Ok(())
}

#[tokio::test]
async fn collections_with_options_are_renamed_where_a_server_keeps_them() -> Result<()> {
    let options = doc! {"capped": true, "size": 4096};
    let server = server_but("8.0.4", move |command| {
        let trial =
            |name: &str| doc! {"name": name, "type": "collection", "options": options.clone()};
        (name(command) == "listCollections").then(|| {
            cursor(vec![
                trial("lastgood_restore.01234567.trial"),
                trial("lastgood_restore.01234567.trial_renamed"),
            ])
        })
    })
    .await?;
    let metadata =
        r#"{"options":{"capped":true,"size":4096},"indexes":[{"key":{"a":1},"name":"a"}]}"#;
    let lab = Lab::with("8.0.4", &[("log", Kind::Collection, metadata)]).await?;
    lab.restore(&server, in_place()).await?;
    let beside = "lastgood_restore.01234567.0";
    for command in ["insert", "createIndexes"] {
        assert_eq!(texts(&server.asked(command), command), [beside]);
    }
    let renamed = server.asked("renameCollection");
    assert_eq!(
        texts(&renamed, "to"),
        ["shop.lastgood_restore.01234567.trial_renamed", "shop.log"]
    );
    let last = renamed.last().unwrap();
    assert_eq!(last.get_str("renameCollection")?, format!("shop.{beside}"));
    assert!(last.get_bool("dropTarget")?);
    assert!(!texts(&server.asked("drop"), "drop").contains(&"log".to_owned()));
    Ok(())
}

#[tokio::test]
async fn users_and_roles_are_merged_by_the_servers_own_command() -> Result<()> {
    let server = server_but("8.0.4", |command| {
        let is_idle = name(command) == "_mergeAuthzCollections"
            && !command.keys().any(|it| it.starts_with("temp"));
        is_idle.then(|| no(2))
    })
    .await?;
    let lab = Lab::with(
        "8.0.4",
        &[
            ("orders", Kind::Collection, ""),
            ("$admin.system.users", Kind::Collection, ""),
            ("$admin.system.roles", Kind::Collection, ""),
            ("$admin.system.version", Kind::Collection, ""),
        ],
    )
    .await?;
    let restored = lab.restore(&server, OWN).await?;
    let inserted = server.asked("insert");
    let [users, roles] = [
        "lastgood_restore.01234567.users.1",
        "lastgood_restore.01234567.roles.2",
    ];
    assert_eq!(texts(&inserted, "insert"), ["orders", users, roles]);
    assert_eq!(texts(&inserted, "$db"), ["shop", "admin", "admin"]);
    let merges = server.asked("_mergeAuthzCollections");
    let [_, of_users, of_roles] = &merges[..] else {
        anyhow::bail!("{merges:?}");
    };
    assert_eq!(
        of_users.get_str("tempUsersCollection")?,
        format!("admin.{users}")
    );
    assert_eq!(
        of_roles.get_str("tempRolesCollection")?,
        format!("admin.{roles}")
    );
    for merge in [of_users, of_roles] {
        assert_eq!(
            (merge.get_str("db")?, merge.get_bool("drop")?),
            ("shop", false)
        );
    }
    let dropped = texts(&server.asked("drop"), "drop");
    assert_eq!(
        dropped
            .iter()
            .filter(|it| [users, roles].contains(&it.as_str()))
            .count(),
        4
    );
    assert_eq!(restored.notes, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn users_that_may_not_be_merged_cost_no_document() -> Result<()> {
    let server = server_but("8.0.4", |command| {
        (name(command) == "_mergeAuthzCollections").then(|| no(13))
    })
    .await?;
    let collections = [
        ("orders", Kind::Collection, ""),
        ("$admin.system.users", Kind::Collection, ""),
    ];
    let lab = Lab::with("8.0.4", &collections).await?;
    let restored = lab.restore(&server, OWN).await?;
    assert_eq!(texts(&server.asked("insert"), "insert"), ["orders"]);
    let [note] = &restored.notes[..] else {
        anyhow::bail!("{:?}", restored.notes);
    };
    assert!(note.contains("the role \"restore\" on \"admin\""), "{note}");
    Ok(())
}

#[rstest]
#[case::not_confirmed("insert", doc! {"ok": 1.0, "n": 1, "writeConcernError": {"code": 64, "errmsg": "timed out"}})]
#[case::silently_less("insert", doc! {"ok": 1.0, "n": 0})]
#[case::stepped_down("insert", no(10107))]
#[case::unmarked("update", doc! {"ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 13, "errmsg": "no"}]})]
#[tokio::test]
async fn an_answer_that_is_not_a_yes_fails_the_restore(
    #[case] command: &'static str,
    #[case] answer: Document,
) -> Result<()> {
    let server = server_but("8.0.4", move |asked| {
        (name(asked) == command).then(|| answer.clone())
    })
    .await?;
    let lab = Lab::with("8.0.4", &[("orders", Kind::Collection, "")]).await?;
    let error = lab.restore(&server, OWN).await.unwrap_err();
    assert!(!error.is_permanent(), "{}", error.report());
    assert_eq!(server.asked(command).len(), 1);
    Ok(())
}

#[rstest]
#[case::the_mark("lastgood_restore.mark", true, "took \"shop\" over")]
#[case::documents("orders", false, "shop.orders has 0 of its 1 documents")]
#[tokio::test]
async fn what_somebody_takes_away_meanwhile_is_missed(
    #[case] collection: &'static str,
    #[case] is_permanent: bool,
    #[case] told: &str,
) -> Result<()> {
    let is_filled = AtomicBool::new(false);
    let server = server_but("8.0.4", move |command| {
        let is_insert = name(command) == "insert";
        let is_late = is_filled.fetch_or(is_insert, Ordering::SeqCst);
        let is_gone = is_late && matches!(command.get_str("count"), Ok(it) if it == collection);
        is_gone.then(|| doc! {"ok": 1.0, "n": 0})
    })
    .await?;
    let lab = Lab::with("8.0.4", &[("orders", Kind::Collection, "")]).await?;
    let error = lab.restore(&server, OWN).await.unwrap_err();
    assert!(error.report().contains(told), "{}", error.report());
    assert_eq!(error.is_permanent(), is_permanent);
    Ok(())
}

#[tokio::test]
async fn the_mark_of_another_restore_in_a_backup_is_left_out_and_told() -> Result<()> {
    let server = server_but("8.0.4", |_| None).await?;
    let collections = [
        ("lastgood_restore.0a1b2c3d.0", Kind::Collection, ""),
        (MARK, Kind::Collection, ""),
        ("orders", Kind::Collection, ""),
    ];
    let lab = Lab::with("8.0.4", &collections).await?;
    let restored = lab.restore(&server, OWN).await?;
    assert_eq!(texts(&server.asked("insert"), "insert"), ["orders"]);
    assert_eq!(texts(&server.asked("create"), "create"), ["orders"]);
    let [note] = &restored.notes[..] else {
        anyhow::bail!("{:?}", restored.notes);
    };
    assert!(note.contains("shop.lastgood_restore.mark"), "{note}");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn nothing_is_restored_into_a_database_that_cannot_be_a_customers(
    #[values("admin", "config", "local", "", "a b", "a/b", "a.b", "$a")] name: &str,
) -> Result<()> {
    let server = server_but("8.0.4", |_| None).await?;
    let lab = Lab::with("8.0.4", &[("orders", Kind::Collection, "")]).await?;
    let target = RestoreTarget::Database {
        name: name.to_owned(),
    };
    let error = lab.restore(&server, target).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    assert!(error.is_permanent());
    assert!(server.asked("create").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_view_is_made_after_what_it_shows() -> Result<()> {
    let made = Mutex::new(Vec::new());
    let server = server_but("8.0.4", move |command| {
        let made = &mut made.lock().unwrap();
        let shown = command.get_str("viewOn").unwrap_or("orders");
        if shown != "orders" && !made.contains(&shown.to_owned()) {
            return Some(no(26));
        }
        made.push(command.get_str("create").ok()?.to_owned());
        None
    })
    .await?;
    let on = |shown: &str| format!(r#"{{"options":{{"viewOn":"{shown}","pipeline":[]}}}}"#);
    let (on_b, on_c, on_orders) = (on("b"), on("c"), on("orders"));
    let collections = [
        ("a", Kind::View, &on_b[..]),
        ("b", Kind::View, &on_c),
        ("c", Kind::View, &on_orders),
        ("orders", Kind::Collection, ""),
    ];
    let lab = Lab::with("8.0.4", &collections).await?;
    lab.restore(&server, OWN).await?;
    let asked = texts(&server.asked("create"), "create");
    assert_eq!(asked, ["orders", "a", "b", "c", "a", "b", "a"]);
    let cycle = on("a");
    let collections = [("a", Kind::View, &on_b[..]), ("b", Kind::View, &cycle)];
    let server = server_but("8.0.4", |it| it.contains_key("viewOn").then(|| no(130))).await?;
    let lab = Lab::with("8.0.4", &collections).await?;
    let error = lab.restore(&server, OWN).await.unwrap_err();
    assert!(error.report().contains("shop.a"), "{}", error.report());
    Ok(())
}
