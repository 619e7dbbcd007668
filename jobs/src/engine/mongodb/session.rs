//! Our own way to a deployment: how it is reached, what it is, and what its answers mean.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::{
    Client,
    options::{ClientOptions, SelectionCriteria},
};
use secrecy::SecretString;

use super::{
    address,
    error::MongodbError,
    meaning::{meaning, meaning_of_options},
    watch::Watch,
    wire::{Heard, Wire},
};
use crate::{
    error::{JobError, ServerFault},
    resource,
};

/// How long it may take to find a server, and to connect to it, where the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The same where the URL says more.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// The longest pause between two looks at a server, whatever the URL says.
const HEARTBEAT_MAX: Duration = Duration::from_secs(30);
/// The most connections to one server, whatever the URL says.
const POOL_MAX: u32 = 32;
/// How long an answer to one of our small questions may take; finding a server and connecting included.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);

/// A way to a deployment that has answered once.
///
/// It ends when it is dropped: connections are closed, cursors that are still open are killed by the server or by the
/// driver in passing.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// The database in the URL's path; `None` speaks of the whole deployment.
    pub(crate) database: Option<String>,
    pub(crate) server: Server,
    /// Which member is read.
    pub(crate) read: SelectionCriteria,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its version, as it spells it.
    pub(crate) version: String,
    pub(crate) topology: Topology,
    /// The latest version of the wire protocol that it speaks.
    pub(crate) wire_version: i32,
    /// The largest document that it stores.
    pub(crate) document_bytes_max: usize,
    /// The largest message that it takes.
    pub(crate) message_bytes_max: usize,
    /// The most writes in one command.
    pub(crate) batch_max: usize,
}

/// How a deployment is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One server that keeps no oplog: no snapshot reads, no transactions.
    Standalone,
    /// A replica set, or a server that says it is a member of one.
    ReplicaSet,
    /// Routers before shards.
    Sharded,
}

/// Connects, with the members that the URL or the resource asks to read.
pub(crate) async fn connect(
    url: &SecretString,
    read_preference: Option<resource::ReadPreference>,
) -> Result<Session, JobError> {
    let doing = "connect";
    let address = address::parse(url)?;
    let resolved = answer_within(CONNECT_TIMEOUT_MAX, doing, async {
        Ok(ClientOptions::parse(address).await)
    });
    let mut options = resolved
        .await?
        .map_err(|error| meaning_of_options(doing, &error))?;
    let bounded = |asked: Option<Duration>| {
        // 0 stands for no end.
        let asked = asked.filter(|it| !it.is_zero());
        Some(asked.unwrap_or(CONNECT_TIMEOUT).min(CONNECT_TIMEOUT_MAX))
    };
    options.app_name = Some("lastgood".to_owned());
    options.connect_timeout = bounded(options.connect_timeout);
    options.server_selection_timeout = bounded(options.server_selection_timeout);
    // A URL that asks for more would have a slot wait for news of a failover, or open connections by the million.
    options.heartbeat_freq = options.heartbeat_freq.map(|it| it.min(HEARTBEAT_MAX));
    options.min_pool_size = None;
    options.max_pool_size = options.max_pool_size.map(|it| it.clamp(2, POOL_MAX));
    options.max_connecting = options.max_connecting.map(|it| it.clamp(1, POOL_MAX));
    if let Some(preference) = read_preference {
        options.selection_criteria = Some(criteria(preference));
    }
    let (watch, heard) = (Watch::default(), Heard::default());
    let connect_timeout = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    // The URL may name files, on a mount that hangs, say.
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
    Ok(Session {
        client,
        database,
        server,
        read,
    })
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
    /// Asks a server that may be read. Shows on the way that it lets us in.
    async fn ask(client: &Client, read: &SelectionCriteria) -> Result<Self, JobError> {
        let hello = ask(client, read, "connect", "admin", doc! {"hello": 1}).await?;
        let doing = "ask for the server's version";
        let build = ask(client, read, doing, "admin", doc! {"buildInfo": 1}).await?;
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
        })
    }
}

impl Topology {
    fn of(hello: &Document) -> Self {
        if hello.get_str("msg").is_ok_and(|it| it == "isdbgrid") {
            Self::Sharded
        } else if hello.contains_key("setName") {
            Self::ReplicaSet
        } else {
            Self::Standalone
        }
    }
}

/// Waits for an answer, for as long as a small one may take, and says what it means if it is no.
pub(crate) async fn answer<T>(
    doing: &'static str,
    question: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<T, JobError> {
    answer_within(ANSWER_TIMEOUT, doing, question).await
}

/// The same for questions that may take longer.
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

/// Has an error that no server can be used begin with which, and why. What a server said itself stays as it is.
fn named(error: JobError, heard: &Heard) -> JobError {
    match (error, heard.told()) {
        (JobError::Unreachable { doing, source }, Some(told)) if source.code().is_none() => {
            let source = ServerFault::new(format!("{told} ({source})"), None);
            JobError::Unreachable { doing, source }
        }
        (error, _) => error,
    }
}

/// Says that a server answered what no server should.
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

/// Reads a whole number of any type.
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
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::alone(doc! {"isWritablePrimary": true}, Topology::Standalone)]
    #[case::member(doc! {"setName": "rs0"}, Topology::ReplicaSet)]
    #[case::router(doc! {"msg": "isdbgrid"}, Topology::Sharded)]
    fn a_server_says_how_it_is_made_up(#[case] hello: Document, #[case] topology: Topology) {
        assert_eq!(Topology::of(&hello), topology);
    }
}
