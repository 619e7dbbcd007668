//! Everything that can refuse a restore is asked before anything is removed, and no code gains rights through a
//! restore.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    error::JobError,
    job::{Restore, RestoreTarget},
    restore::Restored,
    sought::Sought,
};

use crate::{
    lab::{Lab, Server, attempt, tables},
    subject::restore,
};

/// More tables than one transaction can lock on the narrow server.
const MANY: u64 = 500;

fn in_place() -> Result<RestoreTarget> {
    Ok(RestoreTarget::InPlace {
        overwrite: "db-1".parse()?,
        merge: false,
    })
}

fn is_refused(done: Result<Restored, JobError>, kind: &str, why: &str) -> Result<()> {
    let error = done
        .err()
        .map(|error| (error.kind().as_str(), error.is_permanent(), error.report()));
    let Some((found, is_permanent, report)) = error else {
        anyhow::bail!("it was not refused");
    };
    ensure!(
        found == kind && is_permanent && report.contains(why),
        "{found}: {report}"
    );
    Ok(())
}

/// With default settings, a server has room for the locks of a few thousand tables.
#[tokio::test]
async fn a_database_with_more_tables_than_one_transaction_can_lock_comes_back_by_swap() -> Result<()>
{
    let lab = Lab::owner(Server::narrow()?).await?;
    let create = |between: &str| {
        format!(
            "do $$ begin for n in 1..{MANY} loop
             execute format('create table t%s (id int primary key, note text)', n); {between} end loop; end $$"
        )
    };
    lab.run(&create("commit;")).await?;
    lab.run("insert into t7 select n, n::text from generate_series(1, 50) n")
        .await?;
    let point = lab.backup(attempt()).await?;
    let into = format!("{}-2", lab.name);
    let empty = format!(
        "create database \"{into}\" owner \"{}\" template template0",
        lab.name
    );
    lab.server.run("postgres", &empty).await?;
    let at_once = lab.server.run(&into, &create("")).await;
    let refused = at_once.err().context("one transaction can lock them all")?;
    ensure!(
        format!("{refused:#}").contains("shared memory"),
        "{refused:#}"
    );

    // A restore in one transaction is refused before it begins, with advice.
    let count = "select count(*)::text from t7";
    for target in [in_place()?, RestoreTarget::Database { name: into }] {
        is_refused(
            lab.restore(&point, target).await,
            "target",
            "set max_locks_per_transaction to",
        )?;
    }
    ensure!(lab.ask(count).await? == "50");

    lab.run("truncate t7").await?;
    let restored = lab.restore(&point, RestoreTarget::Swap {}).await?;
    ensure!(tables(&restored) == MANY && restored.notes.is_empty());
    ensure!(lab.ask(count).await? == "50");
    // Nothing else gathers statistics on that server, of one row for each column.
    let analyzed = "select count(*)::text from pg_stats where tablename = 't7'";
    ensure!(lab.ask(analyzed).await? == "2");
    lab.clean().await
}

/// `set role` would not help: a function could set it back.
#[tokio::test]
async fn the_customers_code_never_runs_as_a_superuser_unless_somebody_says_so() -> Result<()> {
    let mut lab = Lab::superuser(Server::pg18()?).await?;
    let victim = format!("{}-victim", lab.name);
    let hostile = format!(
        "create role \"{victim}\";
         create function hostile(int) returns bool language plpgsql as $$ begin
             perform set_config('role', 'none', true);
             execute 'alter role \"{victim}\" superuser';
             return true; end $$;
         create table shop (n int);
         insert into shop values (1);
         alter table shop add constraint checked check (hostile(n));
         alter role \"{victim}\" nosuperuser"
    );
    lab.run(&hostile).await?;
    let point = lab.backup(attempt()).await?;
    let is_superuser = format!("select rolsuper::text from pg_roles where rolname = '{victim}'");
    let into = format!("{}-2", lab.name);
    let empty = format!("create database \"{into}\" template template0");
    lab.server.run("postgres", &empty).await?;
    let all = [
        RestoreTarget::Swap {},
        in_place()?,
        RestoreTarget::Database { name: into.clone() },
    ];

    lab.as_superuser = false;
    for target in all {
        is_refused(
            lab.restore(&point, target).await,
            "config",
            "--as-superuser",
        )?;
    }
    ensure!(lab.ask(&is_superuser).await? == "false");
    let tables = "select count(*)::text from pg_class where relname = 'shop'";
    ensure!(lab.server.ask(&into, tables).await? == "0");
    ensure!(lab.server.databases_like(&lab.name).await?.len() == 2);

    lab.as_superuser = true;
    lab.restore(&point, RestoreTarget::Swap {}).await?;
    ensure!(
        lab.ask(&is_superuser).await? == "true",
        "the constraint did not fire"
    );
    let (server, drop) = (Server::pg18()?, format!("drop role \"{victim}\""));
    lab.clean().await?;
    server.run("postgres", &drop).await
}

#[tokio::test]
async fn nothing_is_restored_into_what_belongs_to_the_server_or_to_others() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table shop as select 1 as n").await?;
    let point = lab.backup(attempt()).await?;
    for name in ["postgres", "template0", "template1"] {
        let target = RestoreTarget::Database {
            name: name.to_owned(),
        };
        is_refused(
            lab.restore(&point, target).await,
            "target",
            "the server's own",
        )?;
        // Managed services have customers' databases called `postgres`, so a separate URL may name it.
        if name == "postgres" {
            continue;
        }
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
        let url = lab.with_url(|url| url.set_path(name))?.url;
        let sought = Sought::at(&point.manifest_key);
        let done = restore(
            attempt(),
            &lab.resource,
            &job,
            &sought,
            Some(url),
            &lab.worker,
        )
        .await;
        is_refused(done, "target", "the server's own")?;
    }

    let others = Lab::owner(Server::pg18()?).await?;
    others.run("create table secret_plans (a int)").await?;
    let job = |name: &str| Restore {
        point: point.manifest.run_id.0,
        target: RestoreTarget::Database {
            name: name.to_owned(),
        },
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: true,
    };
    let sought = Sought::at(&point.manifest_key);
    let done = restore(
        attempt(),
        &lab.resource,
        &job(&others.name),
        &sought,
        None,
        &lab.worker,
    )
    .await;
    let report = done
        .as_ref()
        .err()
        .map(JobError::report)
        .unwrap_or_default();
    ensure!(!report.contains("secret_plans"), "{report}");
    is_refused(done, "target", "does not belong to the owner")?;

    let own = format!("{}-2", lab.name);
    let empty = format!(
        "create database \"{own}\" owner \"{}\" template template0",
        lab.name
    );
    lab.server.run("postgres", &empty).await?;
    let done = restore(
        attempt(),
        &lab.resource,
        &job(&own),
        &sought,
        None,
        &lab.worker,
    )
    .await;
    ensure!(tables(&done?) == 1);
    others.clean().await?;
    lab.clean().await
}
