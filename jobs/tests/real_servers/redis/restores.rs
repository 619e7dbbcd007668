//! What a restore brings back: everything, as it was, and in place nothing else.

use anyhow::Result;
use lastgood_jobs::job::RestoreTarget;
use rstest::rstest;

use super::{
    lab::{Lab, counts, exact, merge},
    server::{Flavour, Server},
};

use Flavour::{Redis6, Redis7, Valkey9};

/// Keys of every type and of most encodings, in three databases.
const SHOP: &str = r#"
    local big = string.rep('abcdefgh', 20000)
    redis.call('set', 'string', 'hello')
    redis.call('set', 'integer', '12345')
    redis.call('set', 'large', big)
    redis.call('set', 'binary\0key\r\n\255', 'value\0\r\n\255')
    redis.call('set', '', 'the empty key')
    redis.call('set', 'expiring', 'x', 'px', 4000000000000)
    for n = 1, 3 do
        redis.call('rpush', 'list', n, 'element')
        redis.call('sadd', 'intset', n)
        redis.call('sadd', 'set', 'member' .. n)
        redis.call('zadd', 'zset', n / 3, 'member' .. n)
        redis.call('hset', 'hash', 'field' .. n, 'value')
    end
    for n = 1, 2000 do
        redis.call('rpush', 'long list', n, string.rep('x', n))
        redis.call('sadd', 'large set', 'member' .. n)
        redis.call('sadd', 'large intset', n * 100000)
        redis.call('zadd', 'large zset', n / 7, 'member' .. n)
        redis.call('hset', 'large hash', 'field' .. n, string.rep('y', n))
        redis.call('xadd', 'stream', n .. '-1', 'field', n, 'other', 'value')
    end
    redis.call('zadd', 'infinities', '-inf', 'a', 'inf', 'b', '1e300', 'c', '-0.1', 'd')
    redis.call('xdel', 'stream', '3-1', '2000-1')
    redis.call('xgroup', 'create', 'stream', 'group', '0')
    redis.call('xgroup', 'create', 'stream', 'idle group', '100-1')
    redis.call('xgroup', 'createconsumer', 'stream', 'group', 'lazy')
    redis.call('xreadgroup', 'group', 'group', 'busy', 'count', '50', 'streams', 'stream', '>')
    redis.call('xack', 'stream', 'group', '1-1', '2-1')
    redis.call('xadd', 'empty stream', '7-7', 'a', 'b')
    redis.call('xdel', 'empty stream', '7-7')
    redis.call('pfadd', 'hyperloglog', 'a', 'b', 'c')
    redis.call('select', 3)
    redis.call('set', 'string', 'another')
    redis.call('select', 15)
    redis.call('hset', 'hash', 'a', 'b')
"#;

const LIBRARY: &str = "#!lua name=shop\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)";

async fn fill(server: &Server) -> Result<()> {
    server.ask::<()>(0, &["EVAL", SHOP, "0"]).await?;
    if server.flavour.has_functions() {
        server
            .ask::<String>(0, &["FUNCTION", "LOAD", LIBRARY])
            .await?;
    }
    if server.flavour == Valkey9 {
        server
            .run(0, "HPEXPIREAT hash 4000000000001 FIELDS 1 field2")
            .await?;
    }
    Ok(())
}

/// Every key and its value's digest; of sorted sets the scores, which servers sum up in different ways.
async fn every_value(server: &Server) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for database in [0, 3, 15] {
        let mut session = server.session(database).await?;
        let mut keys: Vec<Vec<u8>> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut session)
            .await?;
        keys.sort();
        for key in keys {
            let kind: String = redis::cmd("TYPE")
                .arg(&key)
                .query_async(&mut session)
                .await?;
            let value = if kind == "zset" {
                let range = redis::cmd("ZRANGE")
                    .arg(&key)
                    .arg(&["0", "-1", "WITHSCORES"])
                    .to_owned();
                let scores: Vec<(String, f64)> = range.query_async(&mut session).await?;
                format!("{scores:?}")
            } else {
                let digest = redis::cmd("DEBUG").arg("DIGEST-VALUE").arg(&key).to_owned();
                digest
                    .query_async::<Vec<String>>(&mut session)
                    .await?
                    .concat()
            };
            values.push(format!("{database} {} {kind} {value}", key.escape_ascii()));
        }
    }
    Ok(values)
}

/// What DEBUG DIGEST leaves out.
async fn besides(server: &Server) -> Result<String> {
    let mut said = Vec::new();
    for words in [
        ["XINFO", "STREAM", "stream", "FULL"].as_slice(),
        &["XINFO", "STREAM", "empty stream", "FULL"],
        &["FUNCTION", "LIST", "WITHCODE"],
        &["PEXPIRETIME", "expiring"],
        &[
            "HPEXPIRETIME",
            "hash",
            "FIELDS",
            "3",
            "field1",
            "field2",
            "field3",
        ],
    ] {
        let answer: redis::RedisResult<redis::Value> = async {
            let mut session = server
                .session(0)
                .await
                .map_err(|_| (redis::ErrorKind::Io, "no session"))?;
            let mut command = redis::Cmd::new();
            command.arg(words).query_async(&mut session).await
        }
        .await;
        said.push(match answer {
            Ok(value) => format!("{value:?}"),
            Err(_) => "unknown here".to_owned(),
        });
    }
    Ok(said.join("\n"))
}

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
    // What a restore leaves besides keys: nothing.
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
    // In place such a key is one that the backup does not have.
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
