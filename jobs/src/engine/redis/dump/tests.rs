//! What a dump takes from a server that sends its snapshot, and what it leaves when the snapshot is bad.

mod lab;
mod pretend;

use anyhow::{Context as _, Result, bail};
use chrono::{TimeDelta, Utc};
use rstest::rstest;

use self::{
    lab::Lab,
    pretend::{PASSWORD, Pretend, Script, Then},
};
use super::census;
use crate::{
    engine::answer::Dumped,
    error::ErrorKind,
    manifest::{Consistency, Details, RedisRead},
};

const RDB: &[u8] = include_bytes!("../../../format/rdb/golden/redis-7.0.rdb");
const MARK: &[u8; 40] = b"0123456789abcdef0123456789abcdef01234567";

/// A snapshot whose length the server did not know. Newlines come first to keep us waiting, and its mark arrives in two
/// packets.
fn diskless(rdb: &[u8]) -> Vec<Vec<u8>> {
    let (begin, rest) = MARK.split_at(17);
    let head = [b"\n$EOF:", MARK.as_slice(), b"\r\n"].concat();
    let last = [rdb, begin].concat();
    vec![b"\n".to_vec(), b"\n".to_vec(), head, last, rest.to_vec()]
}

/// A snapshot that follows its length, right or wrong.
fn measured(length: usize, rdb: &[u8]) -> Vec<Vec<u8>> {
    let (begin, rest) = rdb.split_at(rdb.len() / 3);
    let head = format!("\n${length}\r\n").into_bytes();
    vec![b"\n".to_vec(), head, begin.to_vec(), rest.to_vec()]
}

fn whole(rdb: &[u8]) -> Vec<Vec<u8>> {
    measured(rdb.len(), rdb)
}

fn said(line: &str) -> Vec<Vec<u8>> {
    vec![line.as_bytes().to_vec()]
}

/// The golden dump with one bit of a value flipped.
fn flipped() -> Vec<u8> {
    let mut rdb = RDB.to_vec();
    rdb[RDB.len() / 2] ^= 4;
    rdb
}

/// A dump without a checksum, much longer than one hand-over, and full of what looks like the start of the mark.
fn long() -> Vec<u8> {
    let value = [&MARK[..39], b"-"].concat().repeat(30_011);
    let size = u32::try_from(value.len()).unwrap().to_be_bytes();
    let head = b"REDIS0010\xfe\x00\x00\x03key\x80";
    [head, &size[..], &value, b"\xff", &[0; 8]].concat()
}

fn read_by(dumped: &Dumped) -> Result<RedisRead> {
    match &dumped.details {
        Details::Redis { read_by, .. } => Ok(*read_by),
        other @ (Details::Postgres { .. } | Details::Mongodb { .. }) => {
            bail!("no details of Redis: {other:?}")
        }
    }
}

/// Expects a dump to fail, checks that nothing is stored and no secret told, and returns the report.
async fn fails(server: &Pretend, kind: ErrorKind) -> Result<String> {
    let lab = Lab::new().await?;
    let error = lab.dump(server).await.err().context("the dump succeeded")?;
    let report = error.report();
    assert_eq!(error.kind(), kind, "{report}");
    assert!(lab.is_empty()?, "something is left in the store");
    let told = format!("{report} {error:?}");
    assert!(!told.contains(PASSWORD), "{told}");
    Ok(report)
}

#[rstest]
#[case::diskless(diskless(RDB))]
#[case::measured(whole(RDB))]
#[tokio::test]
async fn the_dump_is_the_servers_snapshot_byte_by_byte(
    #[case] packets: Vec<Vec<u8>>,
    #[values("+OK\r\n", "-ERR Unrecognized REPLCONF option: capa\r\n")] to_replconf: &'static str,
) -> Result<()> {
    let script = Script {
        to_replconf,
        ..Script::sync(packets)
    };
    let server = Pretend::start(script).await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert!(lab.stored()? == RDB, "the dump is another");
    assert_eq!(dumped.dump.size_bytes, RDB.len() as u64);
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    assert_eq!(read_by(&dumped)?, RedisRead::Replication);
    assert_eq!(dumped.server_version, "Redis 7.0.15");
    assert_eq!(dumped.warnings, Vec::<String>::new());
    assert_eq!(
        (
            server.asked(&format!("AUTH {PASSWORD}")),
            server.asked("REPLCONF")
        ),
        (1, 4)
    );
    Ok(())
}

#[rstest]
#[case::one(1, RDB.to_vec())]
#[case::some(13, RDB.to_vec())]
#[case::many(9973, long())]
#[case::a_lot(1 << 20, long())]
#[tokio::test]
async fn the_end_is_found_in_whatever_packets_it_comes(
    #[case] packet: usize,
    #[case] rdb: Vec<u8>,
) -> Result<()> {
    for packets in [diskless(&rdb), whole(&rdb)] {
        let lab = Lab::new().await?;
        let _dumped = lab.dump_in_packets(Script::sync(packets), packet).await?;
        assert!(lab.stored()? == rdb, "the dump is another");
    }
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_was_made_for_another_replica_is_as_old_as_it_is() -> Result<()> {
    let made = census::take(RDB)?.ctime.context("no time")?;
    let minute = TimeDelta::minutes(1);
    let clock_micros = (made + minute.num_seconds()) * 1_000_000;
    let script = Script {
        info: format!("redis_version:7.0.15\r\nserver_time_usec:{clock_micros}\r\n"),
        ..Script::sync(diskless(RDB))
    };
    let server = Pretend::start(script).await?;
    let before = Utc::now();
    let dumped = Lab::new().await?.dump(&server).await?;
    let asked_at = dumped.consistent_at + minute;
    assert!(before <= asked_at && asked_at <= Utc::now(), "{asked_at}");
    Ok(())
}

#[rstest]
#[case::mid_stream(diskless(&RDB[..RDB.len() / 2])[..3].to_vec())]
#[case::before_the_mark([&diskless(RDB)[..3], &[RDB.to_vec()]].concat())]
#[case::in_the_mark(diskless(RDB)[..4].to_vec())]
#[case::mid_length(measured(RDB.len(), &RDB[..RDB.len() / 2]))]
#[case::last_byte(measured(RDB.len(), &RDB[..RDB.len() - 1]))]
#[case::length_too_long(measured(RDB.len() + 1, RDB))]
#[case::length_beyond_reason(said("$18446744073709551615\r\nREDIS"))]
#[case::nothing_but_length(measured(RDB.len(), b""))]
#[tokio::test]
async fn a_snapshot_that_is_cut_off_leaves_nothing(#[case] packets: Vec<Vec<u8>>) -> Result<()> {
    let script = Script {
        then: Then::HangsUp,
        ..Script::sync(packets)
    };
    let server = Pretend::start(script).await?;
    let report = fails(&server, ErrorKind::Dump).await?;
    assert!(report.contains("cut its snapshot off after"), "{report}");
    Ok(())
}

#[rstest]
#[case::flipped_bit(whole(&flipped()))]
#[case::flipped_bit_diskless(diskless(&flipped()))]
#[case::length_too_short(measured(RDB.len() - 1, RDB))]
#[case::mark_too_early(diskless(&RDB[..RDB.len() - 1]))]
#[case::more_after_its_end(whole(&[RDB, b"\0"].concat()))]
#[case::empty(said("$0\r\n"))]
#[case::no_snapshot(whole(b"<html>This is no place for a database.</html>"))]
#[tokio::test]
async fn what_is_no_whole_snapshot_leaves_nothing(#[case] packets: Vec<Vec<u8>>) -> Result<()> {
    let server = Pretend::start(Script::sync(packets)).await?;
    let report = fails(&server, ErrorKind::Dump).await?;
    assert!(!report.contains("cut its snapshot off"), "{report}");
    Ok(())
}

/// The start of a string of 8 GiB, and some of it.
fn endless() -> Vec<Vec<u8>> {
    let begin = b"REDIS0010\xfe\x00\x00\x03key\x81\0\0\0\x02\0\0\0\0".to_vec();
    let more = vec![vec![b'x'; 1 << 20]; 12];
    [&diskless(b"")[..3], &[begin], &more].concat()
}

/// A peer that sends endlessly, or announces that it will, is stopped for good at the limit of its tier.
#[rstest]
#[case::declared(measured(1 << 40, &RDB[..100]))]
#[case::in_one_string(endless())]
#[tokio::test]
async fn a_dump_that_is_larger_than_it_may_be_leaves_nothing(
    #[case] packets: Vec<Vec<u8>>,
) -> Result<()> {
    let server = Pretend::start(Script::sync(packets)).await?;
    let lab = Lab::new().await?;
    lab.limit_dump(8 << 20);
    let error = lab.dump(&server).await.err().context("it succeeded")?;
    let report = error.report();
    assert_eq!(
        (error.kind(), error.is_permanent()),
        (ErrorKind::Config, true),
        "{report}"
    );
    assert!(report.contains("larger than 8388608 bytes"), "{report}");
    assert!(lab.is_empty()?, "something is left in the store");
    Ok(())
}

#[tokio::test]
async fn a_dump_of_just_what_is_allowed_is_taken() -> Result<()> {
    for packets in [diskless(RDB), whole(RDB)] {
        let server = Pretend::start(Script::sync(packets)).await?;
        let lab = Lab::new().await?;
        lab.limit_dump(RDB.len() as u64);
        let dumped = lab.dump(&server).await?;
        assert_eq!(dumped.dump.size_bytes, RDB.len() as u64);
    }
    Ok(())
}

#[tokio::test]
async fn a_dump_of_a_version_that_is_not_known_yet_is_told_once_and_not_called_damaged()
-> Result<()> {
    let newer = [b"REDIS0014".as_slice(), &RDB[9..]].concat();
    let server = Pretend::start(Script::sync(whole(&newer))).await?;
    let lab = Lab::new().await?;
    let error = lab.dump(&server).await.err().context("it succeeded")?;
    let report = error.report();
    assert_eq!(
        (error.kind(), error.is_permanent()),
        (ErrorKind::Tool, true),
        "{report}"
    );
    assert!(
        report.contains("upgrade every consumer") && report.contains("version is 14"),
        "{report}"
    );
    Ok(())
}

/// A dump with one element, compressed from 2 GiB to 65 MiB: nobody looks into a value of up to 64 MiB.
fn with_a_long_element() -> Vec<u8> {
    let compressed = vec![0_u8; 65 << 20];
    let size = u32::try_from(compressed.len()).unwrap().to_be_bytes();
    let expanded = (2_u64 << 30).to_be_bytes();
    let list = b"REDIS0010\xfe\x00\x01\x03key\x01";
    let string = [b"\xc3\x80", &size[..], b"\x81", &expanded, &compressed].concat();
    [&list[..], &string, b"\xff", &[0; 8]].concat()
}

/// An element that no restore can write over the network is still in the backup: a server can start from it.
#[tokio::test]
async fn an_element_that_is_too_long_to_be_held_is_backed_up_and_told() -> Result<()> {
    let rdb = with_a_long_element();
    let server = Pretend::start(Script::sync(whole(&rdb))).await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert!(lab.stored()? == rdb, "the dump is another");
    assert_eq!(dumped.consistency, Consistency::Snapshot);
    let warnings = dumped.warnings.join("\n");
    assert!(warnings.contains("proto-max-bulk-len"), "{warnings}");
    Ok(())
}

/// If DUMP or SCAN was renamed, no number of retries would read anything.
#[tokio::test]
async fn a_command_that_was_renamed_away_is_told_once() -> Result<()> {
    let script = Script {
        info: "redis_version:7.0.15\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n".to_owned(),
        to_scan: Some("-ERR unknown command 'SCAN', with args beginning with: '0' 'COUNT' \r\n"),
        ..Script::sync(said("-ERR unknown command 'SYNC'\r\n"))
    };
    let server = Pretend::start(script).await?;
    let lab = Lab::new().await?;
    let error = lab.dump(&server).await.err().context("it succeeded")?;
    let report = error.report();
    assert_eq!(
        (error.kind(), error.is_permanent()),
        (ErrorKind::Config, true),
        "{report}"
    );
    assert!(report.contains("rename-command"), "{report}");
    Ok(())
}

#[rstest]
#[case::words("HTTP/1.1 400 Bad Request\r\n")]
#[case::status("+FULLRESYNC\r\n")]
#[case::no_length("$many\r\n")]
#[case::negative("$-1\r\n")]
#[case::short_mark("$EOF:0123456789abcdef\r\n")]
#[tokio::test]
async fn what_is_no_begin_of_a_snapshot_leaves_nothing(#[case] line: &str) -> Result<()> {
    let server = Pretend::start(Script::sync(said(line))).await?;
    let report = fails(&server, ErrorKind::Connect).await?;
    assert!(report.contains("not Redis's protocol"), "{report}");
    Ok(())
}

#[rstest]
#[case::at_once(Vec::new())]
#[case::after_a_while(said("\n\n\n"))]
#[case::in_its_head(said("$EOF:0123"))]
#[tokio::test]
async fn a_server_that_hangs_up_before_its_snapshot_was_not_reached(
    #[case] packets: Vec<Vec<u8>>,
) -> Result<()> {
    let script = Script {
        then: Then::HangsUp,
        ..Script::sync(packets)
    };
    let server = Pretend::start(script).await?;
    let report = fails(&server, ErrorKind::Connect).await?;
    assert!(report.contains("closed the connection"), "{report}");
    assert_eq!(server.asked("SCAN"), 0);
    Ok(())
}

#[rstest]
#[case::unknown("-ERR unknown command 'SYNC', with args beginning with: \r\n")]
#[case::not_granted("-NOPERM this user has no permissions to run the 'sync' command\r\n")]
#[tokio::test]
async fn a_server_that_takes_no_replicas_is_asked_for_its_keys(#[case] no: &str) -> Result<()> {
    let script = Script {
        info: "redis_version:7.0.15\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n".to_owned(),
        ..Script::sync(said(no))
    };
    let server = Pretend::start(script).await?;
    // The server hangs up on SCAN.
    fails(&server, ErrorKind::Connect).await?;
    assert_eq!((server.asked("SELECT 3"), server.asked("SCAN 0")), (1, 1));
    Ok(())
}

#[tokio::test]
async fn keys_that_were_read_one_by_one_are_no_snapshot() -> Result<()> {
    let server = Pretend::start(Script::sync(said("-ERR unknown command\r\n"))).await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(dumped.consistency, Consistency::None);
    assert_eq!(read_by(&dumped)?, RedisRead::Scan);
    let warning = dumped.warnings.first().context("no warning")?;
    assert!(warning.starts_with("not point-in-time: "), "{warning}");
    assert_eq!(census::take(&lab.stored()?[..])?.keys.len(), 0);
    Ok(())
}

#[rstest]
#[case::loading(
    "-LOADING Redis is loading the dataset in memory\r\n",
    ErrorKind::Connect
)]
#[case::no_primary("-NOMASTERLINK Can't SYNC while not connected\r\n", ErrorKind::Connect)]
#[case::fork_failed("-ERR Unable to perform background save\r\n", ErrorKind::Dump)]
#[tokio::test]
async fn a_server_that_cannot_send_its_snapshot_now_is_not_read_in_another_way(
    #[case] no: &str,
    #[case] kind: ErrorKind,
) -> Result<()> {
    let server = Pretend::start(Script::sync(said(no))).await?;
    fails(&server, kind).await?;
    assert_eq!(server.asked("FUNCTION"), 0);
    Ok(())
}

#[rstest]
#[case::wrong("-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_owned(), "+OK\r\n")]
#[case::still_none("+OK\r\n".to_owned(), "-NOAUTH Authentication required.\r\n")]
#[case::none("-NOAUTH Authentication required.\r\n".to_owned(), "+OK\r\n")]
#[case::repeated(format!("-ERR unknown command 'AUTH', with args beginning with: '{PASSWORD}'\r\n"), "+OK\r\n")]
#[tokio::test]
async fn a_refused_password_is_told_as_such_and_not_repeated(
    #[case] to_auth: String,
    #[case] to_name: &'static str,
) -> Result<()> {
    let script = Script {
        to_auth,
        to_name,
        ..Script::sync(whole(RDB))
    };
    let server = Pretend::start(script).await?;
    fails(&server, ErrorKind::Auth).await?;
    assert_eq!(server.asked("SYNC"), 0);
    Ok(())
}
