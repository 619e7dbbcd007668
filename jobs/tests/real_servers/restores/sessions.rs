//! The sessions of a restore: several fill a fresh database, and no limit of the role ends one that takes long.

use std::{
    io::Write as _,
    sync::{Arc, atomic::Ordering},
    thread::available_parallelism,
};

use anyhow::{Result, ensure};
use futures::future::BoxFuture;
use lastgood_jobs::{job::RestoreTarget, worker::Lease};

use crate::{
    connections::limit,
    failures::with_fake,
    lab::{Lab, Ledger, Server, attempt},
};

#[tokio::test]
async fn a_fresh_database_is_filled_by_a_connection_for_each_core() -> Result<()> {
    let cores = available_parallelism()?.get().min(8);
    if cores == 1 {
        // Written past the test runner, which hides the output of a test that passes.
        writeln!(
            std::io::stderr(),
            "SKIPPED: a restore by several connections: one core"
        )?;
        return Ok(());
    }
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table a as select n from generate_series(1, 1000) n; create table b as select * from a")
        .await?;
    let point = lab.backup(attempt()).await?;
    lab.run("truncate a, b").await?;
    let script = "echo \"$@\" > ${0%/*}/args; exec $REAL \"$@\"";
    let fake = with_fake(&mut lab, "pg_restore", script).await?;
    lab.restore(&point, RestoreTarget::Swap {})
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    let args = std::fs::read_to_string(fake.path().join("args"))?;
    let wanted = format!("--jobs={cores}");
    ensure!(
        args.split_whitespace().any(|arg| arg == wanted),
        "{wanted} is not in {args}"
    );
    let rows = "select (select count(*) from a) || ' ' || (select count(*) from b)";
    ensure!(lab.ask(rows).await? == "1000 1000");
    lab.clean().await
}

/// A lease that answers once each session of the role has been idle for longer than the role's limits.
struct Outlasting {
    server: Server,
    role: String,
    ledger: Arc<Ledger>,
}

impl Outlasting {
    /// Returns whether that came to be.
    async fn outlast(&self) -> bool {
        let wait = format!(
            "do $$ begin while exists (select from pg_stat_activity where usename = '{}'
                 and (state <> 'idle' or state_change > clock_timestamp() - interval '1500 ms')) loop
               if clock_timestamp() > now() + interval '30 s' then raise exception 'a session is not idle'; end if;
               perform pg_sleep(0.01), pg_stat_clear_snapshot();
             end loop; end $$",
            self.role
        );
        self.server.run("postgres", &wait).await.is_ok()
    }
}

impl Lease for Outlasting {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { self.outlast().await && self.ledger.is_alive().await })
    }

    fn will_close<'a>(&'a self, database: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move { self.outlast().await && self.ledger.will_close(database).await })
    }

    fn is_open(&self) -> BoxFuture<'_, ()> {
        self.ledger.is_open()
    }
}

/// The session that prepares the exchange waits for the lease, and so does the one that makes it.
#[tokio::test(flavor = "multi_thread")]
async fn no_limit_of_the_role_ends_a_swap() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    let point = lab.backup(attempt()).await?;
    lab.run("truncate t").await?;
    limit(&lab, "1s").await?;
    lab.worker.lease = Arc::new(Outlasting {
        server: Server::pg18()?,
        role: lab.name.clone(),
        ledger: lab.ledger.clone(),
    });
    lab.restore(&point, RestoreTarget::Swap {})
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    ensure!(
        lab.ledger.was_written.load(Ordering::SeqCst),
        "nobody asked the lease before the exchange"
    );
    ensure!(lab.ask("select a::text from t").await? == "1");
    lab.clean().await
}

/// While one connection fills the table, the others are idle for longer than the role allows, and then make the indexes.
#[tokio::test(flavor = "multi_thread")]
async fn no_limit_of_the_role_ends_a_connection_that_waits_for_another() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(
        "create function slow(a int) returns bool language plpgsql as $$ begin
             while clock_timestamp() < statement_timestamp() + interval '1500 ms' loop end loop;
             return true; end $$;
         create table t (a int check (slow(a)));
         insert into t values (1);
         create index t_1 on t (a); create index t_2 on t (a); create index t_3 on t (a)",
    )
    .await?;
    let point = lab.backup(attempt()).await?;
    limit(&lab, "1s").await?;
    lab.restore(&point, RestoreTarget::Swap {})
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    ensure!(lab.ask("select a::text from t").await? == "1");
    lab.clean().await
}

/// The index takes longer than the limits, both when the tool makes it and when lastgood gathers its statistics.
#[tokio::test(flavor = "multi_thread")]
async fn no_limit_of_the_role_ends_a_restore_in_place() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(
        "create function slow(a int) returns int immutable language plpgsql as $$ begin
             while clock_timestamp() < statement_timestamp() + interval '1500 ms' loop end loop;
             return a; end $$;
         create table t as select 1 as a;
         create index on t (slow(a))",
    )
    .await?;
    let point = lab.backup(attempt()).await?;
    lab.run("truncate t").await?;
    limit(&lab, "1s").await?;
    let target = RestoreTarget::InPlace {
        overwrite: "db-1".parse()?,
        merge: false,
    };
    let restored = lab
        .restore(&point, target)
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    // One note says that objects which the dump does not have stay; none says that there are no statistics.
    ensure!(restored.notes.len() == 1, "{:?}", restored.notes);
    ensure!(lab.ask("select a::text from t").await? == "1");
    lab.clean().await
}
