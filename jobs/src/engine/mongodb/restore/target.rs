//! The server that a restore writes to: what it supports, what it already holds, and the commands to it.

use std::{pin::pin, time::Duration};

use bson::{Document, doc};
use futures::TryStreamExt as _;

use super::{
    batch::{Destination, Doubles, EmptyTimestamps, Order, Rules, Stored},
    plan::{Item, Shape},
};
use crate::{
    attempt::Attempt,
    engine::{
        address::mongodb::NEVER_IN_NAMES,
        mongodb::{
            OURS,
            meaning::meaning,
            session::{self, Session, answer},
        },
    },
    error::{JobError, RestoreFault, ServerFault},
};

/// The first version that keeps the buckets of a time series under the name of the time series.
const VIEWLESS_TIME_SERIES: (u32, u32, u32) = (8, 3, 0);
/// How often a server that is busy with a long command is pinged.
const ATTENTION: Duration = Duration::from_secs(30);

/// The server's own databases: a restore into one would be lost, or disturb the server.
const SERVERS_OWN: [&str; 3] = ["admin", "config", "local"];

/// One existing collection or view.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) name: String,
    /// `collection`, `view` or `timeseries`.
    pub(super) kind: String,
    pub(super) options: Document,
}

/// Refuses a name that no customer's database can have.
pub(super) fn check_name(database: &str) -> Result<(), RestoreFault> {
    let is_odd = database.is_empty() || database.contains(NEVER_IN_NAMES);
    if is_odd || SERVERS_OWN.contains(&database) {
        let database = database.to_owned();
        return Err(RestoreFault::NoTarget { database });
    }
    Ok(())
}

/// Returns what a database holds of its users', including `system.js`.
pub(super) async fn contents(session: &Session, database: &str) -> Result<Vec<Found>, JobError> {
    let doing = "list the target's collections";
    let handle = session.client.database(database);
    let command = doc! {"listCollections": 1, "authorizedCollections": false};
    let mut cursor = answer(doing, handle.run_cursor_command(command)).await?;
    let mut found = Vec::new();
    while let Some(mut told) = answer(doing, cursor.try_next()).await? {
        let name = told.get_str("name").unwrap_or_default().to_owned();
        if name.starts_with("system.") && name != "system.js" {
            continue;
        }
        let kind = told.get_str("type").unwrap_or("collection").to_owned();
        let options = match told.remove("options") {
            Some(bson::Bson::Document(options)) => options,
            Some(_) | None => Document::new(),
        };
        found.push(Found {
            name,
            kind,
            options,
        });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Returns the prefix of the collections that a run creates for itself.
pub(super) fn prefix(attempt: Attempt) -> String {
    let run = attempt.run.0.simple().to_string();
    format!("{OURS}{}.", run.get(..8).unwrap_or_default())
}

/// Renames a collection, and replaces one that already has the new name.
pub(super) async fn rename(
    session: &Session,
    database: &str,
    from: &str,
    to: &str,
) -> Result<(), JobError> {
    let command = doc! {
        "renameCollection": format!("{database}.{from}"),
        "to": format!("{database}.{to}"),
        "dropTarget": true,
        "writeConcern": {"w": "majority"},
    };
    run(session, "rename a collection", "admin", command)
        .await
        .map(|_| ())
}

/// Runs a command that is done quickly.
pub(super) async fn run(
    session: &Session,
    doing: &'static str,
    database: &str,
    command: Document,
) -> Result<Document, JobError> {
    let told = session.ask(doing, database, command).await?;
    let complaint = told.get_array("writeErrors").ok();
    let complaint = complaint.and_then(|errors| errors.first()?.as_document());
    match complaint.or_else(|| told.get_document("writeConcernError").ok()) {
        Some(complaint) => Err(JobError::Statement {
            doing,
            source: fault(complaint),
        }),
        None => Ok(told),
    }
}

/// Returns the fault that a server reports in the answer to a command that succeeded.
pub(super) fn fault(complaint: &Document) -> ServerFault {
    let said = complaint.get_str("errmsg").unwrap_or("no reason given");
    let code = session::number(complaint, "code").map(|code| code.to_string());
    let said = match &code {
        Some(code) => format!("{said} (MongoDB error {code})"),
        None => said.to_owned(),
    };
    ServerFault::new(said, code)
}

/// Runs a command that may take hours, for as long as its server answers pings.
pub(super) async fn run_long(
    session: &Session,
    doing: &'static str,
    database: &str,
    command: Document,
) -> Result<Document, JobError> {
    let handle = session.client.database(database);
    let mut work = pin!(handle.run_command(command).into_future());
    loop {
        match tokio::time::timeout(ATTENTION, &mut work).await {
            Ok(done) => return done.map_err(|error| meaning(doing, &error)),
            Err(_) => session.ask(doing, "admin", doc! {"ping": 1}).await?,
        };
    }
}

/// Creates an item under a name, empty and without indexes.
pub(super) async fn create(session: &Session, item: &Item, name: &str) -> Result<(), JobError> {
    if item.shape == Shape::Functions {
        return Ok(());
    }
    let mut command = doc! {"create": name};
    command.extend(item.options.clone());
    command.insert("writeConcern", doc! {"w": "majority"});
    let created = run(session, "create a collection", &item.database, command).await;
    match created {
        Ok(_) => Ok(()),
        Err(JobError::Statement { source, .. }) => Err(RestoreFault::CreationRefused {
            namespace: item.namespace(),
            source,
        }
        .into()),
        Err(error) => Err(error),
    }
}

/// Drops a collection or view. Succeeds if it does not exist.
pub(super) async fn drop(session: &Session, database: &str, name: &str) -> Result<(), JobError> {
    let command = if name == "system.js" {
        // It can be emptied, but on some servers not dropped.
        let all = doc! {"q": {}, "limit": 0};
        doc! {"delete": name, "deletes": [all], "writeConcern": {"w": "majority"}}
    } else {
        doc! {"drop": name, "writeConcern": {"w": "majority"}}
    };
    match run(session, "drop a collection", database, command).await {
        Err(error) if has_code(&error, NAMESPACE_NOT_FOUND) => Ok(()),
        dropped => dropped.map(|_| ()),
    }
}

const NAMESPACE_NOT_FOUND: &str = "26";

/// Returns whether the server refused with this code.
pub(super) fn has_code(error: &JobError, code: &str) -> bool {
    refusal(error).is_some_and(|source| source.code() == Some(code))
}

/// Returns the server's fault, if it refused the command itself.
pub(super) fn refusal(error: &JobError) -> Option<&ServerFault> {
    if let JobError::Statement { source, .. } | JobError::Denied { source, .. } = error {
        return Some(source).filter(|source| source.code().is_some());
    }
    None
}

/// Returns where the documents of an item go that is restored under this name; `None` for a view.
pub(super) fn destination(session: &Session, item: &Item, name: &str) -> Option<Destination> {
    let version = version(session);
    let (collection, stored) = match item.shape {
        Shape::View => return None,
        Shape::Collection | Shape::Capped | Shape::Functions => {
            (name.to_owned(), Stored::AsDocuments)
        }
        Shape::TimeSeries if version < VIEWLESS_TIME_SERIES => {
            (format!("system.buckets.{name}"), Stored::AsDocuments)
        }
        Shape::TimeSeries => (name.to_owned(), Stored::AsRawData),
    };
    Some(Destination {
        database: item.database.clone(),
        collection,
        order: match item.shape {
            Shape::Capped => Order::Kept,
            Shape::Collection | Shape::View | Shape::TimeSeries | Shape::Functions => Order::Any,
        },
        stored,
        empty_timestamps: empty_timestamps(version),
        rules: if item.options.contains_key("validator") {
            Rules::PassedBy
        } else {
            Rules::None
        },
        doubles: Doubles::Refused,
    })
}

/// Returns whether a server of this version can be told to keep timestamps of 0: from 8.0 on, and in late releases of
/// the three major versions before.
pub(super) fn empty_timestamps(version: (u32, u32, u32)) -> EmptyTimestamps {
    match version {
        (8.., _, _) | (7, 0, 13..) | (6, 0, 17..) | (5, 0, 29..) => EmptyTimestamps::Kept,
        _ => EmptyTimestamps::Replaced,
    }
}

/// Returns the server's version, e.g. 8, 0, 4. Anything that is not a number counts as 0, the oldest.
pub(super) fn version(session: &Session) -> (u32, u32, u32) {
    let mut numbers = session.server.version.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse().ok()).unwrap_or(0);
    (next(), next(), next())
}
