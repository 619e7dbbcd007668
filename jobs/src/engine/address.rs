//! How a server is reached: one address per engine, parsed once from a connection URL.

pub mod mongodb;
pub mod postgres;
pub mod redis;
pub mod transport;

use secrecy::SecretString;

use self::transport::Transport;
use crate::{error::JobError, names::Engine};

/// Where a resource's server is and who connects, password included. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum Address {
    /// PostgreSQL and pgvector.
    Postgres(Box<postgres::Address>),
    /// MongoDB.
    Mongodb(Box<mongodb::Address>),
    /// Redis and Valkey.
    Redis(Box<redis::Address>),
}

impl Address {
    /// Parses a connection URL by the engine's own rules.
    ///
    /// Contacts no server. The error repeats nothing of the URL but the names of parameters.
    pub fn parse(engine: Engine, url: &SecretString) -> Result<Self, JobError> {
        Ok(match engine {
            Engine::Postgres | Engine::Vector => {
                Self::Postgres(Box::new(postgres::Address::parse(url)?))
            }
            Engine::Mongodb => Self::Mongodb(Box::new(mongodb::Address::parse(url)?)),
            Engine::Redis => Self::Redis(Box::new(redis::Address::parse(url)?)),
        })
    }

    /// Returns which part of the worker's own machine the address relies on, besides the network; `None` if it relies
    /// on nothing.
    ///
    /// Over a socket, with one of the worker's files, or by its identity in a cloud, the server lets the worker in for
    /// what it is, no matter who wrote the URL.
    #[must_use]
    pub fn leans_on_machine(&self) -> Option<&'static str> {
        match self {
            Self::Postgres(address) => address.leans_on_machine(),
            Self::Mongodb(address) => address.leans_on_machine(),
            Self::Redis(address) => address.leans_on_machine(),
        }
    }

    /// Returns how the connection to the server is protected.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self {
            Self::Postgres(address) => address.transport(),
            Self::Mongodb(address) => address.transport(),
            Self::Redis(address) => address.transport(),
        }
    }

    /// Returns where the server is, to tell servers apart: `host:port` in lower case, several separated by commas, a
    /// `mongodb+srv` name as it is.
    ///
    /// Never a user, a password or a database.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        match self {
            Self::Postgres(address) => Some(address.server()),
            Self::Mongodb(address) => address.server(),
            Self::Redis(address) => Some(address.server()),
        }
    }

    pub(crate) fn as_postgres(&self) -> Option<&postgres::Address> {
        match self {
            Self::Postgres(address) => Some(address),
            Self::Mongodb(_) | Self::Redis(_) => None,
        }
    }

    pub(crate) fn as_mongodb(&self) -> Option<&mongodb::Address> {
        match self {
            Self::Mongodb(address) => Some(address),
            Self::Postgres(_) | Self::Redis(_) => None,
        }
    }

    pub(crate) fn as_redis(&self) -> Option<&redis::Address> {
        match self {
            Self::Redis(address) => Some(address),
            Self::Postgres(_) | Self::Mongodb(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::postgres(
        Engine::Postgres,
        "postgresql://u:MARK@DB.Example.com/shop",
        "db.example.com:5432"
    )]
    #[case::port(Engine::Vector, "postgres://u:MARK@h:6000/shop", "h:6000")]
    #[case::ipv6(Engine::Postgres, "postgres://u:MARK@[::1]:6000/shop", "[::1]:6000")]
    #[case::socket(
        Engine::Postgres,
        "postgres://u:MARK@/shop?host=/run/pg",
        "/run/pg:5432"
    )]
    #[case::redis(Engine::Redis, "redis://u:MARK@Cache", "cache:6379")]
    #[case::redis_ipv6(Engine::Redis, "redis://u:MARK@[::1]:1", "[::1]:1")]
    #[case::set(
        Engine::Mongodb,
        "mongodb://u:MARK@B:2,a/shop?replicaSet=rs",
        "a:27017,b:2"
    )]
    #[case::srv(
        Engine::Mongodb,
        "mongodb+srv://u:MARK@Cluster.example.com/shop",
        "cluster.example.com"
    )]
    fn a_server_is_named_without_what_is_secret(
        #[case] engine: Engine,
        #[case] url: &str,
        #[case] expected: &str,
    ) -> anyhow::Result<()> {
        assert_eq!(
            Address::parse(engine, &url.to_owned().into())?
                .server()
                .as_deref(),
            Some(expected)
        );
        Ok(())
    }

    /// Guards against an untrusted connection that nobody notices: the URL alone tells whether it can be trusted.
    #[rstest]
    #[case::plain(
        Engine::Postgres,
        "postgres://u:p@db.example/d",
        Some("the other end decides")
    )]
    #[case::encrypted(
        Engine::Postgres,
        "postgres://u:p@db.example/d?sslmode=require",
        Some("any certificate")
    )]
    #[case::chain(
        Engine::Vector,
        "postgres://u:p@db.example/d?sslmode=verify-ca&sslrootcert=/ca",
        Some("name is not compared")
    )]
    #[case::full(
        Engine::Postgres,
        "postgres://u:p@db.example/d?sslmode=verify-full",
        None
    )]
    #[case::with_authority(Engine::Postgres, "postgres://u:p@db.example/d?sslrootcert=/ca", None)]
    #[case::socket(Engine::Postgres, "postgres://u@/d?host=/run/pg", None)]
    #[case::loopback(Engine::Postgres, "postgres://u:p@127.0.0.1/d", None)]
    #[case::one_is_elsewhere(
        Engine::Postgres,
        "postgres://u:p@localhost,db.example/d",
        Some("the other end decides")
    )]
    #[case::mongodb(
        Engine::Mongodb,
        "mongodb://u:p@db.example/d",
        Some("nothing is encrypted")
    )]
    #[case::mongodb_tls(Engine::Mongodb, "mongodb://u:p@db.example/d?tls=true", None)]
    #[case::mongodb_any(
        Engine::Mongodb,
        "mongodb://u:p@db.example/d?tls=true&tlsAllowInvalidCertificates=true",
        Some("any certificate")
    )]
    #[case::mongodb_srv(Engine::Mongodb, "mongodb+srv://u:p@db.example.com/d", None)]
    #[case::mongodb_srv_without(
        Engine::Mongodb,
        "mongodb+srv://u:p@db.example.com/d?tls=false",
        Some("nothing is encrypted")
    )]
    #[case::mongodb_here(Engine::Mongodb, "mongodb://u:p@[::1]:7/d", None)]
    #[case::redis(Engine::Redis, "redis://u:p@db.example", Some("nothing is encrypted"))]
    #[case::redis_tls(Engine::Redis, "rediss://u:p@db.example", None)]
    #[case::redis_here(Engine::Redis, "redis://localhost", None)]
    fn a_url_says_how_its_way_is_protected(
        #[case] engine: Engine,
        #[case] url: &str,
        #[case] doubt: Option<&str>,
    ) -> anyhow::Result<()> {
        let found = Address::parse(engine, &url.to_owned().into())?
            .transport()
            .doubt();
        match (found, doubt) {
            (Some(found), Some(doubt)) => assert!(found.contains(doubt), "{found}"),
            (found, doubt) => assert_eq!(found, doubt),
        }
        Ok(())
    }
}
