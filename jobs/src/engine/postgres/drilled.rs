//! What a drill needs on a scratch server besides the restore: the extensions before it, a check of the indexes after it.
//!
//! Both are done as the scratch server's superuser. Nothing that the dump says runs as that role: names are quoted, and
//! statements are our own. The dump itself is restored by the database's owner, who is no superuser.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

use super::{
    names::{identifier, literal, unquoted},
    session::{self, answer},
};
use crate::{
    archive,
    contents::{Contents, Item},
    engine::address::postgres::Address,
    error::{Damage, JobError, ServerFault},
    format::pg_dump::{Entry, Keep, Scanner},
    manifest::Manifest,
    worker::Worker,
};

/// The code for a schema that does not exist.
const NO_SUCH_SCHEMA: &str = "3F000";
/// The codes for damaged data and a damaged index. Any other error says nothing about the index.
const CORRUPTED: [&str; 2] = ["XX001", "XX002"];

/// An extension of the dump.
struct Extension {
    name: String,
    schema: Option<String>,
    /// The version that the customer's server had.
    version: Option<String>,
}

/// Creates the dump's extensions, as their owner may not create all of them. Returns why one cannot be had here.
pub(crate) async fn create_extensions(
    admin: &Address,
    owner: &str,
    manifest: &Manifest,
    versions: &BTreeMap<String, String>,
    worker: &Worker,
) -> Result<Option<String>, JobError> {
    let entries = table_of_contents(manifest, worker).await?;
    let mut session = session::connect(admin).await?;
    for entry in entries.iter().filter(|entry| entry.kind == "EXTENSION") {
        let name = unquoted(&entry.tag);
        let extension = Extension {
            schema: schema_of(&entry.definition),
            version: versions.get(&name).cloned(),
            name,
        };
        if let Some(why) = create(&mut session, &extension, owner).await? {
            return Ok(Some(why));
        }
    }
    let_fill(&mut session, owner).await?;
    session::close(session).await;
    Ok(None)
}

/// Lets the owner fill the extensions' own tables, whose rows a dump may hold. The customer's extensions may belong to
/// the owner, these do not.
async fn let_fill(session: &mut PgConnection, owner: &str) -> Result<(), JobError> {
    let question = "select distinct n.nspname::text, c.relname::text, c.relkind = 'S' from pg_catalog.pg_extension e \
        cross join unnest(e.extconfig) as config (id) join pg_catalog.pg_class c on c.oid = config.id \
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace";
    let tables = sqlx::query_as::<_, (String, String, bool)>(question).fetch_all(&mut *session);
    let owner = identifier(owner);
    for (schema, name, is_sequence) in answer("list the extensions' tables", tables).await? {
        let schema = identifier(&schema);
        let kind = if is_sequence { "sequence" } else { "table" };
        let grant = format!(
            "grant usage on schema {schema} to {owner}; grant all on {kind} {schema}.{} to {owner}",
            identifier(&name)
        );
        session::run(session, "let the owner fill an extension's table", grant).await?;
    }
    Ok(())
}

async fn create(
    session: &mut PgConnection,
    extension: &Extension,
    owner: &str,
) -> Result<Option<String>, JobError> {
    let name = &extension.name;
    let question = "select version from pg_available_extension_versions where name = $1";
    let available = sqlx::query_scalar::<_, String>(question)
        .bind(name)
        .fetch_all(&mut *session);
    let available = answer("ask for the extensions", available).await?;
    if available.is_empty() {
        return Ok(Some(format!(
            "the scratch server has no extension {name:?}: install its package on this consumer"
        )));
    }
    // Another version may do as well. The comparison says which one it was.
    let version = extension
        .version
        .as_ref()
        .filter(|version| available.contains(version));
    let mut statement = format!("create extension if not exists {}", identifier(name));
    if let Some(schema) = &extension.schema {
        statement += " schema ";
        statement += &identifier(schema);
    }
    if let Some(version) = version {
        statement += " version ";
        statement += &literal(version);
    }
    statement += " cascade";
    let Some(fault) = attempt(session, &statement).await? else {
        return Ok(None);
    };
    let fault = match &extension.schema {
        Some(schema) if fault.code() == Some(NO_SUCH_SCHEMA) => {
            let schema = format!(
                "create schema {} authorization {}",
                identifier(schema),
                identifier(owner)
            );
            match attempt(session, &schema).await? {
                Some(fault) => Some(fault),
                None => attempt(session, &statement).await?,
            }
        }
        _ => Some(fault),
    };
    Ok(fault.map(|fault| format!("the scratch server cannot create extension {name:?}: {fault}")))
}

/// Runs a statement, and returns the server's refusal.
async fn attempt(
    session: &mut PgConnection,
    statement: &str,
) -> Result<Option<ServerFault>, JobError> {
    let run = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    match session.execute(run).await {
        Ok(_) => Ok(None),
        Err(error) if error.as_database_error().is_some() => Ok(Some(ServerFault::from(&error))),
        Err(error) => Err(session::meaning("prepare the scratch database", &error)),
    }
}

/// Reads the dump as far as its table of contents.
async fn table_of_contents(manifest: &Manifest, worker: &Worker) -> Result<Vec<Entry>, JobError> {
    let mut reading = archive::open(
        &worker.storage,
        &*worker.keyring,
        &manifest.archive,
        &manifest.dump,
    )
    .await?;
    let mut scanner = Scanner::new(Keep::Entries);
    while !scanner.has_contents() {
        let Some(chunk) = reading.next().await else {
            reading.finish().await?;
            break;
        };
        let fed = scanner.feed(&chunk);
        fed.map_err(|wrong| {
            JobError::of_archive(&manifest.archive.key, Damage::Dump(wrong.into()))
        })?;
    }
    Ok(scanner.into_contents().1)
}

/// Returns the schema of a statement like `CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;`.
fn schema_of(definition: &str) -> Option<String> {
    let (_, schema) = definition.split_once(" WITH SCHEMA ")?;
    let schema = schema.trim_end().strip_suffix(';')?;
    Some(unquoted(schema))
}

/// Has the versions of extensions that this server does not have in the dump's version compared by name only.
pub(crate) fn accept_other_versions(expected: &Contents, found: &mut Contents) {
    let is_extension = |item: &&Item| item.kind == "extension";
    for back in found
        .items
        .iter_mut()
        .filter(|item| item.kind == "extension")
    {
        let mut dumped = expected.items.iter().filter(is_extension);
        let dumped = dumped.find(|item| item.name == back.name);
        if let Some(dumped) = dumped.filter(|dumped| dumped.value != back.value) {
            let version = |item: &Item| item.value.clone().unwrap_or_default();
            back.unknown = Some(format!(
                "version {} was dumped, and the scratch server has {}",
                version(dumped),
                version(back)
            ));
        }
    }
}

/// What a check of the indexes found.
pub(crate) enum Indexes {
    /// All B-trees are in order.
    Sound,
    /// The server has no `amcheck`, or it did not come to an end.
    NotChecked,
    /// One is not.
    Broken {
        /// Which, and what is wrong.
        because: String,
    },
}

/// Checks every B-tree by `amcheck`, if the server has it.
pub(crate) async fn check_indexes(admin: &Address) -> Result<Indexes, JobError> {
    let mut session = session::connect(admin).await?;
    if attempt(
        &mut session,
        "create extension if not exists amcheck schema pg_catalog",
    )
    .await?
    .is_some()
    {
        return Ok(Indexes::NotChecked);
    }
    let question = "select c.oid::bigint, c.oid::regclass::text as name from pg_catalog.pg_index i \
        join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_am a on a.oid = c.relam \
        where a.amname = 'btree' and c.relkind = 'i' and i.indisvalid and i.indisready \
        and c.relnamespace <> 'pg_catalog'::regnamespace";
    let indexes = sqlx::query(question).fetch_all(&mut session);
    for row in answer("list the indexes", indexes).await? {
        let (oid, name): (i64, String) = (row.get(0), row.get(1));
        let check = format!("select pg_catalog.bt_index_check({oid}::oid::regclass)");
        if let Some(fault) = attempt(&mut session, &check).await? {
            if !fault.code().is_some_and(|code| CORRUPTED.contains(&code)) {
                return Ok(Indexes::NotChecked);
            }
            let because = format!("index {name} is not sound: {fault}");
            return Ok(Indexes::Broken { because });
        }
    }
    session::close(session).await;
    Ok(Indexes::Sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extensions_schema_is_read_from_its_statement() {
        let of = |sql: &str| schema_of(sql);
        assert_eq!(
            of("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;\n").as_deref(),
            Some("public")
        );
        assert_eq!(
            of("CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA \"my \"\"ext\";\n\n")
                .as_deref(),
            Some("my \"ext")
        );
        assert_eq!(of("CREATE EXTENSION IF NOT EXISTS plpgsql;\n"), None);
    }
}
