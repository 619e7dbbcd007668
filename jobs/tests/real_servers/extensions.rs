//! A probe does the real thing the real way: every extension that a server ships comes back for every role that may
//! have it.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{backup::RestorePoint, job::RestoreTarget, restore::Restored};

use crate::lab::{Lab, Server, attempt};

/// Lists the extensions with their versions and schemas.
const EXTENSIONS: &str = "select string_agg(concat_ws(' ', extname, extversion, extnamespace::regnamespace), E'\n' order by extname)
    from pg_extension";

/// Creates the server's extensions for which `which` is true, each with its requirements. Returns their names.
pub(crate) async fn create_all(lab: &Lab, which: &str) -> Result<Vec<String>> {
    let mut session = lab.session().await?;
    let asked = format!(
        "select name from pg_available_extensions e join pg_available_extension_versions v using (name) \
         where version = default_version and {which} order by name"
    );
    let names = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(asked));
    let mut created = Vec::new();
    for name in names.fetch_all(&mut session).await? {
        let create = format!("create extension if not exists \"{name}\" cascade");
        match sqlx::Executor::execute(&mut session, sqlx::AssertSqlSafe(create)).await {
            Ok(_) => created.push(name),
            // These servers have no Python.
            Err(error) if error.to_string().contains("plpython3u") => {}
            Err(error) => return Err(error).context(name),
        }
    }
    Ok(created)
}

/// Restores in all three ways, and checks that the extensions and a table are back each time.
async fn comes_back(lab: &Lab, point: &RestorePoint, template: &str) -> Result<Vec<Restored>> {
    let expected = lab.ask(EXTENSIONS).await?;
    let into = format!("{}-2", lab.name);
    lab.server.create(&into, &lab.name, template).await?;
    let mut done = Vec::new();
    for target in [
        RestoreTarget::Database { name: into.clone() },
        RestoreTarget::InPlace {
            overwrite: "db-1".parse()?,
            merge: false,
        },
        RestoreTarget::Swap {},
    ] {
        let restored = lab.restore(point, target.clone()).await;
        let restored =
            restored.map_err(|error| anyhow::anyhow!("{target:?}: {}", error.report()))?;
        let found = lab.server.ask(&restored.database, EXTENSIONS).await?;
        ensure!(
            found == expected,
            "{target:?}: {found}\nand not\n{expected}"
        );
        let count = "select count(*)::text from shop";
        ensure!(lab.server.ask(&restored.database, count).await? == "100");
        done.push(restored);
    }
    Ok(done)
}

const SHOP: &str = "create table shop as select n from generate_series(1, 100) n";

#[tokio::test]
async fn a_superuser_gets_every_extension_back() -> Result<()> {
    for server in [Server::pg17()?, Server::pg18()?] {
        let lab = Lab::superuser(server).await?;
        let created = create_all(&lab, "true").await?;
        ensure!(created.len() > 40, "{created:?}");
        lab.run(SHOP).await?;
        lab.run("grant select on pg_stat_statements to pg_monitor; comment on extension tablefunc is 'ours'")
            .await?;
        let point = lab.backup(attempt()).await?;
        for restored in comes_back(&lab, &point, "template0").await? {
            let grants = "select relacl::text from pg_class where relname = 'pg_stat_statements'";
            let grants = lab.server.ask(&restored.database, grants).await?;
            ensure!(grants.contains("pg_monitor"), "{grants}");
        }
        lab.clean().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_owner_gets_the_trusted_extensions_back_in_whatever_schema() -> Result<()> {
    for server in [Server::pg17()?, Server::pg18()?] {
        let lab = Lab::owner(server).await?;
        let created = create_all(&lab, "trusted").await?;
        ensure!(created.len() > 15, "{created:?}");
        lab.run("drop extension pg_trgm; create schema extensions; create extension pg_trgm schema extensions")
            .await?;
        lab.run(SHOP).await?;
        let point = lab.backup(attempt()).await?;
        comes_back(&lab, &point, "template0").await?;
        lab.clean().await?;
    }
    Ok(())
}

/// One test, because there is only one template.
#[tokio::test]
async fn an_owner_gets_every_extension_back_that_is_in_the_template() -> Result<()> {
    let server = Server::narrow()?;
    let template = Lab::superuser(Server::narrow()?).await?;
    let mut every = create_all(&template, "true").await?;
    every.retain(|name| name != "plpgsql");
    template.clean().await?;
    for (schema, more) in [
        ("public", ""),
        ("extensions", "comment on schema extensions is 'theirs'"),
    ] {
        let template = format!(
            "create schema if not exists {schema}; grant usage on schema {schema} to public; {more}"
        );
        server.run("template1", &template).await?;
        for name in &every {
            let create =
                format!("create extension if not exists \"{name}\" schema {schema} cascade");
            // Some extensions insist on their own schema.
            if server.run("template1", &create).await.is_err() {
                let create = format!("create extension if not exists \"{name}\" cascade");
                server.run("template1", &create).await?;
            }
        }
        let grant = format!(
            "revoke all on {schema}.pg_stat_statements from public; grant select on {schema}.pg_stat_statements to pg_monitor"
        );
        server.run("template1", &grant).await?;

        let lab = Lab::owner(Server::narrow()?).await?;
        let drop = format!("drop database \"{}\"", lab.name);
        server.run("postgres", &drop).await?;
        server.create(&lab.name, &lab.name, "template1").await?;
        lab.run(SHOP).await?;
        let point = lab.backup(attempt()).await?;
        for restored in comes_back(&lab, &point, "template1").await? {
            let notes = restored.notes.join("; ");
            ensure!(notes.contains("pg_stat_statements"), "{notes}");
        }
        lab.clean().await?;
        for name in &every {
            let drop = format!("drop extension if exists \"{name}\" cascade");
            server.run("template1", &drop).await?;
        }
    }
    server.run("template1", "drop schema extensions").await
}

/// A reference system of the customer's own, in `PostGIS`'s table.
const OWN_SYSTEM: &str =
    "insert into spatial_ref_sys (srid, auth_name, auth_srid) values (990001, 'ours', 1)";
const SYSTEMS: &str = "select count(*)::text from spatial_ref_sys where srid = 990001";

#[tokio::test]
async fn postgis_comes_back_with_rows_of_its_own_tables() -> Result<()> {
    let Some(server) = Server::postgis()? else {
        return Ok(());
    };
    let lab = Lab::superuser(server).await?;
    // Debian ships each of them under two names.
    let created = create_all(&lab, "name !~ '-3$'").await?;
    ensure!(created.iter().any(|name| name == "postgis_topology"));
    lab.run(SHOP).await?;
    lab.run("create table places (at geometry(point, 4326)); insert into places values ('srid=4326;point(1 2)')")
        .await?;
    lab.run(OWN_SYSTEM).await?;
    let point = lab.backup(attempt()).await?;
    for restored in comes_back(&lab, &point, "template0").await? {
        ensure!(lab.server.ask(&restored.database, SYSTEMS).await? == "1");
        let place = "select st_astext(at) from places";
        ensure!(lab.server.ask(&restored.database, place).await? == "POINT(1 2)");
    }
    lab.clean().await
}

#[tokio::test]
async fn an_owner_gets_postgis_back_and_is_told_of_rows_that_only_its_owner_may_load() -> Result<()>
{
    let Some(server) = Server::postgis()? else {
        return Ok(());
    };
    let create = "select pg_advisory_lock(7); create extension if not exists postgis";
    server.run("template1", create).await?;
    let lab = Lab::owner(server).await?;
    lab.server
        .run(&lab.name, "create extension postgis")
        .await?;
    lab.server.run(&lab.name, OWN_SYSTEM).await?;
    lab.run(SHOP).await?;
    let point = lab.backup(attempt()).await?;
    for restored in comes_back(&lab, &point, "template1").await? {
        let notes = restored.notes.join("; ");
        ensure!(notes.contains("spatial_ref_sys"), "{notes}");
    }
    lab.clean().await
}
