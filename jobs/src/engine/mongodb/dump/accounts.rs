//! Puts users and roles into a dump as `mongodump` does, so that `mongorestore` can restore them.

use bson::{Document, doc};

use super::super::{
    meaning::{code_of, fault},
    session::{Session, answer},
};
use super::catalog::{Entry, Source, What};
use crate::{
    error::{DumpFault, JobError, MongodbError},
    format::mongodump::{Kind, Namespace},
};

/// The server's collections that hold them, and whether each of their documents belongs to a database.
const KEPT_IN: [(&str, bool); 3] = [
    ("system.roles", true),
    ("system.users", true),
    ("system.version", false),
];

/// Returns the entries for the users and roles of one database, or of all.
///
/// Returns none on a server that has never had any: such a server has no `authSchema` version, and `mongorestore`
/// refuses a whole archive that has users and roles without one.
pub(super) async fn list(
    session: &Session,
    database: Option<&str>,
) -> Result<Vec<Entry>, JobError> {
    let admin = session.client.database("admin");
    let version = admin.collection::<Document>("system.version");
    let asked = version.find_one(doc! {"_id": "authSchema"});
    let denied_or = async {
        match asked.await {
            Err(error) if code_of(&error) == Some(DENIED) => Ok(Err(fault(&error))),
            told => told.map(Ok),
        }
    };
    match answer("look for users and roles", denied_or).await? {
        Ok(Some(_)) => Ok(entries(database)),
        Ok(None) => Ok(Vec::new()),
        Err(refused) => Err(MongodbError::Dump(DumpFault::AccountsDenied(refused)).into()),
    }
}

/// `Unauthorized`: a privilege is missing.
const DENIED: i32 = 13;

/// Returns the entries for the users and roles of one database, or of all.
///
/// Those of one database are under `$admin.…` beside its collections, as after `mongodump --dumpDbUsersAndRoles`. Those
/// of a whole deployment are where the server has them.
fn entries(database: Option<&str>) -> Vec<Entry> {
    let one = |(kept_in, is_by_database): (&str, bool)| Entry {
        namespace: Namespace {
            database: database.unwrap_or("admin").to_owned(),
            collection: match database {
                Some(_) => format!("$admin.{kept_in}"),
                None => kept_in.to_owned(),
            },
            metadata: String::new(),
            exact: None,
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
