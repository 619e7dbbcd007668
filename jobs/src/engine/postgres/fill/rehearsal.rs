//! Rehearses what needs a privilege that this role may lack: extensions, their schemas, and what the dump says about
//! objects that extensions own.
//!
//! The dump's own statements are run as the tool runs them, and rolled back.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::Target;
use crate::{
    engine::postgres::{
        names::{identifier, unquoted},
        session::{self, answer},
    },
    error::{JobError, PostgresError, ServerFault},
    format::pg_dump::Entry,
    job::Restore,
};

/// The session settings of the tool. The dump's statements qualify every name and rely on these settings.
const AS_THE_TOOL: &str = "begin; select pg_catalog.set_config('search_path', '', true); \
    set local check_function_bodies = false; set local client_min_messages = error";
/// How many examples a note gives.
const EXAMPLES: usize = 3;

/// What is left out of a restore.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) ids: BTreeSet<u32>,
    pub(super) notes: Vec<String>,
    /// Whether the tool will skip data, and so perhaps not read to the end.
    pub(super) has_data: bool,
}

/// Tries everything in one transaction, and rolls it back.
///
/// Only a real attempt tells: managed services let ordinary roles create some extensions that need a superuser
/// elsewhere.
pub(super) async fn rehearse(
    session: &mut PgConnection,
    entries: &[Entry],
    target: Target,
    job: &Restore,
) -> Result<LeftOut, JobError> {
    let present = Present::look(session).await?;
    answer(
        "begin a rehearsal",
        session.execute(sqlx::raw_sql(AS_THE_TOOL)),
    )
    .await?;
    let tried = try_all(session, entries, &present, target, job).await;
    answer("roll back a rehearsal", session.execute("rollback")).await?;
    // The tool's search path must not apply to later statements.
    answer(
        "end a rehearsal",
        session.execute("set search_path = pg_catalog"),
    )
    .await?;
    tried
}

/// What the target already has.
struct Present {
    extensions: BTreeSet<String>,
    /// The schemas of these extensions, except `public`; whether each is owned by this role.
    schemas: BTreeMap<String, bool>,
}

impl Present {
    async fn look(session: &mut PgConnection) -> Result<Self, JobError> {
        let question = "select n.nspname::text, pg_has_role(current_user, n.nspowner, 'usage') \
            from pg_extension e join pg_namespace n on n.oid = e.extnamespace \
            where n.nspname not in ('public', 'pg_catalog')";
        let schemas = sqlx::query_as::<_, (String, bool)>(question).fetch_all(&mut *session);
        let schemas = answer("list the schemas of extensions", schemas).await?;
        Ok(Self {
            extensions: session::extensions(session).await?.into_keys().collect(),
            schemas: schemas.into_iter().collect(),
        })
    }
}

async fn try_all(
    session: &mut PgConnection,
    entries: &[Entry],
    present: &Present,
    target: Target,
    job: &Restore,
) -> Result<LeftOut, JobError> {
    let ids: BTreeSet<u32> = entries.iter().map(|entry| entry.id).collect();
    let mut left_out = LeftOut::default();
    let (mut grants, mut tables) = (Vec::new(), Vec::new());
    for entry in entries {
        match about(entry, &ids) {
            About::Extension(name) if present.extensions.contains(&name) => {
                left_out.ids.insert(entry.id);
            }
            About::Extension(name) => create(session, entry, name).await?,
            About::CommentOnExtension(name) => {
                if present.extensions.contains(&name) {
                    left_out.ids.insert(entry.id);
                }
            }
            About::Schema if present.schemas.contains_key(&unquoted(&entry.tag)) => {
                left_out.ids.insert(entry.id);
            }
            // The tool will report anything else that is wrong with it.
            About::Schema if takes_an_extension(&entry.tag, entries) => {
                drop(attempt(session, &entry.definition).await?);
            }
            About::CommentOnSchema(name) => {
                // Only its owner may comment on it.
                if present.schemas.get(&name) == Some(&false) {
                    left_out.ids.insert(entry.id);
                }
            }
            About::GrantOnOthers if job.no_acl => {}
            About::GrantOnOthers => {
                if is_denied(attempt(session, &entry.definition).await?.as_ref()) {
                    left_out.ids.insert(entry.id);
                    grants.push(entry.tag.clone());
                }
            }
            About::GrantOnSchema(name) => {
                let is_others = present.schemas.get(&name) == Some(&false);
                if is_others && is_denied(attempt(session, &entry.definition).await?.as_ref()) {
                    left_out.ids.insert(entry.id);
                    grants.push(entry.tag.clone());
                }
            }
            About::DataOfOthers => {
                // In place, the rows are already there: only tables that are dropped first can be filled again.
                if target == Target::InUse || !may_fill(session, entry).await? {
                    left_out.ids.insert(entry.id);
                    left_out.has_data = true;
                    tables.push(entry.tag.clone());
                }
            }
            About::Schema | About::Else => {}
        }
    }
    left_out.notes.extend(note(
        &grants,
        "grants on objects that this role does not own were left out: let the owner grant them again",
    ));
    left_out.notes.extend(note(
        &tables,
        "rows of tables that belong to extensions were left out: load them as their owner, from `pg_restore --data-only --table`",
    ));
    Ok(left_out)
}

/// What an entry is about, as far as it needs a rehearsal.
enum About {
    Extension(String),
    CommentOnExtension(String),
    Schema,
    CommentOnSchema(String),
    GrantOnSchema(String),
    /// On an object that the dump does not create: an extension's, or the server's own.
    GrantOnOthers,
    /// Rows of an extension's table.
    DataOfOthers,
    Else,
}

fn about(entry: &Entry, ids: &BTreeSet<u32>) -> About {
    let of = |prefix: &str| entry.tag.strip_prefix(prefix).map(unquoted);
    let dependencies = &entry.dependencies;
    let is_of_others = !dependencies.is_empty() && !dependencies.iter().any(|id| ids.contains(id));
    match entry.kind.as_str() {
        "EXTENSION" => About::Extension(unquoted(&entry.tag)),
        "SCHEMA" => About::Schema,
        "COMMENT" => match (of("EXTENSION "), of("SCHEMA ")) {
            (Some(extension), _) => About::CommentOnExtension(extension),
            (_, Some(schema)) => About::CommentOnSchema(schema),
            (None, None) => About::Else,
        },
        "ACL" => match (of("SCHEMA "), of("DATABASE ")) {
            (Some(schema), _) => About::GrantOnSchema(schema),
            (None, None) if is_of_others => About::GrantOnOthers,
            (None, Some(_) | None) => About::Else,
        },
        "TABLE DATA" if is_of_others => About::DataOfOthers,
        _ => About::Else,
    }
}

/// Returns whether the dump creates an extension in this schema.
fn takes_an_extension(schema: &str, entries: &[Entry]) -> bool {
    let plain = format!("WITH SCHEMA {schema};");
    let quoted = format!("WITH SCHEMA {};", identifier(schema));
    let mut extensions = entries.iter().filter(|entry| entry.kind == "EXTENSION");
    extensions.any(|entry| entry.definition.contains(&plain) || entry.definition.contains(&quoted))
}

/// Creates a missing extension, or returns why that is not possible.
async fn create(session: &mut PgConnection, entry: &Entry, name: String) -> Result<(), JobError> {
    let Some(fault) = attempt(session, &entry.definition).await? else {
        return Ok(());
    };
    match fault.code() {
        Some("42501") => Err(JobError::Postgres(PostgresError::ExtensionNeedsSuperuser {
            extension: name,
        })),
        // Feature not supported, or no such file: depends on the server's version.
        Some("0A000" | "58P01") => Err(JobError::Postgres(PostgresError::NoExtension {
            extension: name,
        })),
        _ => {
            tracing::debug!(extension = %name, %fault, "cannot tell beforehand whether the extension can be created");
            Ok(())
        }
    }
}

/// Returns whether this role may fill a table. A missing table counts as yes, as that is not for lack of a privilege.
async fn may_fill(session: &mut PgConnection, entry: &Entry) -> Result<bool, JobError> {
    let table = format!(
        "{}.{}",
        identifier(&entry.namespace),
        identifier(&entry.tag)
    );
    let question = "select coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'insert'), true)";
    let may = sqlx::query_scalar::<_, bool>(question).bind(table);
    answer("ask for a table's privileges", may.fetch_one(session)).await
}

/// Runs a statement of the dump within the rehearsal. Returns why the server refused it.
async fn attempt(
    session: &mut PgConnection,
    statement: &str,
) -> Result<Option<ServerFault>, JobError> {
    let doing = "rehearse a statement of the dump";
    answer(doing, session.execute("savepoint rehearsal")).await?;
    let run = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    let fault = match session.execute(run).await {
        Ok(_) => return Ok(None),
        Err(error) if error.as_database_error().is_some() => ServerFault::from(&error),
        Err(error) => return Err(session::meaning(doing, &error)),
    };
    answer(doing, session.execute("rollback to savepoint rehearsal")).await?;
    Ok(Some(fault))
}

fn is_denied(fault: Option<&ServerFault>) -> bool {
    fault.and_then(ServerFault::code) == Some("42501")
}

fn note(of: &[String], what: &str) -> Option<String> {
    let examples = of.iter().take(EXAMPLES).cloned().collect::<Vec<_>>();
    let more = of.len() - examples.len();
    let examples = examples.join(", ");
    match (of.len(), more) {
        (0, _) => None,
        (_, 0) => Some(format!("{what} ({examples})")),
        (_, more) => Some(format!("{what} ({examples} and {more} more)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, tag: &str, dependencies: &[u32]) -> Entry {
        Entry {
            kind: kind.to_owned(),
            tag: tag.to_owned(),
            dependencies: dependencies.to_vec(),
            ..Entry::default()
        }
    }

    #[test]
    fn what_an_entry_is_about_is_told_by_its_name_and_by_what_the_dump_makes() {
        let ids = BTreeSet::from([1, 2]);
        let is = |kind, tag, dependencies: &[u32]| about(&entry(kind, tag, dependencies), &ids);
        assert!(
            matches!(is("EXTENSION", "\"uuid-ossp\"", &[]), About::Extension(name) if name == "uuid-ossp")
        );
        assert!(
            matches!(is("COMMENT", "EXTENSION vector", &[1]), About::CommentOnExtension(name) if name == "vector")
        );
        assert!(matches!(is("COMMENT", "TABLE vector", &[1]), About::Else));
        assert!(matches!(is("ACL", "TABLE ours", &[2]), About::Else));
        assert!(matches!(
            is("ACL", "TABLE theirs", &[9]),
            About::GrantOnOthers
        ));
        assert!(
            matches!(is("ACL", "SCHEMA extensions", &[1]), About::GrantOnSchema(name) if name == "extensions")
        );
        assert!(matches!(is("ACL", "DATABASE shop", &[9]), About::Else));
        assert!(matches!(is("TABLE DATA", "ours", &[1]), About::Else));
        assert!(matches!(
            is("TABLE DATA", "spatial_ref_sys", &[9]),
            About::DataOfOthers
        ));
    }

    #[test]
    fn a_note_names_a_few_of_many() {
        let of = |count: u32| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(note(&of(0), "left out"), None);
        assert_eq!(note(&of(2), "left out").as_deref(), Some("left out (0, 1)"));
        assert_eq!(
            note(&of(5), "left out").as_deref(),
            Some("left out (0, 1, 2 and 2 more)")
        );
    }
}
