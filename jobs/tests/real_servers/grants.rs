//! The roles of deploy/grants have exactly the rights that they need.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    backup::RestorePoint,
    job::{Restore, RestoreTarget},
    sought::Sought,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};

use crate::{
    lab::{Lab, MARKER, Server, attempt, tables},
    subject::{Subject, backup, restore},
};

const BACKUP: &str = include_str!("../../../deploy/grants/postgres-backup.sql");
const RESTORE: &str = include_str!("../../../deploy/grants/postgres-restore.sql");
const FORBIDDEN: &str = "42501";
const READ_ONLY: &str = "25006";

const SHOP: &str = "
    create schema private;
    create table private.orders (id bigserial primary key, name text not null);
    insert into private.orders (name) select 'order ' || n from generate_series(1, 1000) n;
    create table after_grants_too (id int);
    create view recent as select * from private.orders where id > 10;
    revoke all on schema private from public";

/// Replaces the file's names and password by this test's. Longer names come first, because they begin with the shorter
/// ones.
fn of_this_test(file: &str, lab: &Lab) -> String {
    [
        ("shop_restored", format!("\"{}-restored\"", lab.name)),
        ("shop", format!("\"{}\"", lab.name)),
        ("lastgood_backup", format!("\"{}-backup\"", lab.name)),
        ("lastgood_restore", format!("\"{}-restore\"", lab.name)),
        ("PASSWORD", MARKER.to_owned()),
    ]
    .iter()
    .fold(file.to_owned(), |text, (name, ours)| {
        text.replace(name, ours)
    })
}

/// Runs a file statement by statement, as `psql` does.
async fn grant(file: &str, lab: &Lab) -> Result<()> {
    for statement in of_this_test(file, lab).split_inclusive(";\n") {
        lab.server.run(&lab.name, statement).await?;
    }
    Ok(())
}

fn as_role(lab: &Lab, role: &str, database: &str) -> Result<Subject> {
    lab.with_url(|url| {
        url.set_username(&format!("{}-{role}", lab.name)).ok();
        url.set_path(database);
    })
}

async fn session(resource: &Subject) -> Result<PgConnection> {
    let url = secrecy::ExposeSecret::expose_secret(&resource.url);
    let options = url.parse::<PgConnectOptions>()?.disable_statement_logging();
    Ok(options.connect().await?)
}

/// Checks that the server refuses a statement because a right is missing, and not because of a setting that the role
/// could change.
async fn may_not(resource: &Subject, statement: &str) -> Result<()> {
    let mut session = session(resource).await?;
    let anyway = "set default_transaction_read_only = off";
    session.execute(anyway).await?;
    let done = session.execute(AssertSqlSafe(statement.to_owned())).await;
    let error = done.err().context(format!("it may: {statement}"))?;
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    ensure!(code.as_deref() == Some(FORBIDDEN), "{statement}: {error}");
    Ok(())
}

async fn clean(lab: Lab) -> Result<()> {
    let (server, name) = (
        Server {
            url: lab.server.url.clone(),
        },
        lab.name.clone(),
    );
    server
        .run(&name, &format!("drop owned by \"{name}-backup\""))
        .await?;
    lab.clean().await?;
    for role in ["backup", "restore"] {
        server
            .run(
                "postgres",
                &format!("drop role if exists \"{name}-{role}\""),
            )
            .await?;
    }
    Ok(())
}

async fn backed_up_by_its_role(server: Server) -> Result<(Lab, RestorePoint)> {
    let lab = Lab::owner(server).await?;
    grant(BACKUP, &lab).await?;
    lab.run(SHOP).await?;
    let resource = as_role(&lab, "backup", &lab.name)?;
    let point = backup(attempt(), &resource, None, &lab.worker).await?;
    Ok((lab, point))
}

#[tokio::test]
async fn the_role_for_backups_reads_all_and_writes_nothing() -> Result<()> {
    for server in [Server::pg17()?, Server::pg18()?] {
        let (lab, _) = backed_up_by_its_role(server).await?;
        let resource = as_role(&lab, "backup", &lab.name)?;
        for statement in [
            "insert into private.orders (name) values ('x')",
            "update private.orders set name = 'x'",
            "delete from private.orders",
            "truncate private.orders",
            "select nextval('private.orders_id_seq')",
            "create table public.mine (id int)",
            "drop table after_grants_too",
            "create role another",
            "create database another",
            "copy private.orders to program 'true'",
        ] {
            may_not(&resource, statement).await?;
        }
        let mut session = session(&resource).await?;
        let error = session
            .execute("create temporary table mine (id int)")
            .await
            .unwrap_err();
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some(READ_ONLY), "{error}");
        clean(lab).await?;
    }
    Ok(())
}

/// The last lines of the file must be true.
#[tokio::test]
async fn what_the_role_for_backups_cannot_read_fails_its_backup_until_it_is_granted() -> Result<()>
{
    let (lab, _) = backed_up_by_its_role(Server::pg18()?).await?;
    let (name, resource) = (lab.name.clone(), as_role(&lab, "backup", &lab.name)?);
    for (hide, grant) in [
        (
            "select lo_from_bytea(4242, 'x')",
            format!("grant select on large object 4242 to \"{name}-backup\""),
        ),
        (
            "alter table private.orders enable row level security",
            format!("alter role \"{name}-backup\" bypassrls"),
        ),
    ] {
        lab.run(hide).await?;
        let made = backup(attempt(), &resource, None, &lab.worker).await;
        ensure!(made.is_err(), "a backup succeeded after {hide}");
        lab.server.run(&name, &grant).await?;
        backup(attempt(), &resource, None, &lab.worker).await?;
    }
    clean(lab).await
}

#[tokio::test]
async fn the_role_for_restores_fills_its_own_database_and_touches_no_other() -> Result<()> {
    let (lab, point) = backed_up_by_its_role(Server::pg18()?).await?;
    grant(RESTORE, &lab).await?;
    let restored_to = format!("{}-restored", lab.name);
    let target = as_role(&lab, "restore", &restored_to)?;
    let job = Restore {
        point: point.manifest.run_id.0,
        target: RestoreTarget::Reference {
            reference: "env:X".to_owned(),
        },
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    };
    let url = Some(target.url.clone());
    let restored = restore(
        attempt(),
        &lab.resource,
        &job,
        &Sought::at(&point.manifest_key),
        url,
        &lab.worker,
    )
    .await?;
    assert_eq!(tables(&restored), 2);
    let count = "select count(*)::text from private.orders";
    assert_eq!(lab.server.ask(&restored_to, count).await?, "1000");

    let beside = as_role(&lab, "restore", &lab.name)?;
    for statement in [
        "select * from private.orders",
        "insert into after_grants_too values (1)",
        "create table public.mine (id int)",
        "create database another",
    ] {
        may_not(&beside, statement).await?;
    }
    clean(lab).await
}
