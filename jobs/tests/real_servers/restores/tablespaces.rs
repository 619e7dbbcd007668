//! A missing tablespace is named, and can be left out.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::job::RestoreTarget;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::lab::{Lab, Server, attempt};

/// Guards against something that the other server does not have: it is found before anything is made, and can be left
/// out.
#[tokio::test]
async fn a_tablespace_that_is_gone_is_named_and_can_be_left_out() -> Result<()> {
    let mut lab = Lab::superuser(Server::pg18()?).await?;
    let space = format!("fast-{}", lab.name);
    lab.run("create table plain as select 1 as a").await?;
    let create = [
        "set allow_in_place_tablespaces = on".to_owned(),
        format!("create tablespace \"{space}\" location ''"),
    ];
    let mut session = lab.session().await?;
    for statement in create {
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
            .await?;
    }
    lab.run(&format!(
        "create table t tablespace \"{space}\" as select generate_series(1, 100) as a; \
         create index t_a on t (a) tablespace \"{space}\""
    ))
    .await?;
    let point = lab.backup(attempt()).await?;
    lab.run("drop table t").await?;
    let gone = format!("drop tablespace \"{space}\"");
    session.execute(sqlx::raw_sql(AssertSqlSafe(gone))).await?;
    let before = lab.server.databases_like(&lab.name).await?;
    let refused = lab.restore(&point, RestoreTarget::Swap {}).await;
    let error = refused.err().context("where did it put them?")?;
    ensure!(error.is_permanent(), "{}", error.report());
    ensure!(error.to_string().contains(&space), "{error}");
    ensure!(error.to_string().contains("--no-tablespaces"), "{error}");
    ensure!(lab.server.databases_like(&lab.name).await? == before);

    lab.no_tablespaces = true;
    lab.restore(&point, RestoreTarget::Swap {}).await?;
    let rows = lab.ask("select count(*)::text from t").await?;
    ensure!(rows == "100", "{rows}");
    lab.clean().await
}

/// The database is gone, and so is its tablespace.
#[tokio::test]
async fn a_lost_database_comes_back_without_its_tablespace() -> Result<()> {
    let mut lab = Lab::superuser(Server::pg18()?).await?;
    let space = format!("own-{}", lab.name);
    let mut session = lab.server.session("postgres").await?;
    for statement in [
        "set allow_in_place_tablespaces = on".to_owned(),
        format!("create tablespace \"{space}\" location ''"),
        format!("alter database \"{}\" set tablespace \"{space}\"", lab.name),
    ] {
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
            .await?;
    }
    lab.run("create table t as select generate_series(1, 100) as a")
        .await?;
    let point = lab.backup(attempt()).await?;
    for statement in [
        format!("drop database \"{}\"", lab.name),
        format!("drop tablespace \"{space}\""),
    ] {
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
            .await?;
    }
    let refused = lab.restore(&point, RestoreTarget::Swap {}).await;
    let error = refused.err().context("where did it put it?")?;
    ensure!(error.is_permanent(), "{}", error.report());
    ensure!(error.to_string().contains(&space), "{error}");
    lab.no_tablespaces = true;
    lab.restore(&point, RestoreTarget::Swap {}).await?;
    let rows = lab.ask("select count(*)::text from t").await?;
    ensure!(rows == "100", "{rows}");
    lab.clean().await
}
