//! Everything that can refuse is tried before anything is removed, so that a target that cannot take the backup stays
//! unchanged.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{error::JobError, job::RestoreTarget};
use rstest::rstest;

use super::{
    lab::{Lab, Point, counts, exact, merge},
    refusals::MARK,
    server::{
        Flavour::{Redis6, Redis7},
        Server,
    },
};
use crate::lab::{attempt, shows_no_secret, until, variable};

const LIBRARY: &str = "#!lua name=theirs\nredis.register_function('f', function() return 1 end)";

/// Starts a server that already has a key and a function library.
async fn lived_in(settings: &[&str]) -> Result<Option<Server>> {
    let Some(server) = Server::start(Redis7, settings).await? else {
        return Ok(None);
    };
    server.run(0, "SET theirs 1").await?;
    server
        .ask::<String>(0, &["FUNCTION", "LOAD", LIBRARY])
        .await?;
    Ok(Some(server))
}

/// Returns everything that a failure must not change.
async fn state(server: &Server) -> Result<String> {
    let functions: redis::Value = server.ask(0, &["FUNCTION", "LIST", "WITHCODE"]).await?;
    Ok(format!("{} {functions:?}", server.digest().await?))
}

/// Checks that a restore in place fails and changes nothing.
async fn is_refused(lab: &Lab, point: &Point, target: &Server) -> Result<JobError> {
    let before = state(target).await?;
    let restored = lab.restore(point, &target.url(), exact()?).await;
    let error = restored.err().context("it was not refused")?;
    shows_no_secret(&error)?;
    let report = error.report();
    ensure!(!report.contains("half restored"), "{report}");
    ensure!(state(target).await? == before, "it was changed: {report}");
    Ok(error)
}

fn is_told(error: &JobError, kind: &str, is_permanent: bool, says: &[&str]) -> Result<()> {
    let report = error.report();
    let told = (error.kind().as_str(), error.is_permanent());
    ensure!(told == (kind, is_permanent), "{told:?} {report}");
    for it in says {
        ensure!(report.contains(it), "{it}: {report}");
    }
    Ok(())
}

/// Returns an RDB file of this version with one key and the given values.
fn rdb(magic: &str, values: &[u8]) -> Vec<u8> {
    let key = b"\x00\x01a\x01b";
    // Without a checksum, like a file of a server that is configured to write none.
    [magic.as_bytes(), b"\xfe\x00", key, values, b"\xff", &[0; 8]].concat()
}

/// Returns a key of a module's type: the module's id, an integer, and the end mark.
fn module_value(name: &[u8; 9]) -> Vec<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |letter: &u8| letters.iter().position(|it| it == letter).unwrap_or(0) as u64;
    let id = name
        .iter()
        .fold(0_u64, |id, letter| id << 6 | digit(letter))
        << 10;
    [&b"\x07\x01m\x81"[..], &id.to_be_bytes(), &[2, 1, 0]].concat()
}

#[tokio::test]
async fn a_value_of_a_module_that_the_target_does_not_have_is_named() -> Result<()> {
    let Some(target) = lived_in(&[]).await? else {
        return Ok(());
    };
    let lab = Lab::new().await?;
    let point = lab.point_of(&rdb("REDIS0009", &module_value(b"vectorset")))?;
    let error = is_refused(&lab, &point, &target).await?;
    let says = ["module type vectorset", "MODULE LIST", "Bad data format"];
    is_told(&error, "target", true, &says)
}

/// The target knows the version of the format, but not one type in it. Forks count as the server that they come from.
#[tokio::test]
async fn a_type_that_the_target_does_not_know_is_named() -> Result<()> {
    let Some(target) = lived_in(&[]).await? else {
        return Ok(());
    };
    // A set as a listpack, which Redis 7.2 introduced.
    let set = b"\x14\x01s\x0a\x0a\x00\x00\x00\x01\x00\x81a\x02\xff";
    let lab = Lab::new().await?;
    let point = lab.point_of(&rdb("REDIS0010", set))?;
    let error = is_refused(&lab, &point, &target).await?;
    let says = ["values of RDB type 20", "Bad data format"];
    is_told(&error, "target", true, &says)
}

#[rstest]
#[case::noeviction("noeviction")]
#[case::evicting("allkeys-lru")]
#[tokio::test]
async fn a_target_with_less_memory_than_the_backup_needs_is_told_how_much(
    #[case] policy: &str,
) -> Result<()> {
    let policy = format!("maxmemory-policy {policy}");
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        lived_in(&["maxmemory 14mb", &policy]).await?,
    ) else {
        return Ok(());
    };
    source.run(0, "DEBUG POPULATE 300000 key 30").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let error = is_refused(&lab, &point, &target).await?;
    is_told(
        &error,
        "target",
        true,
        &["14680064 bytes", "raise maxmemory", &policy[17..]],
    )
}

/// Keys that have expired since the backup take no memory.
#[tokio::test]
async fn a_backup_of_keys_that_have_expired_fits_where_they_did_not() -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        lived_in(&["maxmemory 14mb"]).await?,
    ) else {
        return Ok(());
    };
    let many = "for n = 1, 200000 do redis.call('set', 'key' .. n, string.rep('x', 100), 'px', 9000000) end";
    source
        .run(0, "DEBUG SET-ACTIVE-EXPIRE 0\nSET kept 1")
        .await?;
    source.ask::<()>(0, &["EVAL", many, "0"]).await?;
    let mut dump = source.rdb().await?;
    // The same file, read after its keys have expired: every expiry is changed to one second after the start of 1970.
    let mut at = 0;
    while let Some(found) = memchr(&dump[at..], 252) {
        let begin = at + found + 1;
        let Some(millis) = dump.get_mut(begin..begin + 8) else {
            break;
        };
        if millis[5..] == [1, 0, 0] {
            millis.copy_from_slice(&1000_u64.to_le_bytes());
        }
        at = begin;
    }
    let sum = dump.len() - 8;
    dump[sum..].fill(0);
    let lab = Lab::new().await?;
    let restored = lab
        .restore(&lab.point_of(&dump)?, &target.url(), merge()?)
        .await?;
    assert_eq!(counts(&restored), (1, 200_000, 0, 0));
    Ok(())
}

fn memchr(bytes: &[u8], byte: u8) -> Option<usize> {
    bytes.iter().position(|it| *it == byte)
}

#[rstest]
#[case::one_argument("proto-max-bulk-len 1mb", "proto-max-bulk-len is 1048576")]
#[case::one_command(
    "client-query-buffer-limit 1mb",
    "client-query-buffer-limit is 1048576"
)]
#[tokio::test]
async fn a_value_that_the_target_takes_no_command_for_is_found_before(
    #[case] setting: &str,
    #[case] says: &str,
) -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &["rdbcompression no"]).await?,
        lived_in(&[setting]).await?,
    ) else {
        return Ok(());
    };
    source.run(0, "SETRANGE long 3000000 x").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let error = is_refused(&lab, &point, &target).await?;
    is_told(&error, "target", true, &[says, "a value of 30"])
}

/// A value written in pieces needs other commands than the rest.
#[tokio::test]
async fn a_right_that_only_large_values_need_is_missed_before() -> Result<()> {
    let grants = include_str!("../../../../deploy/grants/redis-restore-in-place.acl");
    let user = super::rights::of_this_test(&grants.replace("+append ", ""));
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &["rdbcompression no"]).await?,
        lived_in(&[&user]).await?,
    ) else {
        return Ok(());
    };
    source.run(0, "SETRANGE long 70000000 x").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let before = state(&target).await?;
    let url = target.url_of("lastgood_restore");
    let error = lab.restore(&point, &url, exact()?).await.unwrap_err();
    is_told(&error, "auth", true, &["APPEND"])?;
    assert_eq!(state(&target).await?, before);

    target
        .run(0, "ACL SETUSER lastgood_restore +append")
        .await?;
    lab.restore(&point, &url, exact()?).await?;
    assert_eq!(target.digest().await?, source.digest().await?);
    Ok(())
}

#[tokio::test]
async fn functions_that_the_target_refuses_are_refused_before_the_first_key() -> Result<()> {
    let (Some(source), Some(target)) = (Server::start(Redis7, &[]).await?, lived_in(&[]).await?)
    else {
        return Ok(());
    };
    source.run(0, "SET ours 1").await?;
    // The same function in a library with a different name.
    let ours = LIBRARY.replace("theirs", "ours");
    source
        .ask::<String>(0, &["FUNCTION", "LOAD", &ours])
        .await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let before = state(&target).await?;
    let error = lab
        .restore(&point, &target.url(), merge()?)
        .await
        .unwrap_err();
    is_told(
        &error,
        "target",
        true,
        &["function libraries", "already exists"],
    )?;
    assert_eq!(state(&target).await?, before);

    // If the backup's library replaces the target's, there is no conflict.
    let restored = lab.restore(&point, &target.url(), exact()?).await?;
    assert_eq!(counts(&restored), (1, 0, 1, 1));
    assert_eq!(state(&target).await?, state(&source).await?);
    Ok(())
}

/// Functions are removed last, when all keys are written, even if the backup has no functions.
#[tokio::test]
async fn a_restore_that_fails_half_way_has_removed_no_function() -> Result<()> {
    let (Some(source), Some(target)) = (Server::start(Redis7, &[]).await?, lived_in(&[]).await?)
    else {
        return Ok(());
    };
    source.run(0, "DEBUG POPULATE 300000 key 30").await?;
    let lab = Lab::new().await?;
    let (run, point) = (attempt(), lab.point_of(&source.rdb().await?)?);
    let url = target.url();
    let (failed, broken) = tokio::join!(lab.restore_as(run, &point, &url, exact()?), async {
        let some = || async { Ok(target.ask::<u64>(0, &["DBSIZE"]).await? > 5_000) };
        until("some keys are there", some).await?;
        target
            .ask::<u64>(0, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await
    });
    broken?;
    let report = failed.unwrap_err().report();
    ensure!(report.contains("half restored"), "{report}");
    assert_eq!(target.ask::<i64>(0, &["FCALL", "f", "0"]).await?, 1);

    let again = lastgood_jobs::attempt::Attempt {
        epoch: lastgood_jobs::attempt::Epoch(2),
        ..run
    };
    lab.restore_as(again, &point, &url, exact()?).await?;
    assert_eq!(state(&target).await?, state(&source).await?);
    Ok(())
}

#[rstest]
#[case::replicas("min-replicas-to-write 1", "NOREPLICAS", "min-replicas-to-write")]
#[tokio::test]
async fn a_target_that_takes_no_writes_now_is_told_as_such_and_tried_again(
    #[case] setting: &str,
    #[case] code: &str,
    #[case] advice: &str,
) -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        Server::start(Redis7, &[setting]).await?,
    ) else {
        return Ok(());
    };
    source.run(0, "SET a 1").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let error = is_refused(&lab, &point, &target).await?;
    is_told(&error, "target", false, &[code, advice])
}

/// Redis takes no writes while it cannot save, as with a full disk.
#[tokio::test]
async fn a_target_that_cannot_save_is_told_as_such_and_tried_again() -> Result<()> {
    let gone = tempfile::tempdir()?;
    let directory = format!("dir {}", gone.path().display());
    let Some(target) =
        lived_in(&["save 3600 1", "stop-writes-on-bgsave-error yes", &directory]).await?
    else {
        return Ok(());
    };
    // A save has nowhere to write then, whatever the server's user may do.
    gone.close()?;
    target.run(0, "BGSAVE").await?;
    let has_failed = || async {
        let told = target.ask::<String>(0, &["INFO", "persistence"]).await?;
        Ok(told.contains("rdb_last_bgsave_status:err"))
    };
    until("the save has failed", has_failed).await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&rdb("REDIS0009", b""))?;
    let error = is_refused(&lab, &point, &target).await?;
    is_told(&error, "target", false, &["MISCONF", "disk"])
}

/// Nothing indicates damage: the hash is right, and a newer lastgood can read the version.
#[tokio::test]
async fn an_archive_of_a_version_that_is_not_known_yet_is_not_called_damaged() -> Result<()> {
    let Some(target) = lived_in(&[]).await? else {
        return Ok(());
    };
    let lab = Lab::new().await?;
    let point = lab.point_of(&rdb("REDIS0014", b""))?;
    let error = is_refused(&lab, &point, &target).await?;
    is_told(
        &error,
        "tool",
        true,
        &["upgrade every consumer", "its version is 14"],
    )?;
    ensure!(
        !error.report().contains("choose another restore point"),
        "{}",
        error.report()
    );
    Ok(())
}

/// A key with the mark's name belongs to the customer, like any other.
#[tokio::test]
async fn a_key_that_has_the_name_of_our_mark_comes_back_and_stays() -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        Server::start(Redis7, &[]).await?,
    ) else {
        return Ok(());
    };
    source.run(0, &format!("SET {MARK} ours\nSET a 1")).await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let restored = lab
        .restore(&point, &target.url(), RestoreTarget::Own {})
        .await?;
    assert_eq!(counts(&restored), (2, 0, 0, 0));
    assert_eq!(restored.notes, Vec::<String>::new());
    assert_eq!(target.digest().await?, source.digest().await?);

    // Such a key that only the target has is kept or removed with the rest.
    target.run(0, &format!("SET {MARK} theirs")).await?;
    source.run(0, &format!("DEL {MARK}")).await?;
    let point = lab.point_of(&source.rdb().await?)?;
    lab.restore(&point, &target.url(), merge()?).await?;
    assert_eq!(target.ask::<String>(0, &["GET", MARK]).await?, "theirs");
    lab.restore(&point, &target.url(), exact()?).await?;
    assert_eq!(target.digest().await?, source.digest().await?);

    // If both names are taken, there is none left for the mark.
    target
        .run(0, &format!("SET {MARK} theirs\nLPUSH {MARK}:unfinished a"))
        .await?;
    let error = is_refused_by_keys(&lab, &point, &target).await?;
    is_told(&error, "target", true, &["rename one"])
}

async fn is_refused_by_keys(lab: &Lab, point: &Point, target: &Server) -> Result<JobError> {
    let before = target.digest().await?;
    let restored = lab.restore(point, &target.url(), exact()?).await;
    ensure!(target.digest().await? == before);
    restored.err().context("it was not refused")
}

/// Redis 6 has no functions to list or restore.
#[tokio::test]
async fn a_server_that_knows_no_functions_is_asked_for_none() -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(Redis6, &[]).await?,
        Server::start(Redis6, &[]).await?,
    ) else {
        return Ok(());
    };
    source.run(0, "SET a 1").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    lab.restore(&point, &target.url(), exact()?).await?;
    assert_eq!(target.digest().await?, source.digest().await?);
    Ok(())
}

#[tokio::test]
async fn tls_to_a_port_without_it_and_the_other_way_round_is_told_once() -> Result<()> {
    let Some(plain) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    plain.run(0, "SET a 1").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&plain.rdb().await?)?;
    let url = plain.url().replace("redis://", "rediss://");
    // A TLS greeting without a line break keeps such a server waiting; most greetings have one.
    for _ in 0..3 {
        let restored = lab.restore(&point, &url, RestoreTarget::Own {}).await;
        let error = restored.err().context("it was not refused")?;
        shows_no_secret(&error)?;
        is_told(&error, "config", true, &["does not speak TLS", "redis://"])?;
    }
    let encrypted = variable("LASTGOOD_TEST_REDIS7_TLS_URL")?;
    if encrypted.starts_with("skip: ") {
        return Ok(());
    }
    let url = encrypted.replace("rediss://", "redis://");
    let restored = lab.restore(&point, &url, RestoreTarget::Own {}).await;
    let error = restored.err().context("it was not refused")?;
    is_told(&error, "config", true, &["speaks TLS", "rediss://"])?;
    let restored = lab.restore(&point, &encrypted, RestoreTarget::Own {}).await;
    let error = restored.err().context("it was not refused")?;
    is_told(
        &error,
        "config",
        true,
        &["certificate is not accepted", "tls-ca-file"],
    )
}
