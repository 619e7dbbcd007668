//! What a backup of a real server contains, and what its manifest says. A failure leaves nothing behind.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    backup::RestorePoint,
    error::JobError,
    job::RestoreTarget,
    manifest::{Consistency, Details, RedisRead},
    resource::{Engine, ResourceOptions},
};
use rstest::rstest;

use super::{
    lab::{ID, Lab, Point, counts},
    rights::{may_not, of_this_test},
    server::{
        Flavour::{self, Redis6, Redis7, Valkey9},
        Server,
    },
    shop::{besides, fill},
};
use crate::{
    lab::{MARKER, attempt, shows_no_secret, until, variable},
    subject::{Subject, backup},
};

const BY_REPLICATION: &str = include_str!("../../../../deploy/grants/redis-backup.acl");
const BY_KEY: &str = include_str!("../../../../deploy/grants/redis-backup-by-key.acl");

fn resource(url: &str) -> Result<Subject> {
    Ok(Subject {
        id: ID.parse()?,
        team: "acme".parse()?,
        tier: "pro".parse()?,
        engine: Engine::Redis,
        url: url.to_owned().into(),
        options: ResourceOptions::default(),
    })
}

pub(super) async fn back_up(lab: &Lab, url: &str) -> Result<RestorePoint, JobError> {
    let resource = resource(url).map_err(|_| JobError::NoTargetUrl)?;
    backup(attempt(), &resource, None, &lab.worker).await
}

fn point_of(lab: &Lab, made: &RestorePoint) -> Point {
    let objects = lab.store.path().join("objects");
    Point {
        manifest_key: made.manifest_key.clone(),
        archive: objects.join(&made.manifest.archive.key),
        run_id: made.manifest.run_id,
    }
}

/// Checks that the store is empty.
fn is_empty(lab: &Lab) -> Result<()> {
    let mut directories = vec![lab.store.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            ensure!(path.is_dir(), "left behind: {}", path.display());
            directories.push(path);
        }
    }
    Ok(())
}

#[rstest]
#[case::six(Redis6, "yes")]
#[case::six_by_its_disk(Redis6, "no")]
#[case::seven(Redis7, "yes")]
#[case::seven_by_its_disk(Redis7, "no")]
#[case::valkey(Valkey9, "yes")]
#[case::valkey_by_its_disk(Valkey9, "no")]
#[tokio::test]
async fn a_replicas_snapshot_holds_everything(
    #[case] flavour: Flavour,
    #[case] diskless: &str,
) -> Result<()> {
    let setting = format!("repl-diskless-sync {diskless}");
    let (Some(source), Some(target)) = (
        Server::start(flavour, &[&setting]).await?,
        Server::start(flavour, &[]).await?,
    ) else {
        return Ok(());
    };
    fill(&source).await?;
    let lab = Lab::new().await?;
    let before = chrono::Utc::now();
    let made = back_up(&lab, &source.url()).await?;
    let manifest = &made.manifest;
    assert_eq!(manifest.consistency, Consistency::Snapshot);
    // The instant comes from the server's clock if that is earlier, and Redis updates it only a few times a second.
    let earliest = before - chrono::TimeDelta::seconds(5);
    ensure!(earliest < manifest.consistent_at && manifest.consistent_at <= manifest.finished_at);
    let Details::Redis {
        keys,
        functions,
        read_by,
        ..
    } = &manifest.details
    else {
        anyhow::bail!("{:?}", manifest.details)
    };
    assert_eq!(
        (keys.values().sum::<u64>(), *functions, *read_by),
        (
            22,
            u64::from(flavour.has_functions()),
            RedisRead::Replication
        )
    );
    let restored = lab
        .restore(&point_of(&lab, &made), &target.url(), RestoreTarget::Own {})
        .await?;
    assert_eq!(counts(&restored).0, 22);
    assert_eq!(target.digest().await?, source.digest().await?);
    assert_eq!(besides(&target).await?, besides(&source).await?);
    Ok(())
}

#[rstest]
#[case(Redis6)]
#[case(Redis7)]
#[case(Valkey9)]
#[tokio::test]
async fn a_server_that_takes_no_replica_is_read_key_by_key_and_the_manifest_says_so(
    #[case] flavour: Flavour,
) -> Result<()> {
    let reader = format!("user reader on >{MARKER} ~* +@all -sync -psync -replconf");
    let (Some(source), Some(target)) = (
        Server::start(flavour, &[&reader]).await?,
        Server::start(flavour, &[]).await?,
    ) else {
        return Ok(());
    };
    fill(&source).await?;
    let lab = Lab::new().await?;
    let made = back_up(&lab, &source.url_of("reader")).await?;
    assert_eq!(made.manifest.consistency, Consistency::None);
    ensure!(
        made.manifest
            .warnings
            .iter()
            .any(|it| it.contains("not point-in-time")),
        "{:?}",
        made.manifest.warnings
    );
    ensure!(matches!(
        made.manifest.details,
        Details::Redis {
            read_by: RedisRead::Scan,
            ..
        }
    ));
    lab.restore(&point_of(&lab, &made), &target.url(), RestoreTarget::Own {})
        .await?;
    assert_eq!(target.digest().await?, source.digest().await?);
    assert_eq!(besides(&target).await?, besides(&source).await?);
    Ok(())
}

#[rstest]
#[case::as_a_replica(BY_REPLICATION, Consistency::Snapshot)]
#[case::key_by_key(BY_KEY, Consistency::None)]
#[tokio::test]
async fn the_documented_rights_are_enough_for_a_backup_and_write_nothing(
    #[case] user: &str,
    #[case] consistency: Consistency,
) -> Result<()> {
    let Some(source) = Server::start(Redis7, &[&of_this_test(user)]).await? else {
        return Ok(());
    };
    fill(&source).await?;
    let lab = Lab::new().await?;
    let made = back_up(&lab, &source.url_of("lastgood_backup")).await?;
    assert_eq!(made.manifest.consistency, consistency);
    for command in [
        &["SET", "a", "1"][..],
        &["DEL", "a"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
    ] {
        may_not(&source, "lastgood_backup", command).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_others_write_meanwhile_is_in_the_snapshot_whole_or_not_at_all() -> Result<()> {
    const BEGIN: i64 = 1_000_000;
    // Saving is slow, so that much is written meanwhile.
    let (Some(source), Some(target)) = (
        Server::start(Valkey9, &["rdb-key-save-delay 200"]).await?,
        Server::start(Valkey9, &[]).await?,
    ) else {
        return Ok(());
    };
    source
        .run(
            0,
            &format!("SET giving {BEGIN}\nDEBUG POPULATE 3000 filler"),
        )
        .await?;
    let is_over = AtomicBool::new(false);
    let writer = async {
        let mut session = source.session(0).await?;
        let mut moved = 0_i64;
        while !is_over.load(Ordering::SeqCst) {
            redis::pipe()
                .atomic()
                .decr("giving", 1)
                .ignore()
                .incr("taking", 1)
                .ignore()
                .exec_async(&mut session)
                .await?;
            moved += 1;
        }
        anyhow::Ok(moved)
    };
    let lab = Lab::new().await?;
    let (made, moved) = tokio::join!(
        async {
            let made = back_up(&lab, &source.url()).await;
            is_over.store(true, Ordering::SeqCst);
            made
        },
        writer
    );
    let (made, moved) = (made?, moved?);
    lab.restore(&point_of(&lab, &made), &target.url(), RestoreTarget::Own {})
        .await?;
    let of = async |key: &str| target.ask::<Option<i64>>(0, &["GET", key]).await;
    let (giving, taking) = (of("giving").await?, of("taking").await?.unwrap_or(0));
    assert_eq!(giving.context("gone")? + taking, BEGIN);
    ensure!(
        taking < moved,
        "{taking} of {moved}: nothing was written meanwhile"
    );
    Ok(())
}

/// Starts a server whose snapshot takes many seconds.
async fn slow() -> Result<Option<Server>> {
    let Some(source) = Server::start(Redis7, &["rdb-key-save-delay 10000"]).await? else {
        return Ok(None);
    };
    source.run(0, "DEBUG POPULATE 5000 filler").await?;
    Ok(Some(source))
}

async fn is_saving(source: &Server) -> Result<()> {
    until("the server saves for a replica", async || {
        let told: String = source.ask(0, &["INFO", "replication"]).await?;
        Ok(told.contains("connected_slaves:1"))
    })
    .await
}

#[tokio::test]
async fn a_server_that_dies_half_way_is_told_and_leaves_nothing() -> Result<()> {
    let Some(mut source) = slow().await? else {
        return Ok(());
    };
    let (lab, url) = (Lab::new().await?, source.url());
    let (failed, killed) = tokio::join!(back_up(&lab, &url), async {
        is_saving(&source).await?;
        source.kill().await
    });
    killed?;
    let error = failed.err().context("it succeeded")?;
    assert_eq!(error.kind().as_str(), "connect", "{}", error.report());
    ensure!(!error.is_permanent());
    shows_no_secret(&error)?;
    is_empty(&lab)
}

#[tokio::test]
async fn a_connection_that_breaks_half_way_is_told_and_leaves_nothing() -> Result<()> {
    let Some(source) = slow().await? else {
        return Ok(());
    };
    let (lab, url) = (Lab::new().await?, source.url());
    let (failed, broken) = tokio::join!(back_up(&lab, &url), async {
        is_saving(&source).await?;
        source
            .ask::<u64>(0, &["CLIENT", "KILL", "TYPE", "replica"])
            .await
    });
    broken?;
    let error = failed.err().context("it succeeded")?;
    assert_eq!(error.kind().as_str(), "connect", "{}", error.report());
    is_empty(&lab)
}

#[tokio::test]
async fn a_backup_that_is_dropped_lets_go_of_the_server_and_leaves_nothing() -> Result<()> {
    let Some(source) = slow().await? else {
        return Ok(());
    };
    let (lab, url) = (Lab::new().await?, source.url());
    tokio::select! {
        ended = back_up(&lab, &url) => anyhow::bail!("it ended: {ended:?}"),
        saving = is_saving(&source) => saving?,
    }
    until("the server has no replica any more", async || {
        let told: String = source.ask(0, &["INFO", "replication"]).await?;
        Ok(told.contains("connected_slaves:0"))
    })
    .await?;
    until("nothing is left in the store", async || {
        Ok(is_empty(&lab).is_ok())
    })
    .await
}

#[tokio::test]
async fn a_wrong_password_is_final_and_not_repeated() -> Result<()> {
    let Some(source) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    let lab = Lab::new().await?;
    let url = source.url().replace(MARKER, &format!("wrong-{MARKER}"));
    let error = back_up(&lab, &url).await.err().context("it succeeded")?;
    assert_eq!(error.kind().as_str(), "auth", "{}", error.report());
    ensure!(error.is_permanent());
    shows_no_secret(&error)?;
    is_empty(&lab)
}

#[tokio::test]
async fn tls_is_spoken_to_who_can_prove_who_it_is() -> Result<()> {
    let (url, folder) = (
        variable("LASTGOOD_TEST_REDIS7_TLS_URL")?,
        variable("LASTGOOD_TEST_TLS_DIR")?,
    );
    if url.starts_with("skip: ") || folder.starts_with("skip: ") {
        use std::io::Write as _;
        writeln!(
            std::io::stderr(),
            "SKIPPED: a backup over TLS: {url} {folder}"
        )?;
        return Ok(());
    }
    let lab = Lab::new().await?;
    let trusting = format!("{url}?tls-ca-file={folder}/ca.pem");
    let made = back_up(&lab, &trusting).await?;
    assert_eq!(made.manifest.consistency, Consistency::Snapshot);
    let error = back_up(&lab, &url)
        .await
        .err()
        .context("nobody vouches for it")?;
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("config", true),
        "{}",
        error.report()
    );
    Ok(())
}
