//! What a server reports about itself.

use std::collections::BTreeMap;

use super::{connection::Connection, reply::Reply};
use crate::error::{JobError, RedisError};

/// A server, as its `INFO` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Server {
    /// Such as `Redis 7.0.15` or `Valkey 9.0.1`.
    pub(crate) version: String,
    /// When it answered, in microseconds by its own clock; servers before 7.0 do not say.
    pub(crate) clock_micros: Option<i64>,
    pub(crate) role: Role,
    /// Whether it is a node of a cluster, which holds only a part of the data.
    pub(crate) is_cluster_node: bool,
    /// Number of keys by database number; empty databases are missing.
    pub(crate) keys: BTreeMap<u64, u64>,
    /// How many keys it has evicted for lack of memory since it started.
    pub(crate) evicted_keys: u64,
    /// How much memory it may use; `None` if there is no limit, or it does not say.
    pub(crate) max_memory_bytes: Option<u64>,
    /// What it does when that limit is reached.
    pub(crate) max_memory_policy: Option<String>,
}

/// The role of a server in replication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// Takes writes.
    #[default]
    Primary,
    /// Follows a primary.
    Replica,
}

/// Asks a server about itself. `None` if our role may not ask.
pub(crate) async fn ask(connection: &mut Connection) -> Result<Option<Server>, JobError> {
    let said = connection.try_to("ask for INFO", &[b"INFO"]).await?;
    let Ok(Some(text)) = said.map(Reply::into_bytes) else {
        return Ok(None);
    };
    Ok(Some(read(&String::from_utf8_lossy(&text))))
}

/// Asks a server about itself, and fails without an answer.
pub(crate) async fn must_ask(connection: &mut Connection) -> Result<Server, JobError> {
    let doing = "ask for INFO";
    let said = connection.ask(doing, &[b"INFO"]).await?.into_bytes();
    Ok(read(&String::from_utf8_lossy(&said.unwrap_or_default())))
}

/// Returns the server's clock in microseconds; `None` if our role may not ask.
pub(crate) async fn clock_micros(connection: &mut Connection) -> Result<Option<i64>, JobError> {
    let said = connection.try_to("ask for the time", &[b"TIME"]).await?;
    let parts = said.ok().and_then(Reply::into_array).unwrap_or_default();
    let numbers: Option<Vec<i64>> = parts
        .into_iter()
        .map(|part| std::str::from_utf8(&part.into_bytes()?).ok()?.parse().ok())
        .collect();
    let Some([seconds, micros]) = numbers.as_deref() else {
        return Ok(None);
    };
    Ok(seconds
        .checked_mul(1_000_000)
        .and_then(|it| it.checked_add(*micros)))
}

/// Refuses a node of a cluster: a resource is a whole server, but a node has only a part of the keys.
pub(crate) fn refuse_cluster(server: &Server) -> Result<(), JobError> {
    if server.is_cluster_node {
        return Err(RedisError::Cluster.into());
    }
    Ok(())
}

fn read(text: &str) -> Server {
    let mut server = Server::default();
    let (mut redis, mut valkey, mut other) = (None, None, None);
    for line in text.lines() {
        let Some((name, value)) = line.trim_end().split_once(':') else {
            continue;
        };
        match name {
            "redis_version" => redis = Some(value),
            "valkey_version" => valkey = Some(value),
            "server_name" => other = Some(value),
            "server_time_usec" => server.clock_micros = value.parse().ok(),
            "role" if value == "slave" => server.role = Role::Replica,
            "evicted_keys" => server.evicted_keys = value.parse().unwrap_or(0),
            "maxmemory" => server.max_memory_bytes = value.parse().ok().filter(|it| *it > 0),
            "maxmemory_policy" => server.max_memory_policy = Some(value.to_owned()),
            "cluster_enabled" => server.is_cluster_node = value == "1",
            _ => {
                if let Some((number, keys)) = database(name, value) {
                    server.keys.insert(number, keys);
                }
            }
        }
    }
    server.version = match (valkey, redis, other) {
        (Some(version), _, _) => format!("Valkey {version}"),
        (None, Some(version), None) => format!("Redis {version}"),
        (None, Some(version), Some(name)) => format!("{name}, which calls itself Redis {version}"),
        (None, None, _) => String::new(),
    };
    server
}

/// Parses `db3:keys=7,expires=0,avg_ttl=0`.
fn database(name: &str, value: &str) -> Option<(u64, u64)> {
    let number = name.strip_prefix("db")?.parse().ok()?;
    let keys = value.split(',').find_map(|it| it.strip_prefix("keys="))?;
    Some((number, keys.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn info_is_read_as_servers_write_it() {
        let said = "# Server\r\nredis_version:7.0.15\r\nserver_time_usec:1700000000000001\r\n\r\n# Replication\r\n\
                    role:slave\r\nmaxmemory:1024\r\nmaxmemory_policy:noeviction\r\n# Cluster\r\ncluster_enabled:1\r\nevicted_keys:3\r\n# Keyspace\r\n\
                    db0:keys=7,expires=1,avg_ttl=0\r\ndb12:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\ndbx:keys=1\r\n";
        let server = Server {
            version: "Redis 7.0.15".to_owned(),
            clock_micros: Some(1_700_000_000_000_001),
            role: Role::Replica,
            is_cluster_node: true,
            keys: BTreeMap::from([(0, 7), (12, 1)]),
            evicted_keys: 3,
            max_memory_bytes: Some(1024),
            max_memory_policy: Some("noeviction".to_owned()),
        };
        assert_eq!(read(said), server);
    }

    #[rstest]
    #[case::redis("redis_version:6.2.5\r\n", "Redis 6.2.5")]
    #[case::valkey(
        "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.1\r\n",
        "Valkey 9.0.1"
    )]
    #[case::other(
        "redis_version:7.2.0\nserver_name:other\n",
        "other, which calls itself Redis 7.2.0"
    )]
    #[case::nothing("hello", "")]
    fn a_server_is_called_by_its_own_name(#[case] said: &str, #[case] version: &str) {
        assert_eq!(read(said).version, version);
    }
}
