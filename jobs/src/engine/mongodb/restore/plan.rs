//! Decides before the first write what of an archive is restored, in which form and under which names.

use std::collections::BTreeSet;

use bson::Document;
use uuid::Uuid;

use super::{
    mark::MARK,
    metadata,
    source::{Source, oplog_at},
};
use crate::{
    engine::mongodb::OURS,
    error::{JobError, RestoreFault},
    format::mongodump::{Kind, Namespace, Prelude},
};

/// The longest names that servers accept, in bytes: of a database, and of a database and a collection together.
const DATABASE_BYTES_MAX: usize = 63;
const NAMESPACE_BYTES_MAX: usize = 255;
/// The server's own databases.
const SERVERS_OWN: [&str; 2] = ["local", "config"];
/// The prefix that `mongodump` of one database puts before the names of users and roles.
const AUTHORISATION: &str = "$admin.";
/// The version of users and roles, as a server records it for itself.
const ACCOUNTS_VERSION: &str = "$admin.system.version";

/// What is to be restored.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the archive's order.
    pub(super) items: Vec<Item>,
    /// Users and roles.
    pub(super) access: Vec<Access>,
    /// The namespaces that are not restored, because they are the server's own.
    pub(super) left_out: Vec<String>,
    /// The namespaces that another restore had created for itself. Its mark would be taken for another run's.
    pub(super) ours: Vec<String>,
    /// What the oplog in the archive adds, if there is one to replay.
    pub(super) oplog: Option<Oplog>,
    /// The new name of the archive's only database.
    pub(super) renamed: Option<String>,
}

/// What an archive's oplog adds besides documents.
#[derive(Debug, Default, Clone)]
pub(super) struct Oplog {
    /// Collections that it creates or renames, by their new database and name.
    pub(super) names: BTreeSet<(String, String)>,
    /// Whether it creates something that can only be created in place.
    pub(super) makes_in_place: bool,
}

/// One collection, view or time series to restore.
#[derive(Debug, Clone)]
pub(in crate::engine::mongodb) struct Item {
    /// Its index in the archive's prelude; `None` for a collection that the oplog creates.
    pub(in crate::engine::mongodb) place: Option<usize>,
    /// Where it goes.
    pub(in crate::engine::mongodb) database: String,
    pub(in crate::engine::mongodb) collection: String,
    pub(in crate::engine::mongodb) shape: Shape,
    /// The options for `create`.
    pub(in crate::engine::mongodb) options: Document,
    /// The indexes to build after the documents.
    pub(in crate::engine::mongodb) indexes: Vec<Document>,
    /// How many of its documents the archive has.
    pub(super) documents: u64,
    /// Its identity in the oplog.
    pub(super) uuid: Option<Uuid>,
    /// Whether its server would have dropped it by itself.
    pub(super) is_temporary: bool,
}

/// The kind of an item, as far as its restore depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::mongodb) enum Shape {
    Collection,
    /// Keeps the order of insertion.
    Capped,
    View,
    /// Its documents are its buckets.
    TimeSeries,
    /// `system.js`, which can be neither created nor renamed.
    Functions,
}

/// Users or roles to restore.
#[derive(Debug)]
pub(super) struct Access {
    /// Their index in the archive's prelude.
    pub(super) place: usize,
    /// Their database, as in the archive and as it is called now; `None` for those of all databases.
    pub(super) databases: Option<(String, String)>,
    pub(super) of: AccessOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::mongodb) enum AccessOf {
    Users,
    Roles,
}

impl Plan {
    /// Plans the restore of a verified archive. `renamed` is the new name of its only database.
    pub(super) fn new(source: &Source, renamed: Option<&str>) -> Result<Self, JobError> {
        let mut plan = Self {
            items: Vec::new(),
            access: Vec::new(),
            left_out: Vec::new(),
            ours: Vec::new(),
            oplog: source.oplog.clone(),
            renamed: renamed.map(str::to_owned),
        };
        if let (Some(oplog), Some(name)) = (&mut plan.oplog, renamed) {
            let renamed = std::mem::take(&mut oplog.names).into_iter();
            oplog.names = renamed.map(|(_, it)| (name.to_owned(), it)).collect();
        }
        let namespaces = &source.prelude.namespaces;
        if let Some(name) = renamed {
            is_one_database(namespaces, name)?;
        }
        for (place, namespace) in namespaces.iter().enumerate() {
            let told = source.summary.namespaces.get(place);
            let documents = told.map(|it| it.documents).unwrap_or_default();
            plan.add(place, namespace, documents, renamed)?;
        }
        Ok(plan)
    }

    /// Plans the restore of an archive whose documents are still to come, into databases of the same names.
    pub(super) fn ahead(prelude: &Prelude) -> Result<Self, JobError> {
        let mut plan = Self {
            items: Vec::new(),
            access: Vec::new(),
            left_out: Vec::new(),
            ours: Vec::new(),
            oplog: oplog_at(prelude).map(|_| Oplog::default()),
            renamed: None,
        };
        for (place, namespace) in prelude.namespaces.iter().enumerate() {
            plan.add(place, namespace, 0, None)?;
        }
        Ok(plan)
    }

    /// Returns the databases that are written to, in alphabetical order.
    pub(super) fn databases(&self) -> BTreeSet<&str> {
        let items = self.items.iter().map(|it| it.database.as_str());
        let oplog = self.oplog.iter().flat_map(|it| &it.names);
        items.chain(oplog.map(|(it, _)| it.as_str())).collect()
    }

    /// Returns the names that collections of a database may have during and after the restore.
    pub(super) fn names(&self, database: &str) -> BTreeSet<&str> {
        let items = self.items.iter().filter(|it| it.database == database);
        let oplog = self.oplog.iter().flat_map(|it| &it.names);
        let oplog = oplog.filter(|(it, _)| it == database);
        items
            .map(|it| it.collection.as_str())
            .chain(oplog.map(|(_, it)| it.as_str()))
            .collect()
    }

    fn add(
        &mut self,
        place: usize,
        namespace: &Namespace,
        documents: u64,
        renamed: Option<&str>,
    ) -> Result<(), JobError> {
        if namespace.database.is_empty() {
            // The oplog, which has been inspected already.
            return Ok(());
        }
        let database = renamed.unwrap_or(&namespace.database);
        if let Some(of) = AccessOf::of(namespace) {
            let is_of_all = namespace.database == "admin";
            let databases = (!is_of_all).then(|| (namespace.database.clone(), database.to_owned()));
            self.access.push(Access {
                place,
                databases,
                of,
            });
            return Ok(());
        }
        if namespace.collection == ACCOUNTS_VERSION {
            // Comes with every backup of users and roles, and has none of the customer's data.
            return Ok(());
        }
        if is_servers_own(namespace) {
            self.left_out
                .push(format!("{}.{}", namespace.database, namespace.collection));
            return Ok(());
        }
        // If the oplog renames what another restore created, it becomes the customer's.
        let is_ours = namespace.collection.starts_with(OURS);
        if is_ours && (self.oplog.is_none() || namespace.collection == MARK) {
            self.ours
                .push(format!("{}.{}", namespace.database, namespace.collection));
            return Ok(());
        }
        check_lengths(database, &namespace.collection)?;
        self.items
            .push(Item::new(place, namespace, database, documents)?);
        Ok(())
    }
}

impl Item {
    fn new(
        place: usize,
        namespace: &Namespace,
        database: &str,
        documents: u64,
    ) -> Result<Self, JobError> {
        let metadata = match &namespace.exact {
            Some(exact) => metadata::of_exact(exact),
            None => metadata::parse(&namespace.metadata),
        };
        let metadata = metadata.map_err(|why| RestoreFault::BadMetadata {
            namespace: format!("{}.{}", namespace.database, namespace.collection),
            why,
        })?;
        Ok(Self {
            place: Some(place),
            database: database.to_owned(),
            collection: namespace.collection.clone(),
            shape: Shape::of(namespace, &metadata.options),
            options: metadata.options,
            indexes: metadata.indexes,
            documents,
            uuid: metadata.uuid,
            is_temporary: metadata.is_temporary,
        })
    }

    /// Returns `database.collection`.
    pub(in crate::engine::mongodb) fn namespace(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }
}

impl Shape {
    fn of(namespace: &Namespace, options: &Document) -> Self {
        // In archives from before 100.4, only the options tell that it is a view.
        if namespace.kind == Kind::View || options.contains_key("viewOn") {
            return Self::View;
        }
        match namespace.kind {
            Kind::Timeseries => Self::TimeSeries,
            _ if namespace.collection == "system.js" => Self::Functions,
            Kind::Collection | Kind::View => match options.get_bool("capped") {
                Ok(true) => Self::Capped,
                Ok(false) | Err(_) => Self::Collection,
            },
        }
    }
}

impl AccessOf {
    /// Returns which of both a namespace holds, if any.
    pub(in crate::engine::mongodb) fn of(namespace: &Namespace) -> Option<Self> {
        let name = namespace.collection.as_str();
        let name = match name.strip_prefix(AUTHORISATION) {
            Some(name) => name,
            None if namespace.database == "admin" => name,
            None => return None,
        };
        match name {
            "system.users" => Some(Self::Users),
            "system.roles" => Some(Self::Roles),
            _ => None,
        }
    }

    /// Returns `users` or `roles`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Roles => "roles",
        }
    }
}

/// Returns whether only the server itself writes to this namespace.
fn is_servers_own(namespace: &Namespace) -> bool {
    let name = namespace.collection.as_str();
    SERVERS_OWN.contains(&namespace.database.as_str())
        || name.starts_with(AUTHORISATION)
        || (name.starts_with("system.") && name != "system.js")
}

fn is_one_database(namespaces: &[Namespace], renamed: &str) -> Result<(), JobError> {
    let found: BTreeSet<_> = namespaces.iter().map(|it| it.database.as_str()).collect();
    let found: Vec<_> = found.into_iter().filter(|it| !it.is_empty()).collect();
    if found.len() <= 1 {
        return Ok(());
    }
    Err(RestoreFault::ManyDatabases {
        found: found.join(", "),
        target: renamed.to_owned(),
    }
    .into())
}

fn check_lengths(database: &str, collection: &str) -> Result<(), JobError> {
    let namespace = database.len() + 1 + collection.len();
    if database.len() <= DATABASE_BYTES_MAX && namespace <= NAMESPACE_BYTES_MAX {
        return Ok(());
    }
    Err(RestoreFault::NameTooLong {
        namespace: format!("{database}.{collection}"),
    }
    .into())
}
