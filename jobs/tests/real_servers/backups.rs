//! What a backup promises: a restore point that is whole or absent, and exists once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use chrono::Utc;
use futures::future::BoxFuture;
use lastgood_jobs::{
    attempt::{Attempt, AttemptId, Epoch},
    backup::Previous,
    job::RestoreTarget,
    manifest::{Details, Manifest, Suspect},
    worker::{Lease, Worker},
};
use rstest::rstest;
use uuid::Uuid;

use crate::{
    lab::{Lab, Server, attempt, is_clean, until},
    subject::{Subject, backup},
};

#[tokio::test]
async fn a_manifest_says_what_was_dumped_and_no_secret() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table a (x int); create table b (x int); create view v as select * from a")
        .await?;
    let before = Utc::now();
    let previous = Previous {
        dump_bytes: 1_000_000,
        stored_bytes: 100_000,
    };
    let point = backup(attempt(), &lab.resource, Some(previous), &lab.worker).await?;
    let Manifest {
        archive,
        dump,
        consistent_at,
        started_at,
        finished_at,
        ..
    } = &point.manifest;
    assert!(before <= *started_at && started_at <= consistent_at && consistent_at <= finished_at);
    let object = std::fs::read(lab.store.path().join("objects").join(&archive.key))?;
    assert_eq!(
        (object.len() as u64, &object[..4]),
        (archive.size_bytes, &[0x28, 0xb5, 0x2f, 0xfd][..])
    );
    assert_eq!(
        lab.worker.progress.so_far(),
        (dump.size_bytes, archive.size_bytes)
    );
    let Details::Postgres {
        database,
        server_major,
        tables,
        extensions,
        properties,
        superuser,
    } = &point.manifest.details
    else {
        anyhow::bail!("{:?} are not PostgreSQL's", point.manifest.details);
    };
    assert_eq!((database, *server_major, *tables), (&lab.name, 18, 2));
    assert!(!superuser, "the lab's role owns a database and no more");
    assert!(extensions.contains_key("plpgsql"));
    assert_eq!(properties.get("encoding").map(String::as_str), Some("UTF8"));
    assert!(point.manifest.server_version.starts_with("PostgreSQL 18."));
    assert!(
        point
            .manifest
            .tool_version
            .starts_with("pg_dump (PostgreSQL) 18.")
    );
    assert_eq!(point.manifest.suspicions.len(), 1);
    assert_eq!(point.manifest.suspicions[0].reason, Suspect::Shrunk);
    is_clean(&std::fs::read_to_string(
        lab.store.path().join("objects").join(&point.manifest_key),
    )?)?;
    assert_eq!(
        lab.worker
            .storage
            .manifest(&point.manifest_key)
            .await?
            .as_ref(),
        Some(&point.manifest)
    );
    assert_eq!(lab.files()?.len(), 2);
    lab.clean().await
}

#[tokio::test]
async fn a_second_delivery_adopts_the_point_that_is_there() -> Result<()> {
    let lab = Lab::owner(Server::pg17()?).await?;
    let run = attempt();
    let first = lab.backup(run).await?;
    let again = lab
        .backup(Attempt {
            epoch: Epoch(2),
            ..run
        })
        .await?;
    assert_eq!(again, first);
    assert_eq!(lab.files()?.len(), 2);

    // A manifest without its archive cannot be restored, so the next delivery makes the point again.
    std::fs::remove_file(
        lab.store
            .path()
            .join("objects")
            .join(&first.manifest.archive.key),
    )?;
    let third = lab
        .backup(Attempt {
            epoch: Epoch(3),
            ..run
        })
        .await?;
    assert_eq!(third.manifest.epoch, Epoch(3));
    assert_eq!(lab.files()?.len(), 2);
    lab.clean().await
}

#[tokio::test]
async fn of_two_attempts_at_the_same_time_one_commits_and_both_agree() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let run = attempt();
    let (first, second) = tokio::join!(
        lab.backup(run),
        lab.backup(Attempt {
            epoch: Epoch(2),
            ..run
        })
    );
    // The earlier attempt may lose its lease; the later one never does.
    let second = second?;
    if let Ok(first) = first {
        assert_eq!(first, second);
    }
    assert_eq!(
        lab.worker.storage.manifest(&second.manifest_key).await?,
        Some(second.manifest)
    );
    until("only the point is left", || async {
        Ok(lab.files()?.len() == 2)
    })
    .await?;
    lab.clean().await
}

/// A lease that, when asked right before a commit, lets another attempt of the run commit first, and answers then.
struct Overtaken {
    by: Attempt,
    resource: Subject,
    worker: Worker,
    answer: bool,
}

impl Lease for Overtaken {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            let made = backup(self.by, &self.resource, None, &self.worker).await;
            assert!(made.is_ok(), "{made:?}");
            self.answer
        })
    }
}

/// The epoch repeats: a catalog that has lost commits gives the same epoch of a run to two workers.
#[rstest]
#[case::which_believes_in_its_lease(true)]
#[case::which_is_told_that_it_is_over(false)]
#[tokio::test]
async fn an_attempt_that_comes_second_takes_nothing_from_one_of_the_same_epoch(
    #[case] believes: bool,
) -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let second = attempt();
    let first = Attempt {
        id: AttemptId(Uuid::new_v4()),
        ..second
    };
    let overtaken = Worker {
        lease: Arc::new(Overtaken {
            by: first,
            resource: lab.resource.clone(),
            worker: lab.worker.clone(),
            answer: believes,
        }),
        ..lab.worker.clone()
    };
    let made = backup(second, &lab.resource, None, &overtaken).await;
    let manifest_key = match (believes, made) {
        (true, Ok(point)) => {
            assert_eq!(point.manifest.attempt_id, Some(first.id));
            point.manifest_key
        }
        (false, Err(error)) => {
            assert_eq!(error.kind().as_str(), "lease_lost");
            let files = lab.files()?;
            let manifest = files.iter().find(|file| file.ends_with(".manifest.json"));
            let key = manifest.and_then(|file| file.split_once("/objects/"));
            key.context("there is no manifest")?.1.to_owned()
        }
        (_, made) => anyhow::bail!("{made:?}"),
    };
    let manifest = lab.worker.storage.manifest(&manifest_key).await?;
    let manifest = manifest.context("there is no manifest")?;
    assert_eq!(manifest.attempt_id, Some(first.id));
    let archive = format!("objects/{}", manifest.archive.key);
    until("only the point is left", || async {
        Ok(lab.files()?.len() == 2)
    })
    .await?;
    let files = lab.files()?;
    assert!(
        files.iter().any(|file| file.ends_with(&archive)),
        "{files:?}"
    );
    lab.clean().await
}

#[tokio::test]
async fn a_lost_lease_publishes_nothing() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.lease.0.store(false, Ordering::SeqCst);
    let error = lab.backup(attempt()).await.unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("lease_lost", false)
    );
    assert_eq!(lab.files()?, Vec::<String>::new());

    lab.lease.0.store(true, Ordering::SeqCst);
    let point = lab.backup(attempt()).await?;
    lab.lease.0.store(false, Ordering::SeqCst);
    let error = lab
        .restore(&point, RestoreTarget::Swap {})
        .await
        .unwrap_err();
    assert_eq!(error.kind().as_str(), "lease_lost");
    lab.has_no_other_database().await?;
    lab.clean().await
}

/// Makes a table whose dump takes long enough to be interrupted half way.
async fn fill(lab: &Lab, rows: u32) -> Result<()> {
    lab.run(&format!(
        "create table big as select n, repeat(md5(n::text), 8) t from generate_series(1, {rows}) n"
    ))
    .await
}

/// Returns the ids of this lab's `pg_dump` processes, found by their environment.
fn tools_of(lab: &Lab) -> Vec<String> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let wanted = format!("PGDATABASE={}", lab.name);
        if String::from_utf8_lossy(&environment)
            .split('\0')
            .any(|it| it == wanted)
        {
            found.push(process.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_backup_leaves_no_object_no_child_and_no_file() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    fill(&lab, 300_000).await?;
    let (resource, worker) = (lab.resource.clone(), lab.worker.clone());
    let running = tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await });
    until("the dump flows", || async {
        Ok(lab.worker.progress.so_far().0 > 0)
    })
    .await?;
    for id in tools_of(&lab) {
        is_clean(&std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default())?;
        is_clean(&std::fs::read_to_string(format!("/proc/{id}/environ")).unwrap_or_default())?;
    }
    running.abort();
    let ended = running.await;
    assert!(ended.is_err(), "the backup was faster than the test");
    until("no tool is left", || async {
        Ok(tools_of(&lab).is_empty())
    })
    .await?;
    until("no file is left", || async { Ok(lab.files()?.is_empty()) }).await?;
    let sessions = "select count(*)::text from pg_stat_activity where application_name = 'lastgood' and datname = current_database()";
    until("no session is left", || async {
        Ok(lab.ask(sessions).await? == "0")
    })
    .await?;
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_seen_while_the_tools_run() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    fill(&lab, 200_000).await?;
    let (resource, worker) = (lab.resource.clone(), lab.worker.clone());
    let running = tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await });
    let mut seen = 0;
    while !running.is_finished() {
        for id in tools_of(&lab) {
            seen += 1;
            is_clean(&std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default())?;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    running.await??;
    assert!(seen > 0, "no tool was seen");
    lab.clean().await
}

#[tokio::test]
async fn writes_during_a_dump_are_not_in_it_and_are_not_held_up() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    fill(&lab, 100_000).await?;
    let (resource, worker) = (lab.resource.clone(), lab.worker.clone());
    let running = tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await });
    until("the dump flows", || async {
        Ok(lab.worker.progress.so_far().0 > 0)
    })
    .await?;
    lab.run("delete from big").await?;
    let point = running.await??;
    lab.restore(&point, RestoreTarget::Swap {})
        .await
        .context("restore")?;
    assert_eq!(lab.ask("select count(*)::text from big").await?, "100000");
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_dump_that_waits_for_a_lock_lets_go_of_the_customers_tables() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table a (x int); create table b (x int)")
        .await?;
    let mut customer = lab.session().await?;
    sqlx::raw_sql("begin; lock table b in access exclusive mode")
        .execute(&mut customer)
        .await?;
    let waiting = format!(
        "select count(*)::text from pg_stat_activity
         where datname = '{}' and application_name = 'lastgood' and wait_event_type = 'Lock'",
        lab.name
    );
    let (resource, worker) = (lab.resource.clone(), lab.worker.clone());
    let running = tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await });
    until("the dump waits for the lock", || async {
        Ok(lab.server.ask("postgres", &waiting).await? == "1")
    })
    .await?;
    running.abort();
    assert!(running.await.is_err(), "the dump did not wait");
    until("nothing of it waits on the server", || async {
        Ok(lab.server.ask("postgres", &waiting).await? == "0")
    })
    .await?;
    drop(customer);
    lab.clean().await
}
