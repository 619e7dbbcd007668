//! A customer's database is never left closed while `status` is quiet, even if the worker is killed and the run cancelled.

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE, run_id},
};
use crate::eventually::eventually;

async fn is_open(shop: &Customer) -> Result<bool> {
    let question = format!(
        "select datallowconn::text from pg_database where datname = '{}'",
        shop.name
    );
    Ok(shop.ask_in("postgres", &question).await? == "true")
}

/// Opens a transaction that keeps the database from being renamed.
async fn comments_on_it(shop: &Customer) -> Result<PgConnection> {
    let mut session = PgConnection::connect(&shop.url_of("postgres")).await?;
    let comment = format!("begin; comment on database {} is 'busy'", shop.name);
    session
        .execute(sqlx::raw_sql(AssertSqlSafe(comment)))
        .await?;
    Ok(session)
}

#[tokio::test]
async fn a_database_that_a_killed_restore_has_closed_is_told_and_opened() -> Result<()> {
    let (lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table orders as select n from generate_series(1, 1000) n")
        .await?;
    lab.add("shop", &shop).await?;
    let mut consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(lab.enqueue_backup("shop").await?).await?;

    let mut busy = comments_on_it(&shop).await?;
    let run = lab.run(&["--json", "restore", "shop"]).await?.succeeded()?;
    let run = run_id(&run.json()?)?;
    eventually(PATIENCE, "the database is closed", async || {
        Ok(!is_open(&shop).await?)
    })
    .await?;
    consumer.kill()?;
    lab.run(&["run", "cancel", &run.to_string()])
        .await?
        .succeeded()?;
    // The kill may have come before or after one of the worker's own tries, so what counts is the record.
    let told = lab.run(&["status", "--check"]).await?;
    ensure!(told.code == Some(1), "{told:?}");
    let by_hand = format!("alter database \"{}\" allow_connections true", shop.name);
    for part in ["CLOSED: database", &shop.name, &by_hand] {
        ensure!(told.out.contains(part), "{part}: {told:?}");
    }

    let _another = lab.consumer("another", &[]).await?;
    eventually(
        PATIENCE,
        "the database is open, and nobody is told otherwise",
        async || {
            let told = lab.run(&["status"]).await?;
            Ok(is_open(&shop).await? && !told.out.contains("CLOSED"))
        },
    )
    .await?;
    busy.execute("rollback").await?;
    ensure!(shop.ask("select count(*)::text from orders").await? == "1000");
    Ok(())
}
