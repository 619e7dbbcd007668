//! A restore point of any engine comes back in a scratch server.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Result, ensure};
use lastgood_jobs::{
    backup::RestorePoint,
    clients::Toolbox,
    job::{Restore, RestoreTarget},
    resource::{Engine, ResourceOptions},
    scratch,
    sought::Sought,
    storage::Storage,
    worker::{Progress, Worker},
};
use rstest::rstest;
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;

use super::{
    drills::{answers, session},
    lab::{GIB, Kind, Place, programs, start},
};
use crate::{
    lab::{Lab, Server, Switch, attempt},
    subject::{Subject, backup, restore},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_point_comes_back_in_a_scratch_server() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select n, repeat('x', n) as text from generate_series(1, 1000) n")
        .await?;
    let point = lab.backup(attempt()).await?;
    let place = Place::new()?;
    let found = programs().await?;
    let server = scratch::start(&found, &place.space, attempt().run, &point.manifest).await?;
    let job = job(&point);
    let sought = Sought::at(&point.manifest_key);
    restore(
        attempt(),
        &lab.resource,
        &job,
        &sought,
        Some(server.url().clone()),
        &lab.worker,
    )
    .await?;
    let mut session = session(server.url()).await?;
    let sum: i64 = sqlx::query_scalar("select sum(length(text)) from t")
        .fetch_one(&mut session)
        .await?;
    ensure!(sum == 500_500);
    session.close().await?;
    ensure!(server.used_bytes().await? < GIB);
    server.stop().await?;
    lab.clean().await
}

/// A scratch server is the source, too, so that the test needs no other.
#[rstest]
#[case::mongodb(Kind::Mongodb, Engine::Mongodb)]
#[case::redis(Kind::Redis, Engine::Redis)]
#[case::valkey(Kind::Valkey, Engine::Redis)]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_dumped_from_one_is_restored_into_another(
    #[case] kind: Kind,
    #[case] engine: Engine,
) -> Result<()> {
    let place = Place::new()?;
    let source = start(kind, &place.space).await?;
    answers(kind, &source).await?;
    let (store, work) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let worker = Worker {
        storage: Storage::open(&store.path().display().to_string().parse()?).await?,
        tools: Arc::new(Toolbox::default()),
        work_dir: work.path().to_owned(),
        encrypt_to: None,
        keyring: Arc::new(lastgood_jobs::key::NoKeys),
        lease: Arc::new(Switch(AtomicBool::new(true))),
        progress: Arc::new(Progress::default()),
    };
    let subject = Subject {
        id: "db-1".parse()?,
        team: "acme".parse()?,
        tier: "pro".parse()?,
        engine,
        options: ResourceOptions::default(),
        url: source.url().clone(),
    };
    let point = backup(attempt(), &subject, None, &worker).await?;
    let found = programs().await?;
    let target = scratch::start(&found, &place.space, attempt().run, &point.manifest).await?;
    let sought = Sought::at(&point.manifest_key);
    let (job, url) = (job(&point), target.url().clone());
    restore(attempt(), &subject, &job, &sought, Some(url), &worker).await?;
    match kind {
        Kind::Mongodb => {
            let client = mongodb::Client::with_uri_str(target.url().expose_secret()).await?;
            let things = client
                .database("shop")
                .collection::<bson::Document>("things");
            ensure!(things.count_documents(bson::doc! {"a": 1}).await? == 1);
        }
        Kind::Redis | Kind::Valkey => {
            let client = redis::Client::open(target.url().expose_secret())?;
            let mut session = client.get_multiplexed_async_connection().await?;
            let value: u32 = redis::cmd("GET").arg("a").query_async(&mut session).await?;
            ensure!(value == 1);
        }
        Kind::Postgres => anyhow::bail!("has a test of its own"),
    }
    source.stop().await?;
    target.stop().await?;
    place.is_empty().await
}

fn job(point: &RestorePoint) -> Restore {
    Restore {
        point: point.manifest.run_id.0,
        target: RestoreTarget::Reference {
            reference: "env:DRILL".to_owned(),
        },
        no_owner: true,
        no_acl: true,
        as_superuser: false,
        no_tablespaces: true,
        break_replication: false,
        of_owner: false,
    }
}
