//! A backup reports what would spoil the dump or its restore: as a refusal with advice, or as a warning in the
//! manifest.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use futures::future::BoxFuture;
use lastgood_jobs::{
    error::{ErrorKind, JobError},
    job::RestoreTarget,
    worker::Lease,
};

use crate::{
    failures::with_fake_dump,
    lab::{Lab, Server, attempt, shows_no_secret},
};

async fn fails(lab: &Lab) -> Result<JobError> {
    let error = lab
        .backup(attempt())
        .await
        .err()
        .context("the backup succeeded")?;
    shows_no_secret(&error)?;
    ensure!(lab.files()?.is_empty(), "something is left behind");
    Ok(error)
}

/// Guards against retrying a refusal that no retry can change.
#[tokio::test]
async fn row_level_security_is_final_and_names_the_role_that_would_do() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(
        "create table t (a int); insert into t values (1); alter table t enable row level security; \
         create policy p on t using (a > 1)",
    )
    .await?;
    // Policies do not apply to the owner unless they are forced.
    ensure!(lab.backup(attempt()).await.is_ok());
    lab.run("alter table t force row level security").await?;
    let before = lab.files()?.len();
    let error = lab
        .backup(attempt())
        .await
        .err()
        .context("the backup succeeded")?;
    ensure!(lab.files()?.len() == before, "something is left behind");
    ensure!(
        error.is_permanent() && error.kind() == ErrorKind::Auth,
        "{}",
        error.report()
    );
    let advice = format!("alter role \"{}\" bypassrls", lab.name);
    ensure!(error.to_string().contains(&advice), "{error}");
    ensure!(error.to_string().contains("public.t"), "{error}");
    lab.server
        .run(
            "postgres",
            &format!("alter role \"{}\" bypassrls", lab.name),
        )
        .await?;
    ensure!(lab.backup(attempt()).await.is_ok());
    lab.clean().await
}

#[tokio::test]
async fn a_prepared_transaction_in_the_way_is_named_and_not_waited_for_again() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t (a int)").await?;
    let script = "echo 'pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout' >&2; exit 1";
    let _fake = with_fake_dump(&mut lab, script).await?;
    // Somebody may release this lock, so a retry may help.
    let error = fails(&lab).await?;
    ensure!(!error.is_permanent(), "{}", error.report());
    let name = format!("forgotten-{}", lab.name);
    lab.run(&format!(
        "begin; lock table t; prepare transaction '{name}'"
    ))
    .await?;
    let error = fails(&lab).await?;
    lab.run(&format!("rollback prepared '{name}'")).await?;
    ensure!(error.is_permanent(), "{}", error.report());
    ensure!(error.to_string().contains(&name), "{error}");
    lab.clean().await
}

/// Guards against a backup that cannot be restored, for reasons visible in the system catalogs.
#[tokio::test]
async fn a_function_that_needs_a_search_path_is_a_warning() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(
        "create table limits (most int); insert into limits values (9);
         create function below(a int) returns bool language sql stable as 'select a < (select most from limits)';
         create function fine(a int) returns bool language sql stable as 'select a < (select most from public.limits)';
         create function set_up(a int) returns bool language sql stable set search_path = public
            as 'select a < (select most from limits)';
         create function doubled(a int) returns int language plpgsql immutable as 'begin return twice(a); end';
         create function twice(a int) returns int language sql immutable as 'select 2 * a';
         create table t (a int check (below(a)), b int check (fine(b)), c int check (set_up(c)),
            d int generated always as (doubled(a)) stored)",
    )
    .await?;
    let point = lab.backup(attempt()).await?;
    let warnings = point.manifest.warnings.join("\n");
    ensure!(point.manifest.warnings.len() == 2, "{warnings}");
    ensure!(
        warnings.contains("public.below(integer), whose body names limits without a schema"),
        "{warnings}"
    );
    ensure!(
        warnings.contains("public.doubled(integer), whose body names twice"),
        "{warnings}"
    );
    lab.clean().await
}

/// Guards against a tool that leaves something out, says so, and succeeds.
#[tokio::test]
async fn what_the_tool_warns_of_is_in_the_manifest() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    let script = "echo 'pg_dump: warning: subscriptions not dumped because current user is not a superuser' >&2; exec $REAL \"$@\"";
    let _fake = with_fake_dump(&mut lab, script).await?;
    let point = lab.backup(attempt()).await?;
    ensure!(
        point.manifest.warnings
            == ["pg_dump: subscriptions not dumped because current user is not a superuser"],
        "{:?}",
        point.manifest.warnings
    );
    lab.clean().await
}

/// Guards against losing what belongs to a database rather than to its name.
#[tokio::test]
async fn a_swap_that_breaks_logical_replication_needs_a_word_and_says_what_it_broke() -> Result<()>
{
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    let point = lab.backup(attempt()).await?;
    let name = format!("to-{}", lab.name);
    let subscribe = format!(
        "create subscription \"{name}\" connection 'dbname=nowhere' publication p with (connect = false, slot_name = none)"
    );
    lab.server.run(&lab.name, &subscribe).await?;
    lab.server
        .run(&lab.name, "create publication everything")
        .await?;
    let refused = lab.restore(&point, RestoreTarget::Swap {}).await;
    let error = refused.err().context("it broke it without a word")?;
    ensure!(error.is_permanent(), "{}", error.report());
    let said = format!("subscription \"{name}\"");
    ensure!(error.to_string().contains(&said), "{error}");
    lab.break_replication = true;
    let restored = lab.restore(&point, RestoreTarget::Swap {}).await?;
    let kept = restored.kept.clone().context("nothing was kept")?;
    lab.server
        .run(&kept, &format!("drop subscription \"{name}\""))
        .await?;
    let notes = restored.notes.join("\n");
    ensure!(
        notes.contains(&format!(
            "subscription \"{name}\" stays with the replaced database"
        )),
        "{notes}"
    );
    ensure!(notes.contains("publication everything is"), "{notes}");
    lab.clean().await
}

/// A lease that creates a subscription whenever it is asked whether it is alive, which last happens right before the
/// exchange.
struct Subscribing {
    server: Server,
    database: String,
    subscribe: String,
}

impl Lease for Subscribing {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            // After the first time, the subscription already exists.
            let _made_or_there = self.server.run(&self.database, &self.subscribe).await;
            true
        })
    }
}

#[tokio::test]
async fn a_subscription_that_is_made_while_a_restore_fills_its_database_is_seen() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    let point = lab.backup(attempt()).await?;
    let name = format!("late-{}", lab.name);
    lab.worker.lease = Arc::new(Subscribing {
        server: Server::pg18()?,
        database: lab.name.clone(),
        subscribe: format!(
            "create subscription \"{name}\" connection 'dbname=nowhere' publication p with (connect = false, slot_name = none)"
        ),
    });
    let refused = lab.restore(&point, RestoreTarget::Swap {}).await;
    lab.server
        .run(&lab.name, &format!("drop subscription \"{name}\""))
        .await?;
    let error = refused.err().context("it broke it without a word")?;
    ensure!(error.to_string().contains(&name), "{error}");
    let left = lab.server.databases_like(&lab.name).await?;
    ensure!(left == [lab.name.as_str()], "{left:?}");
    lab.clean().await
}

/// A database is restored because it is broken, so failing queries about it must not prevent the restore.
#[tokio::test]
async fn a_database_that_lets_nobody_in_is_replaced_all_the_same() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    let point = lab.backup(attempt()).await?;
    let broken = format!(
        "alter database \"{}\" set session_preload_libraries = 'no_such_library'",
        lab.name
    );
    lab.server.run("postgres", &broken).await?;
    ensure!(lab.session().await.is_err(), "somebody is let in");
    let restored = lab.restore(&point, RestoreTarget::Swap {}).await?;
    let notes = restored.notes.join("\n");
    ensure!(notes.contains("did not report its publications"), "{notes}");
    ensure!(lab.ask("select a::text from t").await? == "1");
    lab.clean().await
}
