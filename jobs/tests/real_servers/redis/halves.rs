//! A restore that fails half way says so and leaves a mark on the target, and another attempt finishes it.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use lastgood_jobs::{
    attempt::{Attempt, Epoch},
    error::JobError,
    job::RestoreTarget,
};

use super::{
    lab::{Lab, Point, counts, exact},
    refusals::MARK,
    server::{Flavour::Redis7, Server},
};
use crate::lab::{attempt, shows_no_secret, until};

const KEYS: u64 = 300_000;

/// Two servers, and a restore point of the first with so many keys that its restore can be interrupted half way.
async fn pair(settings: &[&str]) -> Result<Option<(Lab, Point, Server, Server)>> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        Server::start(Redis7, settings).await?,
    ) else {
        return Ok(None);
    };
    source
        .run(0, &format!("DEBUG POPULATE {KEYS} key 30"))
        .await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    Ok(Some((lab, point, source, target)))
}

/// Waits until the target has some of the keys.
async fn is_under_way(target: &Server) -> Result<()> {
    let some = || async { Ok(target.ask::<u64>(0, &["DBSIZE"]).await? > 5_000) };
    until("some keys are there", some).await
}

fn is_half(error: &JobError, kind: &str, says: &str) -> Result<()> {
    shows_no_secret(error)?;
    let report = error.report();
    ensure!(
        error.kind().as_str() == kind,
        "{} {report}",
        error.kind().as_str()
    );
    ensure!(report.contains("is half restored, with "), "{report}");
    ensure!(report.contains(says), "{report}");
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_a_mark_and_the_next_attempt_finishes() -> Result<()> {
    let Some((lab, point, source, target)) = pair(&[]).await? else {
        return Ok(());
    };
    let (run, url, own) = (attempt(), target.url(), RestoreTarget::Own {});
    let (failed, broken) = tokio::join!(lab.restore_as(run, &point, &url, own.clone()), async {
        is_under_way(&target).await?;
        target
            .ask::<u64>(0, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await
    });
    broken?;
    let error = failed.unwrap_err();
    is_half(&error, "connect", "cannot write keys")?;
    assert!(!error.is_permanent());
    assert_eq!(
        target.ask::<String>(0, &["GET", MARK]).await?,
        run.run.to_string()
    );

    // Another run may not fill it.
    let error = lab.restore(&point, &url, own.clone()).await.unwrap_err();
    assert!(
        error.report().contains(&format!("(run {}", run.run)),
        "{}",
        error.report()
    );

    let again = Attempt {
        epoch: Epoch(2),
        ..run
    };
    let restored = lab.restore_as(again, &point, &url, own).await?;
    assert_eq!(counts(&restored), (KEYS, 0, 0, 0));
    assert_eq!(restored.notes.len(), 1, "{restored:?}");
    assert_eq!(target.digest().await?, source.digest().await?);
    Ok(())
}

#[tokio::test]
async fn a_server_that_dies_is_filled_by_the_next_attempt() -> Result<()> {
    let Some((lab, point, source, mut target)) = pair(&[]).await? else {
        return Ok(());
    };
    let (run, url) = (attempt(), target.url());
    let restore = lab.restore_as(run, &point, &url, RestoreTarget::Own {});
    let (failed, killed) = tokio::join!(restore, async {
        is_under_way(&target).await?;
        target.kill().await
    });
    killed?;
    is_half(&failed.unwrap_err(), "connect", "went away")?;
    target.start_again().await?;
    let again = Attempt {
        epoch: Epoch(2),
        ..run
    };
    lab.restore_as(again, &point, &url, RestoreTarget::Own {})
        .await?;
    assert_eq!(target.digest().await?, source.digest().await?);
    Ok(())
}

#[tokio::test]
async fn a_server_whose_memory_is_full_says_so() -> Result<()> {
    let Some((lab, point, _, target)) = pair(&[]).await? else {
        return Ok(());
    };
    // There was enough memory before the first key was written.
    let url = target.url();
    let (failed, shrunk) = tokio::join!(lab.restore(&point, &url, RestoreTarget::Own {}), async {
        is_under_way(&target).await?;
        target.run(0, "CONFIG SET maxmemory 16mb").await
    });
    shrunk?;
    let error = failed.unwrap_err();
    is_half(&error, "restore", "reached its maxmemory: raise it")?;
    assert!(
        error.report().contains("refused RESTORE of key:"),
        "{}",
        error.report()
    );
    assert!(error.is_permanent());
    Ok(())
}

#[tokio::test]
async fn a_server_that_drops_keys_in_silence_is_found_out() -> Result<()> {
    let Some((lab, point, _, target)) = pair(&["maxmemory-policy allkeys-lru"]).await? else {
        return Ok(());
    };
    let url = target.url();
    let (failed, shrunk) = tokio::join!(lab.restore(&point, &url, RestoreTarget::Own {}), async {
        is_under_way(&target).await?;
        target.run(0, "CONFIG SET maxmemory 16mb").await
    });
    shrunk?;
    is_half(
        &failed.unwrap_err(),
        "target",
        "keys during the restore, because it reached its maxmemory",
    )?;
    Ok(())
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_removes_nothing() -> Result<()> {
    let Some((lab, point, _, target)) = pair(&[]).await? else {
        return Ok(());
    };
    target.run(0, "SET theirs 1").await?;
    let (run, url) = (attempt(), target.url());
    let (failed, lost) = tokio::join!(lab.restore_as(run, &point, &url, exact()?), async {
        is_under_way(&target).await?;
        lab.lease.0.store(false, Ordering::SeqCst);
        anyhow::Ok(())
    });
    lost?;
    is_half(
        &failed.unwrap_err(),
        "lease_lost",
        "another worker owns the run",
    )?;
    assert_eq!(target.ask::<u64>(0, &["EXISTS", "theirs", MARK]).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_restore_that_is_dropped_lets_go_of_the_server() -> Result<()> {
    let Some((lab, point, _, target)) = pair(&[]).await? else {
        return Ok(());
    };
    let url = target.url();
    tokio::select! {
        done = lab.restore(&point, &url, RestoreTarget::Own {}) => anyhow::bail!("too quick: {done:?}"),
        under_way = is_under_way(&target) => under_way?,
    }
    let is_gone = || async {
        let clients: String = target.ask(0, &["CLIENT", "LIST"]).await?;
        Ok(!clients.contains("name=lastgood"))
    };
    until("nobody of ours is connected", is_gone).await
}

#[tokio::test]
async fn the_mark_of_another_restore_is_not_brought_back() -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        Server::start(Redis7, &[]).await?,
    ) else {
        return Ok(());
    };
    source
        .run(0, &format!("SET {MARK} {}\nSET a 1", uuid::Uuid::new_v4()))
        .await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let restored = lab
        .restore(&point, &target.url(), RestoreTarget::Own {})
        .await?;
    assert_eq!(counts(&restored), (1, 0, 0, 0));
    assert!(
        restored
            .notes
            .concat()
            .contains("may hold only part of the keys"),
        "{restored:?}"
    );
    assert_eq!(target.ask::<Vec<String>>(0, &["KEYS", "*"]).await?, ["a"]);
    Ok(())
}
