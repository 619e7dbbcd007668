//! A swap that fails, is cancelled or dies leaves a database that accepts connections.

use std::sync::{Arc, atomic::Ordering};

use anyhow::Result;
use lastgood_jobs::{
    attempt::{Attempt, Epoch},
    job::{Restore, RestoreTarget},
    sought::Sought,
    worker::{Progress, Worker},
};

use super::{CHECKSUM, SHOP};
use crate::{
    lab::{Lab, Server, attempt, until},
    proxy::Proxy,
    subject::restore,
};

#[tokio::test]
async fn a_setting_that_this_role_may_not_copy_is_noted_and_stops_nothing() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let setting = format!(
        "alter database \"{}\" set log_min_duration_statement = 5",
        lab.name
    );
    lab.server.run("postgres", &setting).await?;
    let point = lab.backup(attempt()).await?;
    let restored = lab.restore(&point, RestoreTarget::Swap {}).await?;
    assert_eq!(restored.notes.len(), 1);
    assert!(
        restored.notes[0]
            .starts_with("setting log_min_duration_statement was not copied: permission denied")
    );
    lab.clean().await
}

#[tokio::test]
async fn an_owner_who_may_not_create_databases_is_told_so() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let point = lab.backup(attempt()).await?;
    lab.server
        .run(
            "postgres",
            &format!("alter role \"{}\" nocreatedb", lab.name),
        )
        .await?;
    let error = lab
        .restore(&point, RestoreTarget::Swap {})
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("auth", true),
        "{}",
        error.report()
    );
    assert!(error.to_string().contains("create a database"), "{error}");
    lab.clean().await
}

#[tokio::test]
async fn a_swap_that_is_refused_leaves_the_old_database_open_and_nothing_else() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    let point = lab.backup(attempt()).await?;
    // The owner may not end a superuser's session.
    let in_the_way = lab.server.session(&lab.name).await?;
    let error = lab
        .restore(&point, RestoreTarget::Swap {})
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("target", false),
        "{}",
        error.report()
    );
    assert!(
        error
            .to_string()
            .contains("still in use: end 1 other sessions"),
        "{error}"
    );
    drop(in_the_way);
    lab.session().await?;
    lab.has_no_other_database().await?;
    lab.clean().await
}

#[tokio::test]
async fn what_a_dead_attempt_left_is_cleared_by_the_next_one() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    let sum = lab.ask(CHECKSUM).await?;
    let point = lab.backup(attempt()).await?;
    // As if the worker had died after closing the old database and before the renames.
    let run = attempt();
    let digits = &run.run.0.simple().to_string()[..8];
    lab.run(&format!(
        "create database \"{}__restore_{digits}_1\"",
        lab.name
    ))
    .await?;
    let close = format!(
        "alter database \"{}\" with allow_connections false",
        lab.name
    );
    lab.server.run("postgres", &close).await?;
    let next = Attempt {
        epoch: Epoch(2),
        ..run
    };
    let restored = lab.restore_as(next, &point, RestoreTarget::Swap {}).await?;
    assert_eq!(lab.ask(CHECKSUM).await?, sum);
    let databases = lab.server.databases_like(&lab.name).await?;
    assert_eq!(
        databases,
        [lab.name.clone(), restored.kept.unwrap_or_default()]
    );
    lab.clean().await
}

#[tokio::test]
async fn a_swap_whose_server_goes_away_opens_the_database_when_it_is_back() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    let point = lab.backup(attempt()).await?;
    let proxy = Proxy::breaking_at(" rename to ", 3, &lab.server.url).await?;
    lab.resource = lab.with_url(|url| {
        url.set_port(Some(proxy.port)).ok();
    })?;
    let error = lab
        .restore(&point, RestoreTarget::Swap {})
        .await
        .unwrap_err();
    assert_eq!(proxy.refusals.load(Ordering::SeqCst), 0);
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("connect", false),
        "{}",
        error.report()
    );
    lab.session().await?;
    lab.has_no_other_database().await?;
    lab.clean().await
}

#[tokio::test]
async fn a_database_that_a_dead_attempt_closed_is_opened_by_the_next_one_whatever_comes()
-> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    let point = lab.backup(attempt()).await?;
    std::fs::remove_file(
        lab.store
            .path()
            .join("objects")
            .join(&point.manifest.archive.key),
    )?;
    let close = format!("alter database \"{}\" allow_connections false", lab.name);
    lab.server.run("postgres", &close).await?;
    let is_open = format!(
        "select datallowconn::text from pg_database where datname = '{}'",
        lab.name
    );

    // Until then, other jobs are told how to open the database by hand.
    let error = lab.backup(attempt()).await.unwrap_err();
    let by_hand = format!("`alter database \"{}\" allow_connections true`", lab.name);
    assert!(error.to_string().contains(&by_hand), "{}", error.report());
    assert!(!error.is_permanent());

    // The first attempt of a run cannot have closed it.
    let run = attempt();
    let damaged = lab.restore_as(run, &point, RestoreTarget::Swap {}).await;
    assert_eq!(damaged.unwrap_err().kind().as_str(), "corrupt");
    assert_eq!(lab.server.ask("postgres", &is_open).await?, "false");

    let next = Attempt {
        epoch: Epoch(2),
        ..run
    };
    let damaged = lab.restore_as(next, &point, RestoreTarget::Swap {}).await;
    assert_eq!(damaged.unwrap_err().kind().as_str(), "corrupt");
    assert_eq!(lab.server.ask("postgres", &is_open).await?, "true");
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_swap_leaves_the_old_database_and_nothing_else() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(
        "create table big as select n, repeat(md5(n::text), 8) t from generate_series(1, 300000) n",
    )
    .await?;
    let point = lab.backup(attempt()).await?;
    let job = Restore {
        point: point.manifest.run_id.0,
        target: RestoreTarget::Swap {},
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    };
    let progress = Arc::new(Progress::default());
    let worker = Worker {
        progress: Arc::clone(&progress),
        ..lab.worker.clone()
    };
    let (resource, key) = (lab.resource.clone(), point.manifest_key.clone());
    let running = tokio::spawn(async move {
        restore(attempt(), &resource, &job, &Sought::at(&key), None, &worker).await
    });
    until("the restore flows", || async {
        Ok(progress.so_far().0 > 0)
    })
    .await?;
    running.abort();
    assert!(
        running.await.is_err(),
        "the restore was faster than the test"
    );
    until("the fresh database is gone", || async {
        Ok(lab.has_no_other_database().await.is_ok())
    })
    .await?;
    assert_eq!(lab.ask("select count(*)::text from big").await?, "300000");
    assert_eq!(lab.files()?.len(), 2);
    lab.clean().await
}
