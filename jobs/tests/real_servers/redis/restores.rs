//! A restore brings back everything as it was, and in place nothing else.

use anyhow::Result;
use lastgood_jobs::job::RestoreTarget;
use rstest::rstest;

use super::{
    lab::{Lab, counts, exact, merge},
    server::{Flavour, Server},
    shop::{besides, every_value, fill},
};

use Flavour::{Redis6, Redis7, Valkey9};

#[rstest]
#[case::six(Redis6, Redis6)]
#[case::seven(Redis7, Redis7)]
#[case::valkey(Valkey9, Valkey9)]
#[case::six_to_seven(Redis6, Redis7)]
#[case::six_to_valkey(Redis6, Valkey9)]
#[case::seven_to_valkey(Redis7, Valkey9)]
#[tokio::test]
async fn everything_comes_back(#[case] from: Flavour, #[case] to: Flavour) -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(from, &[]).await?,
        Server::start(to, &[]).await?,
    ) else {
        return Ok(());
    };
    fill(&source).await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let restored = lab
        .restore(&point, &target.url(), RestoreTarget::Own {})
        .await?;
    assert_eq!(every_value(&target).await?, every_value(&source).await?);
    if from == to {
        assert_eq!(target.digest().await?, source.digest().await?);
        assert_eq!(besides(&target).await?, besides(&source).await?);
    }
    assert_eq!(
        counts(&restored),
        (22, 0, 0, u64::from(from.has_functions()))
    );
    assert_eq!(restored.notes, Vec::<String>::new());
    assert_eq!(restored.database, format!("127.0.0.1:{}", target.port));
    // The restore leaves nothing behind except the keys.
    assert_eq!(target.ask::<u64>(0, &["DBSIZE"]).await?, 20);
    Ok(())
}

#[tokio::test]
async fn in_place_what_the_backup_does_not_have_goes_or_stays_as_asked() -> Result<()> {
    let Some(server) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    fill(&server).await?;
    let lab = Lab::new().await?;
    let (point, before) = (lab.point_of(&server.rdb().await?)?, server.digest().await?);
    let after = "
        SET string changed
        DEL list
        SADD list now a set
        PEXPIRE hash 100000000
        SET new 1
        DEBUG POPULATE 5000 other
    ";
    server.run(0, after).await?;
    server.run(9, "SET elsewhere 1").await?;
    let other = "#!lua name=other\nredis.register_function('other', function() return 1 end)";
    server
        .ask::<String>(0, &["FUNCTION", "LOAD", other])
        .await?;

    let merged = lab.restore(&point, &server.url(), merge()?).await?;
    assert_eq!(counts(&merged), (22, 0, 0, 1));
    assert_eq!(server.ask::<String>(0, &["GET", "new"]).await?, "1");
    assert_eq!(server.ask::<String>(9, &["GET", "elsewhere"]).await?, "1");
    assert_eq!(server.ask::<String>(0, &["GET", "string"]).await?, "hello");

    let replaced = lab.restore(&point, &server.url(), exact()?).await?;
    assert_eq!(counts(&replaced), (22, 0, 5002, 1));
    assert_eq!(server.digest().await?, before);
    let libraries: Vec<redis::Value> = server.ask(0, &["FUNCTION", "LIST"]).await?;
    assert_eq!(libraries.len(), 1);
    Ok(())
}

#[tokio::test]
async fn keys_that_have_expired_are_left_out_and_counted() -> Result<()> {
    let Some(source) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    let keys = "
        DEBUG SET-ACTIVE-EXPIRE 0
        SET stays 1
        SET gone 1 PX 1
        HSET gone-too a b
        PEXPIRE gone-too 1
        SET later 1 PX 100000000
    ";
    source.run(0, keys).await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let Some(target) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    // In place, such a key counts as one that the backup does not have.
    target.run(0, "SET gone 2").await?;
    let restored = lab.restore(&point, &target.url(), exact()?).await?;
    assert_eq!(counts(&restored), (2, 2, 1, 0));
    let mut found: Vec<String> = target.ask(0, &["KEYS", "*"]).await?;
    found.sort();
    assert_eq!(found, ["later", "stays"]);
    Ok(())
}

#[tokio::test]
async fn how_much_a_key_was_used_comes_back() -> Result<()> {
    let policy = ["maxmemory-policy allkeys-lfu"];
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &policy).await?,
        Server::start(Redis7, &policy).await?,
    ) else {
        return Ok(());
    };
    source
        .run(0, &format!("SET key 1\n{}", "GET key\n".repeat(200)))
        .await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    lab.restore(&point, &target.url(), RestoreTarget::Own {})
        .await?;
    let used = |server: &Server| {
        let port = server.port;
        async move {
            let client =
                redis::Client::open(format!("redis://:{}@127.0.0.1:{port}", crate::lab::MARKER))?;
            let mut session = client.get_multiplexed_async_connection().await?;
            anyhow::Ok(
                redis::cmd("OBJECT")
                    .arg(&["FREQ", "key"])
                    .query_async::<u64>(&mut session)
                    .await?,
            )
        }
    };
    let frequency = used(&source).await?;
    assert!(frequency > 5, "{frequency}");
    assert_eq!(used(&target).await?, frequency);
    Ok(())
}

#[tokio::test]
async fn a_million_keys_come_back() -> Result<()> {
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &[]).await?,
        Server::start(Redis7, &[]).await?,
    ) else {
        return Ok(());
    };
    source.run(0, "DEBUG POPULATE 1000000 key 16").await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let reference = RestoreTarget::Reference {
        reference: "env:OTHER".to_owned(),
    };
    let restored = lab.restore(&point, &target.url(), reference).await?;
    assert_eq!(counts(&restored), (1_000_000, 0, 0, 0));
    assert_eq!(target.digest().await?, source.digest().await?);
    let (read, _) = lab.worker.progress.so_far();
    assert_eq!(read, restored.dump_bytes);
    Ok(())
}

/// Regression test: a stream of more than 64 MiB lost what was pending of deleted messages, which no command can add.
#[tokio::test]
async fn a_large_stream_keeps_what_is_pending_of_deleted_messages() -> Result<()> {
    let settings = ["rdbcompression no"];
    let (Some(source), Some(target)) = (
        Server::start(Redis7, &settings).await?,
        Server::start(Redis7, &[]).await?,
    ) else {
        return Ok(());
    };
    let large = "
        local body = string.rep('x', 1024 * 1024)
        for n = 1, 70 do redis.call('xadd', 'stream', n .. '-0', 'body', body) end
    ";
    source.ask::<()>(0, &["EVAL", large, "0"]).await?;
    let pending = "
        XGROUP CREATE stream workers 0
        XREADGROUP GROUP workers one COUNT 3 STREAMS stream >
        XDEL stream 1-0 3-0
    ";
    source.run(0, pending).await?;
    let lab = Lab::new().await?;
    let point = lab.point_of(&source.rdb().await?)?;
    let restored = lab
        .restore(&point, &target.url(), RestoreTarget::Own {})
        .await?;
    assert_eq!(restored.notes, Vec::<String>::new());
    let ids = ["XPENDING", "stream", "workers", "-", "+", "10"];
    let ids: Vec<(String, String, u64, u64)> = target.ask(0, &ids).await?;
    let ids: Vec<&str> = ids.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(ids, ["1-0", "2-0", "3-0"]);
    assert_eq!(target.digest().await?, source.digest().await?);
    Ok(())
}
