//! Lists the namespaces to dump, with what the archive says of each besides its documents.

use bson::{Document, RawDocumentBuf, doc};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use mongodb::{Database, options::ReadPreference};

use super::super::{
    OURS,
    meaning::code_of,
    restore::MARK,
    session::{Session, answer, answer_within, odd_answer},
};
use super::{
    accounts,
    metadata::{self, Metadata},
};
use crate::{
    error::{DumpFault, JobError, MongodbError},
    format::mongodump::{Header, Kind, Namespace},
};

/// Which parts of a deployment to dump.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// One database; `None` for all but the server's own.
    pub(super) database: Option<&'a str>,
    /// Tells where the buckets of a time series belong.
    pub(super) header: &'a Header,
    pub(super) users_and_roles: bool,
    /// Also list what the server drops by itself and what a restore creates for itself: while the oplog is followed,
    /// either may be renamed to a collection of the customer's.
    pub(super) with_temporary: bool,
}

/// One namespace of a dump.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// What the archive's prelude says of it.
    pub(super) namespace: Namespace,
    /// Where its documents are; a view has none.
    pub(super) source: Option<Source>,
    /// Tells a collection from a later one of the same name; a view has none.
    pub(super) uuid: Option<String>,
    /// Capped collections cannot be read from a snapshot.
    pub(super) is_capped: bool,
}

/// What is read for one namespace.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    pub(super) database: String,
    pub(super) collection: String,
    /// Selects the documents; if empty, all of them.
    pub(super) filter: Document,
    pub(super) what: What,
}

/// How a namespace's documents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Documents,
    /// The buckets of a time series. Servers from 8.3 on keep them under the name of the time series itself and show
    /// them on demand.
    Buckets,
    /// Users or roles, which do not count as collections.
    Accounts,
}

/// How many collections are asked for their indexes at once.
const ASKED_AT_ONCE: usize = 4;
/// How long a listing may take; a few thousand collections take seconds.
const LISTING_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(5);
/// The error code for a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;
/// The prefix of the databases of the server's own machinery.
const INTERNAL: &str = "__mdb_internal";
/// The server's own databases.
const OWN: [&str; 2] = ["config", "local"];

impl Entry {
    /// Returns `database.collection`, for people.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.namespace.database, self.namespace.collection)
    }

    /// Returns whether this is the same collection, whatever its options and indexes.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.uuid == other.uuid
            && self.namespace.database == other.namespace.database
            && self.namespace.collection == other.namespace.collection
    }

    /// Returns whether it holds the customer's data.
    pub(super) fn is_data(&self) -> bool {
        let is_account = |source: &Source| source.what == What::Accounts;
        !self.source.as_ref().is_some_and(is_account)
    }
}

/// Lists the namespaces in the order of their names, with options and indexes as the server has them.
pub(super) async fn list(session: &Session, wanted: Wanted<'_>) -> Result<Vec<Entry>, JobError> {
    let databases = match wanted.database {
        Some(database) => vec![database.to_owned()],
        None => databases(session).await?,
    };
    let mut entries = Vec::new();
    for database in databases {
        entries.append(&mut collections(session, wanted, &database).await?);
    }
    if wanted.users_and_roles {
        entries.append(&mut accounts::list(session, wanted.database).await?);
    }
    let name = |entry: &Entry| {
        (
            entry.namespace.database.clone(),
            entry.namespace.collection.clone(),
        )
    };
    entries.sort_by_cached_key(name);
    Ok(entries)
}

async fn databases(session: &Session) -> Result<Vec<String>, JobError> {
    let doing = "list the databases";
    // Without `authorizedDatabases: false`, a role that sees only some databases would get just those, and no error.
    let command = doc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": false};
    let admin = session.client.database("admin");
    let asked = admin
        .run_command(command)
        .selection_criteria(ReadPreference::Primary.into());
    let told = answer(doing, asked).await?;
    let odd = || odd_answer(doing, "no names");
    let listed = told.get_array("databases").map_err(|_| odd())?;
    let mut names = Vec::new();
    for database in listed {
        let name = database
            .as_document()
            .and_then(|it| it.get_str("name").ok());
        let name = name.ok_or_else(odd)?;
        if !OWN.contains(&name) && !name.starts_with(INTERNAL) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

async fn collections(
    session: &Session,
    wanted: Wanted<'_>,
    database: &str,
) -> Result<Vec<Entry>, JobError> {
    let on = session.client.database(database);
    let doing = "list the collections";
    let told = all(&on, doc! {"listCollections": 1});
    let told = answer_within(LISTING_TIMEOUT, doing, told).await?;
    let names: Vec<&str> = told
        .iter()
        .filter_map(|it| it.get_str("name").ok())
        .collect();
    let header = wanted.header;
    let asked: Vec<BoxFuture<'_, _>> = told
        .iter()
        .filter(|it| is_wanted(it) || (wanted.with_temporary && is_passing(it)))
        .map(|told| entry(header, &on, told, &names).boxed())
        .collect();
    let listed = stream::iter(asked).buffered(ASKED_AT_ONCE);
    let listed: Vec<Option<Entry>> = listed.try_collect().await?;
    Ok(listed.into_iter().flatten().collect())
}

/// Returns the databases that a restore is filling, or left half filled.
pub(super) async fn half_restored(
    session: &Session,
    database: Option<&str>,
) -> Result<Vec<String>, JobError> {
    let databases = match database {
        Some(database) => vec![database.to_owned()],
        None => databases(session).await?,
    };
    let mut marked = Vec::new();
    for database in databases {
        let on = session.client.database(&database);
        let look = doc! {"listCollections": 1, "filter": {"name": MARK}};
        let told = all(&on, look);
        let told = answer_within(LISTING_TIMEOUT, "look for the mark of a restore", told).await?;
        if told
            .iter()
            .any(|it| it.get_str("name").is_ok_and(|name| name == MARK))
        {
            marked.push(database);
        }
    }
    Ok(marked)
}

/// Returns whether a collection is the customer's.
///
/// Excluded are the server's own collections except stored functions, temporary ones that the server drops by itself,
/// and those that a restore created for itself.
fn is_wanted(told: &Document) -> bool {
    let name = told.get_str("name").unwrap_or_default();
    let is_own = name.starts_with("system.") && name != "system.js";
    let options = told.get_document("options");
    let is_temporary = options.is_ok_and(|it| it.get_bool("temp").unwrap_or(false));
    !is_own && !is_temporary && !name.starts_with(OURS)
}

/// Returns whether a rename could turn this collection into one of the customer's.
fn is_passing(told: &Document) -> bool {
    let name = told.get_str("name").unwrap_or_default();
    !name.starts_with("system.") && name != MARK
}

/// Returns the name that a collection has now; `None` if it is gone.
pub(super) async fn name_now(session: &Session, entry: &Entry) -> Result<Option<String>, JobError> {
    let Some(source) = &entry.source else {
        return Ok(None);
    };
    let uuid = entry
        .uuid
        .as_deref()
        .and_then(|it| it.parse::<uuid::Uuid>().ok());
    let filter = if let Some(uuid) = uuid {
        doc! {"info.uuid": bson::Uuid::from_bytes(uuid.into_bytes())}
    } else {
        doc! {"name": &source.collection}
    };
    let on = session.client.database(&source.database);
    let told = all(&on, doc! {"listCollections": 1, "filter": filter});
    let told = answer_within(LISTING_TIMEOUT, "look for a collection", told).await?;
    let mut names = told.iter().filter_map(|it| it.get_str("name").ok());
    Ok(names.next().map(str::to_owned))
}

/// Builds the entry of one collection; `None` if it was dropped after it was listed.
async fn entry(
    header: &Header,
    on: &Database,
    told: &Document,
    names: &[&str],
) -> Result<Option<Entry>, JobError> {
    let collection = told
        .get_str("name")
        .map_err(|_| odd_answer("list the collections", "no name"))?;
    let name = format!("{}.{collection}", on.name());
    let kind = match told.get_str("type").unwrap_or("collection") {
        "collection" => Kind::Collection,
        "view" => Kind::View,
        "timeseries" => Kind::Timeseries,
        other => {
            return Err(MongodbError::Dump(DumpFault::UnknownKind {
                namespace: name,
                kind: other.to_owned(),
            })
            .into());
        }
    };
    let indexes = match kind {
        Kind::View => Some(Vec::new()),
        Kind::Collection | Kind::Timeseries => indexes(on, collection).await?,
    };
    let Some(indexes) = indexes else {
        return Ok(None);
    };
    let options = told.get_document("options").cloned().unwrap_or_default();
    let is_capped = options.get_bool("capped").unwrap_or(false);
    let Metadata { text, exact } = metadata::of_collection(told, options, indexes)
        .map_err(|_| odd_answer("list the collections", "options that are not BSON"))?;
    // Parsed as a restore will parse it: it is better to fail the backup today than to store one that cannot be
    // restored.
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&text) {
        return Err(MongodbError::Dump(DumpFault::Unreadable {
            namespace: name,
            why: error.to_string(),
        })
        .into());
    }
    let namespace = Namespace {
        database: on.name().to_owned(),
        collection: collection.to_owned(),
        metadata: text,
        exact,
        size: 0,
        kind,
    };
    let kept_in = namespace.data_collection(header).into_owned();
    let what = match kind {
        Kind::View => None,
        Kind::Collection => Some(What::Documents),
        Kind::Timeseries if kept_in == collection => Some(What::Buckets),
        Kind::Timeseries if names.contains(&kept_in.as_str()) => Some(What::Documents),
        Kind::Timeseries => {
            return Err(MongodbError::Dump(DumpFault::NoBuckets { namespace: name }).into());
        }
    };
    let source = what.map(|what| Source {
        database: on.name().to_owned(),
        collection: kept_in,
        filter: Document::new(),
        what,
    });
    Ok(Some(Entry {
        uuid: metadata::uuid(told),
        namespace,
        source,
        is_capped,
    }))
}

/// Returns a collection's indexes; `None` if the collection no longer exists.
async fn indexes(on: &Database, collection: &str) -> Result<Option<Vec<Document>>, JobError> {
    let told = all(on, doc! {"listIndexes": collection});
    let there = async {
        match told.await {
            Err(error) if code_of(&error) == Some(NAMESPACE_NOT_FOUND) => Ok(None),
            told => told.map(Some),
        }
    };
    answer("list the indexes", there).await
}

/// Returns everything that a listing has.
///
/// Asks the primary: a secondary may not know a collection yet, or still list one that is gone. Reads raw documents:
/// deserializing straight into a [`Document`] would take what looks like extended JSON for it.
async fn all(on: &Database, command: Document) -> mongodb::error::Result<Vec<Document>> {
    let cursor = on
        .run_cursor_command(command)
        .selection_criteria(ReadPreference::Primary.into())
        .await?;
    let told: Vec<RawDocumentBuf> = cursor.with_type().try_collect().await?;
    let told = told.iter().map(|it| Document::try_from(it.as_ref()));
    Ok(told.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(doc! {"name": "a"}, true)]
    #[case::odd_name(doc! {"name": "systemic $x"}, true)]
    #[case::functions(doc! {"name": "system.js"}, true)]
    #[case::views(doc! {"name": "system.views"}, false)]
    #[case::buckets(doc! {"name": "system.buckets.t"}, false)]
    #[case::profile(doc! {"name": "system.profile", "options": {"capped": true}}, false)]
    #[case::mark(doc! {"name": "lastgood_restore.mark"}, false)]
    #[case::beside(doc! {"name": "lastgood_restore.0a1b2c3d.0"}, false)]
    #[case::temporary(doc! {"name": "tmp.agg_out.1", "options": {"temp": true}}, false)]
    fn the_servers_own_collections_are_left_out(#[case] told: Document, #[case] wanted: bool) {
        assert_eq!(is_wanted(&told), wanted);
    }
}
