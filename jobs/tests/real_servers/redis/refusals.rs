//! A restore that is refused before the first write leaves the target unchanged.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{error::JobError, job::RestoreTarget};
use rstest::rstest;

use super::{
    lab::{Lab, Point, exact},
    server::{Flavour, Server},
};
use crate::lab::{attempt, shows_no_secret};

use Flavour::{Redis6, Redis7, Valkey9};

pub(super) const MARK: &str = "lastgood:restore";

/// Two servers, and a restore point of the first, which has a few keys.
struct Pair {
    lab: Lab,
    point: Point,
    target: Server,
}

async fn pair(from: Flavour, to: Flavour, settings: &[&str]) -> Result<Option<Pair>> {
    let (Some(source), Some(target)) = (
        Server::start(from, &[]).await?,
        Server::start(to, settings).await?,
    ) else {
        return Ok(None);
    };
    source.run(0, "SET a 1\nRPUSH b 1 2 3\nHSET c d e").await?;
    source.run(9, "SET a 1").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    Ok(Some(Pair { lab, point, target }))
}

impl Pair {
    /// Checks that a restore fails with a permanent error of this kind and changes nothing.
    async fn is_refused(&self, target: RestoreTarget, kind: &str, says: &str) -> Result<()> {
        let before = self.target.digest().await?;
        let restored = self
            .lab
            .restore(&self.point, &self.target.url(), target)
            .await;
        let error = restored.err().context("it was not refused")?;
        refusal(&error, kind, says)?;
        assert_eq!(self.target.digest().await?, before);
        Ok(())
    }
}

fn refusal(error: &JobError, kind: &str, says: &str) -> Result<()> {
    shows_no_secret(error)?;
    let report = error.report();
    ensure!(
        error.kind().as_str() == kind,
        "{} {report}",
        error.kind().as_str()
    );
    ensure!(error.is_permanent(), "{report}");
    ensure!(report.contains(says), "{report}");
    ensure!(!report.contains("half"), "{report}");
    Ok(())
}

#[rstest]
#[case::seven_to_six(
    Redis7,
    Redis6,
    "the target is Redis 6.2.5 and does not accept what Redis 7.0.15 dumped (RDB version 10)"
)]
#[case::valkey_to_six(Valkey9, Redis6, "(RDB version 80 (Valkey))")]
#[case::valkey_to_seven(
    Valkey9,
    Redis7,
    "the target is Redis 7.0.15 and does not accept what Valkey 9"
)]
#[tokio::test]
async fn a_server_that_does_not_know_the_dumps_encoding(
    #[case] from: Flavour,
    #[case] to: Flavour,
    #[case] says: &str,
) -> Result<()> {
    let Some(pair) = pair(from, to, &[]).await? else {
        return Ok(());
    };
    pair.is_refused(RestoreTarget::Own {}, "target", says)
        .await?;
    pair.is_refused(exact()?, "target", says).await
}

#[tokio::test]
async fn a_server_with_too_few_databases() -> Result<()> {
    let Some(pair) = pair(Redis7, Redis7, &["databases 9"]).await? else {
        return Ok(());
    };
    let says = "the backup has keys in 10 databases, and the target has fewer";
    pair.is_refused(RestoreTarget::Own {}, "target", says).await
}

#[tokio::test]
async fn a_replica() -> Result<()> {
    let Some(pair) = pair(Redis7, Redis7, &["replicaof 127.0.0.1 1"]).await? else {
        return Ok(());
    };
    pair.is_refused(RestoreTarget::Own {}, "target", "name its primary")
        .await
}

#[tokio::test]
async fn a_node_of_a_cluster() -> Result<()> {
    let Some(pair) = pair(Redis7, Redis7, &["cluster-enabled yes"]).await? else {
        return Ok(());
    };
    pair.is_refused(RestoreTarget::Own {}, "config", "one node of a cluster")
        .await
}

#[tokio::test]
async fn a_server_that_is_not_empty() -> Result<()> {
    let Some(pair) = pair(Redis7, Redis7, &[]).await? else {
        return Ok(());
    };
    let library = "#!lua name=mine\nredis.register_function('f', function() return 1 end)";
    pair.target
        .ask::<String>(0, &["FUNCTION", "LOAD", library])
        .await?;
    pair.is_refused(
        RestoreTarget::Own {},
        "target",
        "it has function library mine",
    )
    .await?;
    pair.target.run(5, "SET x 1").await?;
    let says = "it has 1 keys in database 5, function library mine";
    pair.is_refused(RestoreTarget::Own {}, "target", says)
        .await?;
    let reference = RestoreTarget::Reference {
        reference: "env:OTHER".to_owned(),
    };
    pair.is_refused(reference, "target", says).await?;

    // An earlier attempt may have died between its last key and its report.
    let again = lastgood_jobs::attempt::Attempt {
        epoch: lastgood_jobs::attempt::Epoch(2),
        ..attempt()
    };
    let own = RestoreTarget::Own {};
    let error = pair
        .lab
        .restore_as(again, &pair.point, &pair.target.url(), own)
        .await
        .unwrap_err();
    refusal(
        &error,
        "target",
        "an earlier attempt of this run may have filled it",
    )
}

#[tokio::test]
async fn a_server_that_another_run_has_half_restored() -> Result<()> {
    let Some(pair) = pair(Redis7, Redis7, &[]).await? else {
        return Ok(());
    };
    let other = uuid::Uuid::new_v4().to_string();
    pair.target.run(0, &format!("SET {MARK} {other}")).await?;
    let says = format!("a restore that did not finish (run {other}");
    pair.is_refused(RestoreTarget::Own {}, "target", &says)
        .await?;

    // A restore in place overwrites everything, including the mark.
    let restored = pair
        .lab
        .restore(&pair.point, &pair.target.url(), exact()?)
        .await?;
    assert_eq!(restored.notes.len(), 1, "{restored:?}");
    assert!(restored.notes[0].contains(&other), "{restored:?}");
    assert_eq!(pair.target.ask::<u64>(0, &["EXISTS", MARK]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_way_that_a_server_without_named_databases_does_not_have() -> Result<()> {
    let Some(pair) = pair(Redis7, Redis7, &[]).await? else {
        return Ok(());
    };
    pair.is_refused(
        RestoreTarget::Swap {},
        "config",
        "cannot be restored by swapping",
    )
    .await?;
    let named = RestoreTarget::Database {
        name: "other".to_owned(),
    };
    pair.is_refused(named, "config", "into a database by name")
        .await
}

#[tokio::test]
async fn an_archive_that_was_changed_or_cut() -> Result<()> {
    let Some(mut pair) = pair(Redis7, Redis7, &[]).await? else {
        return Ok(());
    };
    let whole = std::fs::read(&pair.point.archive)?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [flipped.as_slice(), &whole[..whole.len() - 1]] {
        std::fs::write(&pair.point.archive, damaged)?;
        pair.is_refused(exact()?, "corrupt", "is damaged").await?;
    }
    // The hashes match, because the dump was truncated or changed before they were computed.
    let rdb = zstd::decode_all(whole.as_slice())?;
    let mut flipped = rdb.clone();
    flipped[rdb.len() - 20] ^= 1;
    for damaged in [flipped.as_slice(), &rdb[..rdb.len() - 9]] {
        pair.point = pair.lab.point_of(damaged)?;
        pair.is_refused(exact()?, "corrupt", "is damaged").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_a_server_that_is_not_there() -> Result<()> {
    let Some(mut pair) = pair(Redis7, Redis7, &[]).await? else {
        return Ok(());
    };
    let wrong = format!("{}0", pair.target.url().replace('@', "-wrong@"));
    let wrong = wrong.trim_end_matches('0');
    let own = RestoreTarget::Own {};
    let error = pair
        .lab
        .restore(&pair.point, wrong, own.clone())
        .await
        .unwrap_err();
    refusal(&error, "auth", "WRONGPASS")?;
    pair.target.kill().await?;
    let error = pair
        .lab
        .restore(&pair.point, &pair.target.url(), own)
        .await
        .unwrap_err();
    shows_no_secret(&error)?;
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("connect", false)
    );
    Ok(())
}

#[tokio::test]
async fn a_run_whose_lease_is_gone() -> Result<()> {
    let Some(pair) = pair(Redis7, Redis7, &[]).await? else {
        return Ok(());
    };
    pair.lab
        .lease
        .0
        .store(false, std::sync::atomic::Ordering::SeqCst);
    let own = RestoreTarget::Own {};
    let error = pair
        .lab
        .restore(&pair.point, &pair.target.url(), own)
        .await
        .unwrap_err();
    assert_eq!(error.kind().as_str(), "lease_lost");
    assert_eq!(pair.target.ask::<u64>(0, &["DBSIZE"]).await?, 0);
    Ok(())
}
