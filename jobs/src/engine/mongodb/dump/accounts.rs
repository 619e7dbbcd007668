//! How users and roles get into a dump: as `mongodump` writes them, so that `mongorestore` can bring them back.

use bson::{Document, doc};

use super::{
    super::archive_format::{Kind, Namespace},
    catalog::{Entry, Source, What},
};

/// The server's collections that hold them, and whether each of their documents belongs to a database.
const KEPT_IN: [(&str, bool); 3] = [
    ("system.roles", true),
    ("system.users", true),
    ("system.version", false),
];

/// Returns the entries for the users and roles of one database, or of all.
///
/// Those of one database stand under `$admin.…` beside its collections, as after `mongodump --dumpDbUsersAndRoles`; those
/// of a whole deployment stand where the server has them.
pub(super) fn entries(database: Option<&str>) -> Vec<Entry> {
    let one = |(kept_in, is_by_database): (&str, bool)| Entry {
        namespace: Namespace {
            database: database.unwrap_or("admin").to_owned(),
            collection: match database {
                Some(_) => format!("$admin.{kept_in}"),
                None => kept_in.to_owned(),
            },
            metadata: String::new(),
            size: 0,
            kind: Kind::Collection,
        },
        source: Some(Source {
            database: "admin".to_owned(),
            collection: kept_in.to_owned(),
            filter: match database {
                Some(database) if is_by_database => doc! {"db": database},
                Some(_) | None => Document::new(),
            },
            what: What::Accounts,
        }),
        uuid: None,
        is_capped: false,
    };
    KEPT_IN.map(one).into()
}
