//! Merges users and roles into the existing ones, with the server's own command for it, where possible.

use bson::{Bson, doc};

use super::{
    batch::{Destination, Doubles, EmptyTimestamps, Order, Rules, Stored},
    plan::{Access, AccessOf, Plan},
    target::{self, empty_timestamps, has_code, run, run_long, version},
};
use crate::{attempt::RunId, engine::mongodb::session::Session, error::JobError};

/// The database in which the command runs, and which holds the collections that it merges from.
const ADMIN: &str = "admin";
const COMMAND: &str = "_mergeAuthzCollections";
const COMMAND_NOT_FOUND: &str = "59";

/// Returns whether our user may write to every database. Its privileges then do not tell whose a database is.
pub(super) async fn is_everywhere(session: &Session) -> Result<bool, JobError> {
    let doing = "ask for the user's rights";
    let command = doc! {"connectionStatus": 1, "showPrivileges": true};
    let told = session.ask(doing, ADMIN, command).await?;
    let rights = told
        .get_document("authInfo")
        .and_then(|info| info.get_array("authenticatedUserPrivileges"));
    let Ok(rights) = rights else {
        return Ok(true);
    };
    let is_of_all = |right: &Bson| {
        let right = right.as_document();
        let of = right.and_then(|right| right.get_document("resource").ok());
        let writes = right.and_then(|right| right.get_array("actions").ok());
        let writes = writes.is_none_or(|actions| {
            let insert = |action: &Bson| matches!(action.as_str(), Some("insert" | "anyAction"));
            actions.iter().any(insert)
        });
        writes
            && of.is_none_or(|of| {
                of.contains_key("anyResource") || of.get_str("db").is_ok_and(str::is_empty)
            })
    };
    // A server without users lets everybody do everything.
    Ok(rights.is_empty() || rights.iter().any(is_of_all))
}

/// Users and roles that can be restored, each with the name of the collection that they are first put into.
#[derive(Default)]
pub(super) struct Merge<'a> {
    parts: Vec<(&'a Access, String)>,
}

/// Finds out which users and roles can be restored. Also returns notes about those that cannot.
///
/// Users and roles never cost the archive's documents: if the server does not let us restore them, they are left out
/// and the notes say so.
pub(super) async fn prepare<'a>(
    session: &Session,
    plan: &'a Plan,
    run_id: RunId,
) -> Result<(Merge<'a>, Vec<String>), JobError> {
    let none = |why: &str| {
        let note = format!(
            "users and roles were not restored, because {why}: {}",
            by_hand(plan)
        );
        Ok((Merge::default(), vec![note]))
    };
    if plan.access.is_empty() {
        return Ok((Merge::default(), Vec::new()));
    }
    let is_renamed = |it: &Access| it.databases.as_ref().is_some_and(|(old, new)| old != new);
    if plan.access.iter().any(is_renamed) {
        return none("the database has another name");
    }
    // Without a source the command changes nothing, but its error tells whether we may run it.
    let idle = doc! {COMMAND: 1, "drop": false, "db": ADMIN};
    match run(session, "check the right to restore users", ADMIN, idle).await {
        Err(JobError::Denied { .. }) => {
            return none(
                "the role may not restore them: it needs the role \"restore\" on \"admin\"",
            );
        }
        Err(error) if has_code(&error, COMMAND_NOT_FOUND) => {
            return none("this server has no command for it");
        }
        Err(JobError::Statement { .. }) | Ok(_) => {}
        Err(error) => return Err(error),
    }
    let run = run_id.0.simple().to_string();
    let run = run.get(..8).unwrap_or_default();
    let named = |it: &'a Access| (it, format!("lastgood_restore.{run}.{}", it.name()));
    let parts = plan.access.iter().map(named).collect();
    Ok((Merge { parts }, Vec::new()))
}

/// Returns how to restore users and roles by hand. Without a database, `mongorestore` refuses the option.
fn by_hand(plan: &Plan) -> String {
    let mut databases = plan.access.iter().filter_map(|it| it.databases.as_ref());
    let options = match databases.next() {
        Some((database, _)) => format!(" --restoreDbUsersAndRoles --db={database}"),
        None => String::new(),
    };
    format!("to bring them back, decompress the archive and run mongorestore --archive{options}")
}

impl Access {
    /// Returns a name for them that is unique in the archive.
    fn name(&self) -> String {
        format!("{}.{}", self.of.name(), self.place)
    }
}

impl Merge<'_> {
    /// Returns where their documents first go.
    pub(super) fn destinations(&self, session: &Session) -> Vec<(usize, Destination)> {
        let one = |(access, name): &(&Access, String)| {
            let destination = Destination {
                database: ADMIN.to_owned(),
                collection: name.clone(),
                order: Order::Any,
                stored: Stored::AsDocuments,
                empty_timestamps: EmptyTimestamps::Kept,
                rules: Rules::None,
                doubles: Doubles::Refused,
            };
            (access.place, destination)
        };
        let mut all: Vec<_> = self.parts.iter().map(one).collect();
        for (_, destination) in &mut all {
            destination.empty_timestamps = empty_timestamps(version(session));
        }
        all
    }

    /// Drops what an earlier attempt left.
    pub(super) async fn clear(&self, session: &Session) -> Result<(), JobError> {
        for (_, name) in &self.parts {
            target::drop(session, ADMIN, name).await?;
        }
        Ok(())
    }

    /// Merges the documents that were put there. Users and roles that are not in the archive stay as they are.
    pub(super) async fn finish(self, session: &Session) -> Result<(), JobError> {
        for (access, name) in &self.parts {
            let from = match access.of {
                AccessOf::Users => "tempUsersCollection",
                AccessOf::Roles => "tempRolesCollection",
            };
            // An empty name means all databases.
            let database = access.databases.as_ref().map_or("", |(_, now)| now);
            let command = doc! {
                COMMAND: 1, from: format!("{ADMIN}.{name}"), "drop": false, "db": database,
                "writeConcern": {"w": "majority"},
            };
            run_long(session, "restore users and roles", ADMIN, command).await?;
        }
        self.clear(session).await
    }
}
