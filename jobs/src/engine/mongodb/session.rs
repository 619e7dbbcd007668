//! Our connection to a deployment: how it is made, what the deployment is, and what its errors mean.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::{
    Client,
    options::{ClientOptions, SelectionCriteria},
};

use super::{
    meaning::{meaning, meaning_of_options},
    watch::Watch,
    wire::{Heard, Wire},
};
use crate::{
    engine::address::mongodb::Address,
    error::{JobError, MongodbError, ServerFault},
    resource::{self, ResourceOptions},
};

/// How long finding a server and connecting to it may take, if the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The most that the URL can allow for that.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// The longest interval between two checks of a server, whatever the URL says.
const HEARTBEAT_MAX: Duration = Duration::from_secs(30);
/// The most connections to one server, whatever the URL says.
const POOL_MAX: u32 = 32;
/// How often a small command is timed.
const ROUND_TRIPS: usize = 3;
/// How long the answer to a small command may take, including finding a server and connecting.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);

/// A client of a deployment that has answered once.
///
/// Dropping it closes its connections. Cursors that are still open are killed by the server, or by the driver in the
/// background.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// The database in the URL's path; `None` means the whole deployment.
    pub(crate) database: Option<String>,
    pub(crate) server: Server,
    /// Which members are read.
    pub(crate) read: SelectionCriteria,
}

/// What a server reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its version, as it spells it.
    pub(crate) version: String,
    pub(crate) topology: Topology,
    /// The latest version of the wire protocol that it speaks.
    pub(crate) wire_version: i32,
    /// The largest document that it stores.
    pub(crate) document_bytes_max: usize,
    /// The largest message that it accepts.
    pub(crate) message_bytes_max: usize,
    /// The most writes in one command.
    pub(crate) batch_max: usize,
    /// How long a small command takes.
    pub(crate) round_trip: Duration,
}

/// The kind of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One server without an oplog, so without snapshot reads and transactions.
    Standalone,
    /// A replica set, or a server that says it is a member of one.
    ReplicaSet,
    /// The replica set of one shard of a sharded cluster.
    Shard,
    /// The config servers of a sharded cluster.
    ConfigServers,
    /// A router in front of shards.
    Router,
}

/// Connects, and reads from the members that the resource or else the URL asks for. A sharded cluster is refused, and so
/// is a shard unless the resource says that it is meant.
pub(crate) async fn connect(
    address: &Address,
    resource_options: ResourceOptions,
) -> Result<Session, JobError> {
    let doing = "connect";
    let resolved = answer_within(CONNECT_TIMEOUT_MAX, doing, async {
        Ok(ClientOptions::parse(address.to_connection_string()).await)
    });
    let mut options = resolved
        .await?
        .map_err(|error| meaning_of_options(doing, &error))?;
    options.app_name = Some("lastgood".to_owned());
    bound(&mut options);
    if let Some(preference) = resource_options.read_preference {
        options.selection_criteria = Some(criteria(preference));
    }
    let (watch, heard) = (Watch::default(), Heard::default());
    let connect_timeout = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    // The URL may name files, perhaps on a mount that hangs.
    let opened = Wire::open(&mut options, connect_timeout, heard.clone());
    let opened = tokio::time::timeout(CONNECT_TIMEOUT_MAX, opened).await;
    let wire = opened.map_err(|_| no_answer(doing, CONNECT_TIMEOUT_MAX))??;
    options.sdam_event_handler = Some(watch.handler(wire));
    let replica_set = options.repl_set_name.clone();
    let database = options.default_database.clone();
    let read = options
        .selection_criteria
        .clone()
        .unwrap_or_else(|| criteria(resource::ReadPreference::Primary));
    let client =
        Client::with_options(options).map_err(|error| meaning_of_options(doing, &error))?;
    let server = match Server::ask(&client, &read).await {
        Err(error @ JobError::Unreachable { .. }) => {
            let asked = replica_set.as_deref();
            let verdict = heard.verdict().or_else(|| watch.verdict(asked));
            return Err(verdict.map_or_else(|| named(error, &heard), JobError::from));
        }
        server => server?,
    };
    server.topology.admit(resource_options)?;
    Ok(Session {
        client,
        database,
        server,
        read,
    })
}

/// Limits how long a URL can make a slot wait, and how many connections it can make it open.
fn bound(options: &mut ClientOptions) {
    let bounded = |asked: Option<Duration>| {
        // 0 means no limit.
        let asked = asked.filter(|it| !it.is_zero());
        Some(asked.unwrap_or(CONNECT_TIMEOUT).min(CONNECT_TIMEOUT_MAX))
    };
    options.connect_timeout = bounded(options.connect_timeout);
    options.server_selection_timeout = bounded(options.server_selection_timeout);
    // With larger values, a URL could make a slot wait long for news of a failover, or open millions of connections.
    options.heartbeat_freq = options.heartbeat_freq.map(|it| it.min(HEARTBEAT_MAX));
    options.min_pool_size = None;
    options.max_pool_size = options.max_pool_size.map(|it| it.clamp(2, POOL_MAX));
    options.max_connecting = options.max_connecting.map(|it| it.clamp(1, POOL_MAX));
}

impl Session {
    /// Runs a small command and returns the whole answer.
    pub(crate) async fn ask(
        &self,
        doing: &'static str,
        database: &str,
        command: Document,
    ) -> Result<Document, JobError> {
        ask(&self.client, &self.read, doing, database, command).await
    }
}

impl Server {
    /// Asks a server that may be read. This also shows that the server lets us in.
    async fn ask(client: &Client, read: &SelectionCriteria) -> Result<Self, JobError> {
        let hello = ask(client, read, "connect", "admin", doc! {"hello": 1}).await?;
        let doing = "ask for the server's version";
        let (mut build, mut round_trip) = (Document::new(), Duration::MAX);
        // One of them may be late for a reason of its own.
        for _ in 0..ROUND_TRIPS {
            let asked = Instant::now();
            build = ask(client, read, doing, "admin", doc! {"buildInfo": 1}).await?;
            round_trip = round_trip.min(asked.elapsed());
        }
        let size = |name, least: usize| match number(&hello, name).map(usize::try_from) {
            Some(Ok(size)) => size.max(least),
            Some(Err(_)) | None => least,
        };
        Ok(Self {
            version: build.get_str("version").unwrap_or("unknown").to_owned(),
            topology: Topology::of(&hello),
            wire_version: hello.get_i32("maxWireVersion").unwrap_or_default(),
            document_bytes_max: size("maxBsonObjectSize", 16 * 1024 * 1024),
            message_bytes_max: size("maxMessageSizeBytes", 48_000_000),
            batch_max: size("maxWriteBatchSize", 1000),
            round_trip,
        })
    }
}

impl Topology {
    fn of(hello: &Document) -> Self {
        if hello.get_str("msg").is_ok_and(|it| it == "isdbgrid") {
            Self::Router
        } else if hello.contains_key("configsvr") {
            Self::ConfigServers
        // A server adds this for its cluster's routers, and only once it is a shard.
        } else if hello.contains_key("lastCommittedOpTime") {
            Self::Shard
        } else if hello.contains_key("setName") {
            Self::ReplicaSet
        } else {
            Self::Standalone
        }
    }

    /// Fails if lastgood does not work on this kind of deployment, or not without being told to.
    fn admit(self, options: ResourceOptions) -> Result<(), MongodbError> {
        match self {
            Self::Router => Err(MongodbError::ShardedCluster),
            Self::ConfigServers => Err(MongodbError::ConfigServers),
            Self::Shard if !options.shard => Err(MongodbError::Shard),
            Self::Shard | Self::ReplicaSet | Self::Standalone => Ok(()),
        }
    }
}

/// Waits for an answer, for as long as a small command may take, and translates an error.
pub(crate) async fn answer<T>(
    doing: &'static str,
    question: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<T, JobError> {
    answer_within(ANSWER_TIMEOUT, doing, question).await
}

/// Waits as [`answer`] does, with another timeout.
pub(crate) async fn answer_within<T>(
    timeout: Duration,
    doing: &'static str,
    question: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<T, JobError> {
    match tokio::time::timeout(timeout, question.into_future()).await {
        Ok(answer) => answer.map_err(|error| meaning(doing, &error)),
        Err(_) => Err(no_answer(doing, timeout)),
    }
}

fn no_answer(doing: &'static str, timeout: Duration) -> JobError {
    JobError::NoAnswer {
        doing,
        seconds: timeout.as_secs(),
    }
}

/// Adds to an error without a server's code which servers cannot be used, and why. An error with a server's code stays
/// unchanged.
fn named(error: JobError, heard: &Heard) -> JobError {
    match (error, heard.told()) {
        (JobError::Unreachable { doing, source }, Some(told)) if source.code().is_none() => {
            let source = ServerFault::new(format!("{told} ({source})"), None);
            JobError::Unreachable { doing, source }
        }
        (error, _) => error,
    }
}

/// Returns the error for an answer that no server should give.
pub(crate) fn odd_answer(doing: &'static str, what: &'static str) -> JobError {
    MongodbError::OddAnswer { doing, what }.into()
}

async fn ask(
    client: &Client,
    read: &SelectionCriteria,
    doing: &'static str,
    database: &str,
    command: Document,
) -> Result<Document, JobError> {
    let database = client.database(database);
    let asked = database
        .run_command(command)
        .selection_criteria(read.clone());
    answer(doing, asked).await
}

fn criteria(preference: resource::ReadPreference) -> SelectionCriteria {
    use mongodb::options::ReadPreference::{Primary, SecondaryPreferred};
    SelectionCriteria::ReadPreference(match preference {
        resource::ReadPreference::Primary => Primary,
        resource::ReadPreference::SecondaryPreferred => SecondaryPreferred { options: None },
    })
}

/// Returns a whole number of any BSON type.
pub(crate) fn number(document: &Document, name: &str) -> Option<i64> {
    let value = document.get(name)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "sizes and counts, far below 2^53"
    )]
    let from_double = || value.as_f64().map(|it| it as i64);
    value
        .as_i64()
        .or_else(|| value.as_i32().map(i64::from))
        .or_else(from_double)
}

#[cfg(test)]
mod tests {
    use bson::Timestamp;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::alone(doc! {"isWritablePrimary": true}, Topology::Standalone)]
    #[case::member(doc! {"setName": "rs0"}, Topology::ReplicaSet)]
    #[case::shard(doc! {"setName": "s0", "lastCommittedOpTime": Timestamp { time: 1, increment: 1 }}, Topology::Shard)]
    #[case::config_servers(doc! {"setName": "cfg", "configsvr": 2, "lastCommittedOpTime": Timestamp { time: 1, increment: 1 }}, Topology::ConfigServers)]
    #[case::router(doc! {"msg": "isdbgrid"}, Topology::Router)]
    fn a_server_says_how_it_is_made_up(#[case] hello: Document, #[case] topology: Topology) {
        assert_eq!(Topology::of(&hello), topology);
    }

    #[rstest]
    #[case::alone(Topology::Standalone, [true, true])]
    #[case::replica_set(Topology::ReplicaSet, [true, true])]
    #[case::shard(Topology::Shard, [false, true])]
    #[case::config_servers(Topology::ConfigServers, [false, false])]
    #[case::router(Topology::Router, [false, false])]
    fn a_sharded_cluster_is_refused_and_a_shard_unless_it_is_meant(
        #[case] topology: Topology,
        #[case] is_admitted: [bool; 2],
    ) {
        let admitted = [false, true].map(|shard| {
            let options = ResourceOptions {
                shard,
                ..ResourceOptions::default()
            };
            topology.admit(options).is_ok()
        });
        assert_eq!(admitted, is_admitted);
    }

    /// The driver waits for no other time in a URL.
    #[rstest]
    #[case::a_while(5_000, Duration::from_secs(5), Duration::from_secs(5))]
    #[case::an_hour(3_600_000, CONNECT_TIMEOUT_MAX, HEARTBEAT_MAX)]
    #[case::the_longest(u64::MAX, CONNECT_TIMEOUT_MAX, HEARTBEAT_MAX)]
    #[tokio::test]
    async fn no_url_makes_a_slot_wait_for_long(
        #[case] millis: u64,
        #[case] waits: Duration,
        #[case] beats: Duration,
    ) -> anyhow::Result<()> {
        let url = format!(
            "mongodb://h/d?connectTimeoutMS={millis}&serverSelectionTimeoutMS={millis}&heartbeatFrequencyMS={millis}"
        );
        let address = Address::parse(&url.into())?;
        let mut options = ClientOptions::parse(address.to_connection_string()).await?;
        bound(&mut options);
        assert_eq!(options.connect_timeout, Some(waits));
        assert_eq!(options.server_selection_timeout, Some(waits));
        assert_eq!(options.heartbeat_freq, Some(beats));
        Ok(())
    }
}
