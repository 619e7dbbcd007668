//! What a restore brings back, and what it leaves alone.

mod sessions;
mod swaps;
mod tablespaces;

use anyhow::Result;
use lastgood_jobs::{
    attempt::{Attempt, Epoch},
    job::{DropReplaced, Restore, RestoreTarget},
    sought::Sought,
};

use crate::{
    lab::{Lab, Server, attempt, shows_no_secret, tables},
    subject::{drop_replaced, restore},
};

const SHOP: &str = r#"
    create table orders (id bigserial primary key, name text not null, at timestamptz default now());
    insert into orders (name) select 'order ' || n from generate_series(1, 5000) n;
    create table "Odd ""name" (a int) partition by range (a);
    create table part_1 partition of "Odd ""name" for values from (0) to (100);
    insert into "Odd ""name" select n from generate_series(0, 99) n;
    create view recent as select * from orders where id > 10;
    create materialized view totals as select count(*) n from orders;
    create function twice(n int) returns int language sql as 'select n * 2';
    select lo_from_bytea(4242, '\x010203');
    grant select on orders to public;
"#;

/// Returns a text that changes if any of the data changes.
const CHECKSUM: &str = r#"
    select md5(string_agg(row::text, ',' order by row::text)) || ' ' || (select last_value from orders_id_seq)
        || ' ' || (select sum(a) from "Odd ""name") || ' ' || (select n from totals) || ' ' || twice(21)
        || ' ' || encode(lo_get(4242), 'hex') || ' ' || (select count(*) from recent)
        || ' ' || (select relacl::text from pg_class where relname = 'orders')
    from orders as row
"#;

const LIKENESS: &str = "
    select concat_ws(' | ', (select string_agg(a::text, ' ' order by a::text) from unnest(datacl) a), datconnlimit, shobj_description(d.oid, 'pg_database'),
        (select string_agg(setconfig::text, ';' order by setrole) from pg_db_role_setting where setdatabase = d.oid),
        datcollate, pg_encoding_to_char(encoding), pg_get_userbyid(datdba), datistemplate)
    from pg_database d where datname = current_database()";

/// Sets the properties of a database itself, as opposed to its contents.
fn facts(name: &str) -> String {
    format!(
        "alter database \"{name}\" set search_path = public, \"$user\"; alter database \"{name}\" set datestyle = 'ISO, DMY';
         alter database \"{name}\" set role = \"{name}\"; alter database \"{name}\" set application_name = 'a''b;\\c';
         alter role \"{name}\" in database \"{name}\" set work_mem = '5MB'; comment on database \"{name}\" is 'it''s; odd';
         grant temporary on database \"{name}\" to pg_monitor with grant option;
         revoke connect on database \"{name}\" from public; alter database \"{name}\" connection limit 17;
         alter database \"{name}\" is_template true"
    )
}

#[tokio::test]
async fn a_swap_brings_everything_back_and_keeps_what_it_replaced() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let name = lab.name.clone();
    lab.run(SHOP).await?;
    lab.run(&facts(&name)).await?;
    let (sum, likeness) = (lab.ask(CHECKSUM).await?, lab.ask(LIKENESS).await?);
    let point = lab.backup(attempt()).await?;
    lab.run("truncate orders; drop view recent").await?;

    // A session of the application is connected, as it always is in practice.
    let _application = lab.session().await?;
    let run = attempt();
    let restored = lab.restore_as(run, &point, RestoreTarget::Swap {}).await?;
    assert_eq!(lab.ask(CHECKSUM).await?, sum);
    assert_eq!(lab.ask(LIKENESS).await?, likeness);
    assert_eq!(
        (restored.database.as_str(), tables(&restored)),
        (name.as_str(), 3)
    );
    assert_eq!(restored.notes, Vec::<String>::new());
    let kept = restored.kept.clone().unwrap_or_default();
    assert_eq!(
        lab.server
            .ask(&kept, "select count(*)::text from orders")
            .await?,
        "0"
    );
    assert_eq!(
        lab.server.databases_like(&name).await?,
        [name.clone(), kept.clone()]
    );

    // A second delivery finds the work done, and changes nothing.
    lab.run("insert into orders (name) values ('new')").await?;
    let again = lab.restore_as(run, &point, RestoreTarget::Swap {}).await?;
    assert_eq!(again.kept.as_ref(), Some(&kept));
    assert_eq!(lab.ask("select count(*)::text from orders").await?, "5001");

    let other = DropReplaced {
        database: name.clone(),
    };
    let error = drop_replaced(&lab.resource, &other).await.unwrap_err();
    assert_eq!(error.kind().as_str(), "config");
    for _ in 0..2 {
        drop_replaced(
            &lab.resource,
            &DropReplaced {
                database: kept.clone(),
            },
        )
        .await?;
    }
    assert_eq!(lab.server.databases_like(&name).await?, [name.as_str()]);
    let is_none = format!("alter database \"{name}\" is_template false");
    lab.server.run("postgres", &is_none).await?;
    lab.clean().await
}

#[tokio::test]
async fn a_swap_makes_a_database_again_that_is_gone() -> Result<()> {
    let lab = Lab::owner(Server::pg17()?).await?;
    lab.run(SHOP).await?;
    lab.run(&facts(&lab.name)).await?;
    let (sum, likeness) = (lab.ask(CHECKSUM).await?, lab.ask(LIKENESS).await?);
    let point = lab.backup(attempt()).await?;
    let is_none = format!("alter database \"{}\" is_template false", lab.name);
    lab.server.run("postgres", &is_none).await?;
    lab.server
        .run("postgres", &format!("drop database \"{}\"", lab.name))
        .await?;
    let restored = lab.restore(&point, RestoreTarget::Swap {}).await?;
    assert_eq!(restored.kept, None);
    assert_eq!(lab.ask(CHECKSUM).await?, sum);
    // The settings are in the archive, which may be encrypted, and not in the manifest, which never is.
    assert_eq!(lab.ask(LIKENESS).await?, likeness);
    assert_eq!(restored.notes, Vec::<String>::new());
    assert!(!serde_json::to_string(&point.manifest)?.contains("application_name"));
    lab.server.run("postgres", &is_none).await?;
    lab.clean().await
}

#[tokio::test]
async fn a_plain_owner_gets_vectors_back_through_the_template() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    // All tests of this server share it, and it does not affect them.
    let in_template = "select pg_advisory_lock(7); create extension if not exists vector";
    lab.server.run("template1", in_template).await?;
    lab.server
        .run(
            &lab.name,
            "create extension vector; comment on extension vector is 'ours'",
        )
        .await?;
    lab.run("create table items (id int, at vector(3)); insert into items values (1, '[1,2,3]'), (2, '[4,5,6]')").await?;
    lab.run("create index on items using hnsw (at vector_l2_ops)")
        .await?;
    let point = lab.backup(attempt()).await?;
    assert!(serde_json::to_string(&point.manifest)?.contains("\"vector\":\"0."));
    lab.run("drop table items").await?;
    let restored = lab.restore(&point, RestoreTarget::Swap {}).await?;
    assert_eq!(tables(&restored), 1);
    let nearest = "select id::text from items order by at <-> '[4,5,5]' limit 1";
    assert_eq!(lab.ask(nearest).await?, "2");
    lab.clean().await
}

#[tokio::test]
async fn an_extension_that_only_a_superuser_may_bring_is_asked_for() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.server
        .run(&lab.name, "create extension pageinspect")
        .await?;
    let point = lab.backup(attempt()).await?;
    let error = lab
        .restore(&point, RestoreTarget::Swap {})
        .await
        .unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(error.kind().as_str(), "target");
    assert!(
        error.to_string().contains("create extension pageinspect"),
        "{error}"
    );
    lab.has_no_other_database().await?;
    lab.clean().await
}

#[tokio::test]
async fn an_empty_database_is_filled_and_one_that_is_not_is_refused() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    let point = lab.backup(attempt()).await?;
    // A name that would break a connection string.
    let into = format!("{}='x\\ y", lab.name);
    lab.server
        .run(
            "postgres",
            &format!("create database \"{into}\" owner \"{}\"", lab.name),
        )
        .await?;
    let target = RestoreTarget::Database { name: into.clone() };
    let restored = lab.restore(&point, target.clone()).await?;
    assert_eq!(
        (restored.database.as_str(), tables(&restored)),
        (into.as_str(), 3)
    );
    let error = lab.restore(&point, target).await.unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(error.kind().as_str(), "target");
    assert!(
        error
            .to_string()
            .contains("not empty: it has function public.twice, large object 4242"),
        "{error}"
    );

    let missing = RestoreTarget::Database {
        name: format!("{}-none", lab.name),
    };
    let error = lab.restore(&point, missing).await.unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("config", true)
    );
    lab.clean().await
}

#[tokio::test]
async fn a_second_delivery_finds_an_empty_database_filled_by_the_first() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    let point = lab.backup(attempt()).await?;
    let into = format!("{}-2", lab.name);
    let create = format!(
        "create database \"{into}\" owner \"{}\"; comment on database \"{into}\" is 'it''s theirs'",
        lab.name
    );
    for statement in create.split("; ") {
        lab.server.run("postgres", statement).await?;
    }
    let target = RestoreTarget::Database { name: into.clone() };
    let run = attempt();
    let first = lab.restore_as(run, &point, target.clone()).await?;
    assert_eq!(first.notes, Vec::<String>::new());
    lab.server
        .run(&into, "insert into orders (name) values ('new')")
        .await?;
    let again = Attempt {
        epoch: Epoch(2),
        ..run
    };
    let again = lab.restore_as(again, &point, target.clone()).await?;
    assert_eq!(
        (&again.database, tables(&again), again.notes.len()),
        (&first.database, tables(&first), 1)
    );
    let count = "select count(*)::text from orders";
    assert_eq!(lab.server.ask(&into, count).await?, "5001");
    let comment = "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()";
    assert_eq!(
        lab.server.ask(&into, comment).await?,
        format!("it's theirs\ntarget of lastgood run {}", run.run)
    );

    // Another run may not use it, and a database that is not whole never counts as success.
    let error = lab.restore(&point, target.clone()).await.unwrap_err();
    assert!(!error.to_string().contains("attempt"), "{error}");
    lab.server.run(&into, "drop table part_1").await?;
    let again = Attempt {
        epoch: Epoch(3),
        ..run
    };
    let error = lab.restore_as(again, &point, target).await.unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("target", true)
    );
    lab.clean().await
}

#[tokio::test]
async fn who_may_not_mark_a_database_is_told_that_an_earlier_attempt_may_have_filled_it()
-> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table a as select n from generate_series(1, 1000) n")
        .await?;
    let point = lab.backup(attempt()).await?;
    let into = format!("{}-2", lab.name);
    lab.server
        .run("postgres", &format!("create database \"{into}\""))
        .await?;
    let grant = format!("grant all on schema public to \"{}\"", lab.name);
    lab.server.run(&into, &grant).await?;
    let target = RestoreTarget::Database { name: into.clone() };
    let run = attempt();
    lab.restore_as(run, &point, target.clone()).await?;
    let count = "select count(*)::text from a";
    assert_eq!(lab.server.ask(&into, count).await?, "1000");

    let again = Attempt {
        epoch: Epoch(2),
        ..run
    };
    let error = lab.restore_as(again, &point, target).await.unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("target", true)
    );
    assert!(
        error
            .to_string()
            .contains("an earlier attempt of this run may have filled it"),
        "{error}"
    );
    lab.clean().await
}

#[tokio::test]
async fn a_reference_leads_to_another_server_unless_that_is_older() -> Result<()> {
    let lab = Lab::owner(Server::pg17()?).await?;
    let newer = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    newer.run(SHOP).await?;
    let target = RestoreTarget::Reference {
        reference: "env:TARGET".to_owned(),
    };
    let point = lab.backup(attempt()).await?;
    let job = |run_id| Restore {
        point: run_id,
        target: target.clone(),
        no_owner: true,
        no_acl: true,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    };
    newer
        .server
        .run(
            "postgres",
            &format!("create database \"{0}-2\" owner \"{0}\"", newer.name),
        )
        .await?;
    let url = newer
        .with_url(|url| url.set_path(&format!("{}-2", newer.name)))?
        .url;
    let (sought, id) = (Sought::at(&point.manifest_key), point.manifest.run_id);
    restore(
        attempt(),
        &lab.resource,
        &job(id.0),
        &sought,
        Some(url),
        &lab.worker,
    )
    .await?;
    assert_eq!(
        newer
            .server
            .ask(
                &format!("{}-2", newer.name),
                "select count(*)::text from orders"
            )
            .await?,
        "5000"
    );

    let point = newer.backup(attempt()).await?;
    lab.server
        .run(
            "postgres",
            &format!("create database \"{0}-2\" owner \"{0}\"", lab.name),
        )
        .await?;
    let url = lab
        .with_url(|url| url.set_path(&format!("{}-2", lab.name)))?
        .url;
    let (sought, id) = (Sought::at(&point.manifest_key), point.manifest.run_id);
    let refused = restore(
        attempt(),
        &newer.resource,
        &job(id.0),
        &sought,
        Some(url),
        &newer.worker,
    )
    .await;
    let error = refused.unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("target", true),
        "{error}"
    );
    lab.clean().await?;
    newer.clean().await
}

#[tokio::test]
async fn a_restore_in_place_needs_the_word_and_is_all_or_nothing() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run(SHOP).await?;
    let sum = lab.ask(CHECKSUM).await?;
    let point = lab.backup(attempt()).await?;
    lab.run("delete from orders where id > 100; create table later (a int)")
        .await?;

    let other = RestoreTarget::InPlace {
        overwrite: "db-2".parse()?,
        merge: false,
    };
    let error = lab.restore(&point, other).await.unwrap_err();
    assert_eq!(
        (error.kind().as_str(), error.is_permanent()),
        ("config", true)
    );

    // A view that depends on the old table stops the restore, of which nothing may remain.
    lab.run("create view blocker as select * from orders")
        .await?;
    let target = RestoreTarget::InPlace {
        overwrite: "db-1".parse()?,
        merge: false,
    };
    let error = lab.restore(&point, target.clone()).await.unwrap_err();
    assert_eq!(error.kind().as_str(), "restore");
    assert!(error.report().contains("blocker"), "{}", error.report());
    shows_no_secret(&error)?;
    assert_eq!(lab.ask("select count(*)::text from orders").await?, "100");

    lab.run("drop view blocker").await?;
    // A second delivery does it again, with the same outcome.
    let run = attempt();
    for epoch in [1, 2] {
        let attempt = Attempt {
            epoch: Epoch(epoch),
            ..run
        };
        let restored = lab.restore_as(attempt, &point, target.clone()).await?;
        assert_eq!(restored.kept, None);
        assert_eq!(lab.ask(CHECKSUM).await?, sum);
    }
    lab.clean().await
}
