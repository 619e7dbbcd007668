//! A customer's data: values of every type and most encodings, and how to compare them with those of another server.

use anyhow::Result;

use super::server::{Flavour::Valkey9, Server};

/// Keys of every type and most encodings, in three databases.
const SHOP: &str = r"
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
    redis.call('xdel', 'stream', '10-1', '11-1')
    redis.call('xadd', 'empty stream', '7-7', 'a', 'b')
    redis.call('xdel', 'empty stream', '7-7')
    redis.call('pfadd', 'hyperloglog', 'a', 'b', 'c')
    redis.call('select', 3)
    redis.call('set', 'string', 'another')
    redis.call('select', 15)
    redis.call('hset', 'hash', 'a', 'b')
";

const LIBRARY: &str = "#!lua name=shop\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)";

/// Fills a server, including what only its version supports.
pub(crate) async fn fill(server: &Server) -> Result<()> {
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

/// Returns every key with its value's digest. For sorted sets the scores stand in, because servers compute their
/// digests differently.
pub(crate) async fn every_value(server: &Server) -> Result<Vec<String>> {
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

/// Returns what DEBUG DIGEST leaves out.
pub(crate) async fn besides(server: &Server) -> Result<String> {
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
