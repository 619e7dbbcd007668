//! A server that the operator keeps for drills gets databases of ours, and loses only those.

use anyhow::{Result, ensure};
use chrono::{TimeDelta, Utc};
use lastgood_jobs::scratch::{
    NotPossible, start_on_configured_postgres, sweep_configured_postgres,
};
use secrecy::ExposeSecret as _;
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};

use super::lab::{GIB, drill};
use crate::lab::{Lab, Server, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_gets_a_database_that_is_dropped_again() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let url = &lab.resource.url;
    let properties = [
        ("encoding".to_owned(), "UTF8".to_owned()),
        ("collate".to_owned(), "C".to_owned()),
    ]
    .into();
    let scratch =
        start_on_configured_postgres(url, GIB, drill(1), 18, &properties, Utc::now()).await?;
    let options: PgConnectOptions = scratch.url().expose_secret().parse()?;
    let database = options.get_database().unwrap_or_default().to_owned();
    ensure!(database.starts_with("lastgood_drill_"), "{database}");
    options
        .disable_statement_logging()
        .connect()
        .await?
        .close()
        .await?;
    ensure!(scratch.used_bytes().await? > 0);
    // Too new for any sweep.
    sweep_configured_postgres(url, Utc::now()).await?;
    ensure!(lab.server.databases_like(&database).await?.len() == 1);
    scratch.stop().await?;
    ensure!(lab.server.databases_like(&database).await?.is_empty());
    let dropped =
        start_on_configured_postgres(url, GIB, drill(1), 18, &properties, Utc::now()).await?;
    let options: PgConnectOptions = dropped.url().expose_secret().parse()?;
    let database = options.get_database().unwrap_or_default().to_owned();
    drop(dropped);
    until("the database is dropped", || async {
        Ok(lab.server.databases_like(&database).await?.is_empty())
    })
    .await?;
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_drops_what_is_marked_and_old_and_its_own() -> Result<()> {
    let lab = Lab::owner(Server::pg17()?).await?;
    let url = &lab.resource.url;
    let long_ago = Utc::now() - TimeDelta::days(2);
    let stale = start_on_configured_postgres(url, GIB, drill(1), 17, &[].into(), long_ago).await?;
    let options: PgConnectOptions = stale.url().expose_secret().parse()?;
    let database = options.get_database().unwrap_or_default().to_owned();
    let unmarked = format!("lastgood_drill_{}", lab.name);
    lab.server.create(&unmarked, &lab.name, "template0").await?;
    ensure!(sweep_configured_postgres(url, Utc::now()).await? == 1);
    ensure!(lab.server.databases_like(&database).await?.is_empty());
    ensure!(lab.server.databases_like(&unmarked).await?.len() == 1);
    stale.stop().await?;
    lab.server
        .run("postgres", &format!("drop database \"{unmarked}\""))
        .await?;
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_another_version_and_too_little_room_are_refused() -> Result<()> {
    let (owner, superuser) = (
        Lab::owner(Server::pg17()?).await?,
        Lab::superuser(Server::pg17()?).await?,
    );
    let reason = |url: secrecy::SecretString, max_bytes, major| async move {
        let refused =
            start_on_configured_postgres(&url, max_bytes, drill(1), major, &[].into(), Utc::now())
                .await
                .err();
        refused.and_then(|it| it.not_possible().map(NotPossible::as_str))
    };
    let (theirs, root) = (owner.resource.url.clone(), superuser.resource.url.clone());
    ensure!(reason(root, GIB, 17).await == Some("superuser"));
    ensure!(reason(theirs.clone(), GIB, 18).await == Some("other_version"));
    ensure!(reason(theirs, 5, 17).await == Some("too_large"));
    owner.clean().await?;
    superuser.clean().await
}
