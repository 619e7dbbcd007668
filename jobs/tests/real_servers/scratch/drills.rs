//! Each engine starts, holds data, and leaves nothing when it is stopped or dropped.

use anyhow::{Result, ensure};
use lastgood_jobs::scratch::{self, Flavour, NotPossible, Scratch, ServerPrograms, Version};
use rstest::rstest;
use secrecy::ExposeSecret as _;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};

use super::lab::{Kind, Place, drill, programs, start};
use crate::lab::until;

pub(super) async fn session(url: &secrecy::SecretString) -> Result<PgConnection> {
    let options: PgConnectOptions = url.expose_secret().parse()?;
    Ok(options.disable_statement_logging().connect().await?)
}

/// Writes something and reads it back through the driver.
pub(super) async fn answers(kind: Kind, scratch: &Scratch) -> Result<()> {
    let url = scratch.url().expose_secret();
    match kind {
        Kind::Postgres => {
            let mut session = session(scratch.url()).await?;
            session.execute("create table t as select 7 as n").await?;
            let who = "select rolsuper or rolcreaterole or rolreplication or rolbypassrls from pg_roles where rolname = current_user";
            ensure!(
                !sqlx::query_scalar::<_, bool>(who)
                    .fetch_one(&mut session)
                    .await?,
                "the owner may do too much"
            );
            let read = session.execute("select pg_read_file('/etc/passwd')").await;
            ensure!(read.is_err(), "the owner reads files of the machine");
            session.close().await?;
        }
        Kind::Mongodb => {
            let client = mongodb::Client::with_uri_str(url).await?;
            let hello = client
                .database("admin")
                .run_command(bson::doc! {"hello": 1})
                .await?;
            ensure!(hello.get_str("setName").is_ok(), "it is a replica set");
            let things = client.database("shop").collection("things");
            things.insert_one(bson::doc! {"a": 1}).await?;
            ensure!(things.count_documents(bson::doc! {}).await? == 1);
        }
        Kind::Redis | Kind::Valkey => {
            let mut session = redis::Client::open(url)?
                .get_multiplexed_async_connection()
                .await?;
            redis::cmd("SET")
                .arg("a")
                .arg(1)
                .exec_async(&mut session)
                .await?;
            let found: u32 = redis::cmd("GET").arg("a").query_async(&mut session).await?;
            ensure!(found == 1);
            redis::cmd("SELECT")
                .arg(100)
                .exec_async(&mut session)
                .await?;
        }
    }
    Ok(())
}

#[rstest]
#[case::postgres(Kind::Postgres, "PostgreSQL 18.")]
#[case::mongodb(Kind::Mongodb, "MongoDB 6.0.")]
#[case::redis(Kind::Redis, "Redis 6.2.")]
#[case::valkey(Kind::Valkey, "Valkey 9.")]
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_leaves_nothing(#[case] kind: Kind, #[case] version: &str) -> Result<()> {
    let place = Place::new()?;
    let mut server = start(kind, &place.space).await?;
    ensure!(
        server.version().starts_with(version),
        "{}",
        server.version()
    );
    answers(kind, &server).await?;
    ensure!(server.used_bytes().await? > 0);
    ensure!(server.died().is_none());
    ensure!(!place.processes()?.is_empty());
    server.stop().await?;
    ensure!(
        std::fs::read_dir(&place.space.dir)?.next().is_none(),
        "files are left"
    );
    ensure!(place.processes()?.is_empty(), "processes are left");
    Ok(())
}

#[rstest]
#[case::postgres(Kind::Postgres)]
#[case::mongodb(Kind::Mongodb)]
#[case::redis(Kind::Redis)]
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_leaves_nothing(#[case] kind: Kind) -> Result<()> {
    let place = Place::new()?;
    let server = start(kind, &place.space).await?;
    answers(kind, &server).await?;
    drop(server);
    place.is_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_given_up_leaves_nothing() -> Result<()> {
    let place = Place::new()?;
    let started = {
        let space = place.space.clone();
        tokio::spawn(async move { start(Kind::Postgres, &space).await })
    };
    until("a program of the server runs", || async {
        Ok(place.space.dir.exists() && !place.processes()?.is_empty())
    })
    .await?;
    started.abort();
    place.is_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_by_itself_is_noticed() -> Result<()> {
    let place = Place::new()?;
    let mut server = start(Kind::Redis, &place.space).await?;
    let mut session = redis::Client::open(server.url().expose_secret())?
        .get_multiplexed_async_connection()
        .await?;
    drop(
        redis::cmd("SHUTDOWN")
            .arg("NOSAVE")
            .exec_async(&mut session)
            .await,
    );
    let noticing = tokio::sync::Mutex::new(&mut server);
    until("the end is noticed", || async {
        let died = noticing.lock().await.died();
        Ok(died.is_some_and(|it| it.contains("Redis") && it.contains("exit status")))
    })
    .await?;
    server.stop().await?;
    place.is_empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_the_version_says_which_is_missing() -> Result<()> {
    let (place, found) = (Place::new()?, programs().await?);
    let none = ServerPrograms::default();
    let (space, properties) = (&place.space, [].into());
    let postgres = scratch::start_postgres(&found, space, drill(1), 13, &properties).await;
    let mongodb = scratch::start_mongodb(&found, space, drill(1), Version(99, 0, 0)).await;
    let redis = scratch::start_redis(&none, space, drill(1), Flavour::Redis, 11).await;
    for (refused, says) in [
        (postgres, "no PostgreSQL 13"),
        (mongodb, "no MongoDB 99.0 or newer"),
        (redis, "RDB version 11"),
    ] {
        let error = refused
            .err()
            .map(|it| (it.not_possible().map(NotPossible::as_str), it.to_string()));
        let (name, text) = error.unwrap_or_default();
        ensure!(name == Some("no_server") && text.contains(says), "{text}");
    }
    Ok(())
}

#[rstest]
#[case::postgres(Kind::Postgres)]
#[case::mongodb(Kind::Mongodb)]
#[case::redis(Kind::Redis)]
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_would_not_fit_is_refused_before_it_begins(#[case] kind: Kind) -> Result<()> {
    let mut place = Place::new()?;
    place.space.max_bytes = 1000;
    let refused = start(kind, &place.space).await.err();
    let reason = refused.as_ref().and_then(|it| it.not_possible());
    let Some(NotPossible::TooLarge {
        needs_bytes,
        allowed_bytes: 1000,
    }) = reason
    else {
        anyhow::bail!("{refused:?}");
    };
    ensure!(*needs_bytes >= 2000);
    ensure!(!place.space.dir.exists() || std::fs::read_dir(&place.space.dir)?.next().is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locale_that_is_not_here_is_replaced_and_told() -> Result<()> {
    let place = Place::new()?;
    let properties = [
        ("encoding", "UTF8"),
        ("collate", "xx_XX.UTF-8"),
        ("ctype", "xx_XX.UTF-8"),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let found = programs().await?;
    let server =
        scratch::start_postgres(&found, &place.space, drill(1), 17, &properties.into()).await?;
    let replaced = server.replaced_locale();
    ensure!(
        replaced.is_some_and(|it| it.wanted == "xx_XX.UTF-8" && it.used.starts_with('C')),
        "{replaced:?}"
    );
    let mut session = session(server.url()).await?;
    let encoding: String = sqlx::query_scalar("show server_encoding")
        .fetch_one(&mut session)
        .await?;
    ensure!(encoding == "UTF8");
    session.close().await?;
    server.stop().await?;
    Ok(())
}

/// A program that prints its configuration, password and all, and fails.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_failed_start_has_no_password() -> Result<()> {
    let (place, programs) = (Place::new()?, tempfile::tempdir()?);
    let passable = || std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let path = programs.path().join("redis-server");
    let says = "Redis server v=7.0.15 sha=0";
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo '{says}' && exit 0\n/bin/grep pass \"$1\"; exit 3\n"
    );
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, passable())?;
    std::fs::set_permissions(programs.path(), passable())?;
    let found = ServerPrograms::only(&[programs.path().to_owned()]).await;
    let failed = scratch::start_redis(&found, &place.space, drill(1), Flavour::Redis, 9)
        .await
        .err();
    let text = failed.map(|it| it.to_string()).unwrap_or_default();
    ensure!(
        text.contains("exit status: 3") && text.contains("requirepass ***"),
        "{text}"
    );
    place.is_empty().await
}

/// PostgreSQL would otherwise begin again, and the drill would only see that a connection broke.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_crashes_stays_down_and_is_noticed() -> Result<()> {
    let place = Place::new()?;
    let mut server = start(Kind::Postgres, &place.space).await?;
    let mut session = session(server.url()).await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut session)
        .await?;
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()?;
    ensure!(killed.success());
    let noticing = tokio::sync::Mutex::new(&mut server);
    until("the end is noticed", || async {
        let died = noticing.lock().await.died();
        Ok(died.is_some_and(|it| it.contains("PostgreSQL 18")))
    })
    .await?;
    drop(session.close().await);
    server.stop().await?;
    place.is_empty().await
}
