//! The master key is rotated while consumers work, and a process with another key says so at once. `disaster_page.rs` tests losing it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::AuditFilter;
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Row as _};

use super::{
    customer::{Customer, PASSWORD},
    lab::{Lab, MASTER_KEY, PATIENCE},
    program::Said,
    store,
    vault::{Vault, shop},
};
use crate::eventually::eventually;

/// Each is 32 bytes in base64.
pub(super) const NEXT_KEY: &str = "dGhlLW5leHQtbWFzdGVyLWtleS1vZi10aGlzLXRlc3Q=";
const THIRD_KEY: &str = "YS10aGlyZC1tYXN0ZXIta2V5LW5vYm9keS1oYXMtc2U=";
const ROTATE: [&str; 2] = ["key", "rotate-master"];
const MAY_GO: &str = "LASTGOOD_PREVIOUS_MASTER_KEY may be removed";

/// Creates two resources with sealed URLs, a key of a team and one of the platform.
async fn vault() -> Result<(Vault, Customer)> {
    let (vault, shop) = (Vault::create().await?, shop().await?);
    vault.add("a", "alpha", &shop.url()).await?;
    vault.add("b", "beta", &shop.url()).await?;
    vault.key("create", &["--platform"]).await?;
    vault.key("create", &["--team", "alpha"]).await?;
    Ok((vault, shop))
}

/// Sets the next key along with the old one.
fn set_both(lab: &mut Lab) {
    lab.set("LASTGOOD_MASTER_KEY", NEXT_KEY);
    lab.set("LASTGOOD_PREVIOUS_MASTER_KEY", MASTER_KEY);
}

fn set_next_alone(lab: &mut Lab) {
    lab.set("LASTGOOD_MASTER_KEY", NEXT_KEY);
    lab.set("LASTGOOD_PREVIOUS_MASTER_KEY", "");
}

/// Changes one byte of a resource's sealed URL.
async fn alter(lab: &Lab, id: &str) -> Result<()> {
    let statement = "update lastgood.resources
        set connection_sealed = set_byte(connection_sealed, 40, 255 - get_byte(connection_sealed, 40)) where id = $1";
    sqlx::query(statement)
        .bind(id)
        .execute(lab.catalog.pool())
        .await?;
    Ok(())
}

/// The keys' 32 bytes, which are text in these tests.
const BYTES: [&str; 2] = [
    "master-key-master-key-master-key",
    "the-next-master-key-of-this-test",
];

/// Checks that neither a master key nor the customer's password is in anything that was written: logs, files or rows.
pub(super) async fn no_secret_was_written(lab: &Lab) -> Result<()> {
    let secrets = [&[MASTER_KEY, NEXT_KEY, PASSWORD][..], &BYTES].concat();
    let not_in = |place: &str, text: &str| {
        for secret in &secrets {
            let hex: Vec<_> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            ensure!(
                !text.contains(secret) && !text.contains(&hex.concat()),
                "a secret is seen in {place}"
            );
        }
        Ok(())
    };
    let mut logs = 0;
    for file in store::files(&lab.home.path().join("logs"))? {
        let bytes = fs::read(lab.home.path().join("logs").join(&file))?;
        not_in(&file, &String::from_utf8_lossy(&bytes))?;
        logs += 1;
    }
    ensure!(logs > 0, "nothing was said at all");
    for table in [
        "resources",
        "archive_keys",
        "signing_keys",
        "master_keys",
        "audit",
        "runs",
        "consumers",
    ] {
        let question = format!("select t::text as row from lastgood.{table} t");
        for row in sqlx::query(AssertSqlSafe(question))
            .fetch_all(lab.catalog.pool())
            .await?
        {
            not_in(table, &row.try_get::<String, _>("row")?)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_rotation_under_work_reseals_everything_and_then_the_old_key_may_go() -> Result<()> {
    let (mut vault, shop) = vault().await?;
    vault.lab.set("LASTGOOD_LOG", "trace");
    set_both(&mut vault.lab);
    let consumer = vault.lab.consumer("with-both", &[]).await?;
    let old = vault.back_up("a").await?;
    // Before the rotation, the old key seals, so a process that has only this key opens everything.
    vault.add("early", "alpha", &shop.url()).await?;
    let said = vault.lab.run(&["doctor"]).await?.succeeded()?.out;
    ensure!(
        said.contains("the previous master key is number 1"),
        "{said}"
    );

    let said = vault.lab.run(&ROTATE).await?.succeeded()?;
    for told in [
        "master key 2 seals from now on, in place of master key 1",
        "resealed under master key 2: 3 URLs, 2 archive keys",
        MAY_GO,
    ] {
        ensure!(said.out.contains(told), "{told}: {said:?}");
    }
    let again = vault.lab.run(&ROTATE).await?.succeeded()?;
    ensure!(
        again.out.contains("0 URLs, 0 archive keys") && again.out.contains(MAY_GO),
        "{again:?}"
    );
    vault.add("late", "beta", &shop.url()).await?;
    vault.back_up("b").await?;
    drop(consumer);

    set_next_alone(&mut vault.lab);
    let _consumer = vault.lab.consumer("with-the-next", &[]).await?;
    for id in ["a", "b", "early", "late"] {
        vault.back_up(id).await?;
    }
    ensure!(vault.restore("a", &old, &shop).await? == "1000");
    vault.lab.run(&["doctor"]).await?.succeeded()?;
    let audited = vault
        .lab
        .catalog
        .catalog
        .audited(&AuditFilter::newest(20))
        .await?;
    let rotations = audited.iter().filter(|it| it.action == "rotate_master_key");
    ensure!(rotations.count() == 2, "{audited:?}");
    no_secret_was_written(&vault.lab).await
}

#[tokio::test]
async fn a_rotation_does_not_begin_while_a_consumer_lacks_the_next_key() -> Result<()> {
    let (mut vault, shop) = vault().await?;
    let mut consumer = vault.lab.consumer("with-the-old", &[]).await?;
    set_both(&mut vault.lab);
    let refused = vault.lab.run(&ROTATE).await?.refused()?;
    ensure!(
        refused.contains("1 live consumer without the new master key"),
        "{refused}"
    );
    // What is registered in the meantime must open for that consumer.
    vault.add("meanwhile", "beta", &shop.url()).await?;
    vault.back_up("meanwhile").await?;
    consumer.signal("TERM")?;
    ensure!(consumer.exit().await?.success());
    vault.lab.run(&ROTATE).await?.succeeded()?;
    Ok(())
}

#[tokio::test]
async fn a_rotation_names_each_row_that_it_cannot_seal_and_keeps_the_old_key_until_then()
-> Result<()> {
    let (mut vault, shop) = vault().await?;
    for id in ["altered", "refused", "gone"] {
        vault.add(id, "beta", &shop.url()).await?;
    }
    vault
        .lab
        .run(&["resource", "remove", "gone"])
        .await?
        .succeeded()?;
    for id in ["altered", "gone"] {
        alter(&vault.lab, id).await?;
    }
    vault
        .lab
        .catalog
        .execute(
            "alter table lastgood.resources add constraint poison check (id <> 'refused' or sealed_under = 1)",
        )
        .await?;
    set_both(&mut vault.lab);
    let rotate = async |lab: &Lab| -> Result<Said> { lab.run(&ROTATE).await };
    let said = rotate(&vault.lab).await?;
    ensure!(said.code == Some(1), "{said:?}");
    for told in [
        "2 URLs, 2 archive keys",
        "LEFT: no key here opens the URL of altered: set it again with `lastgood resource set altered --url-stdin`",
        "LEFT: the catalog refuses to change the resource refused",
        "not needed: 1 URL of removed resources that no key here opens",
        "KEEP LASTGOOD_PREVIOUS_MASTER_KEY: some secrets are still sealed under another key: under master key 1, 2 URLs",
    ] {
        ensure!(said.out.contains(told), "{told}: {said:?}");
    }
    ensure!(!said.out.contains(MAY_GO), "{said:?}");

    vault
        .lab
        .catalog
        .execute("alter table lastgood.resources drop constraint poison")
        .await?;
    vault
        .lab
        .run_with_input(&["resource", "set", "altered", "--url-stdin"], &shop.url())
        .await?
        .succeeded()?;
    let said = rotate(&vault.lab).await?.succeeded()?;
    ensure!(
        said.out.contains("1 URL, 0 archive keys") && said.out.contains(MAY_GO),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_rotation_that_was_killed_goes_on_where_it_was() -> Result<()> {
    let (mut vault, shop) = vault().await?;
    set_both(&mut vault.lab);
    // A locked row stops the rotation half way: the new key seals, but nothing has been resealed yet.
    let mut holding = vault.lab.catalog.pool().begin().await?;
    sqlx::query("select id from lastgood.resources where id = 'b' for update")
        .fetch_all(&mut *holding)
        .await?;
    let mut rotation = vault.lab.start("rotation", &ROTATE)?;
    let begun = "select count(*) from lastgood.master_keys where number = 2 and seals";
    eventually(PATIENCE, "the rotation has begun", async || {
        Ok(vault.lab.catalog.count(begun).await? == 1)
    })
    .await?;
    rotation.kill()?;
    holding.rollback().await?;

    // Processes with both keys continue to work, and the next rotation completes the interrupted one.
    let _consumer = vault.lab.consumer("with-both", &[]).await?;
    vault.back_up("b").await?;
    let said = vault.lab.run(&ROTATE).await?.succeeded()?;
    ensure!(said.out.contains(MAY_GO), "{said:?}");
    vault.add("c", "beta", &shop.url()).await?;
    let under = "select count(*) from lastgood.resources where sealed_under <> 2";
    ensure!(vault.lab.catalog.count(under).await? == 0);
    Ok(())
}

#[tokio::test]
async fn what_is_being_stored_under_the_old_key_is_waited_for_and_counted() -> Result<()> {
    let (mut vault, _shop) = vault().await?;
    let mut storing = vault.lab.catalog.pool().begin().await?;
    sqlx::query(
        "insert into lastgood.resources (id, team, tier, engine, connection_sealed)
         select 'slow', 'alpha', 'free', 'vector', connection_sealed from lastgood.resources where id = 'a'",
    )
    .execute(&mut *storing)
    .await?;
    set_both(&mut vault.lab);
    let mut rotation = vault.lab.start("rotation", &ROTATE)?;
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%master_keys%'";
    eventually(PATIENCE, "the rotation waits", async || {
        Ok(vault.lab.catalog.count(waits).await? == 1)
    })
    .await?;
    storing.commit().await?;
    // The row was sealed for another resource, so that no key opens it. It is there to be counted.
    let ended = rotation.exit().await?;
    ensure!(ended.code() == Some(1), "{}", rotation.log()?);
    let log = rotation.log()?;
    ensure!(
        log.contains("LEFT: no key here opens the URL of slow"),
        "{log}"
    );
    let late = "insert into lastgood.resources (id, team, tier, engine, connection_sealed)
        values ('late', 'alpha', 'free', 'vector', '\\x01')";
    let refused = vault.lab.catalog.execute(late).await;
    ensure!(refused.is_err(), "something was stored under the old key");
    Ok(())
}

#[tokio::test]
async fn a_process_with_another_master_key_says_so_and_does_not_start() -> Result<()> {
    let (mut vault, shop) = vault().await?;
    vault.lab.set("LASTGOOD_MASTER_KEY", THIRD_KEY);
    let why = "is not the key that sealed this catalog: set master key 1";
    for args in [&["consumer"][..], &["api"]] {
        let mut service = vault.lab.start(&format!("wrong-{}", args.concat()), args)?;
        ensure!(service.exit().await?.code() == Some(1), "{args:?}");
        let log = service.log()?;
        ensure!(log.contains(why), "{log}");
    }
    let refused = vault
        .lab
        .run_with_input(&["resource", "set", "a", "--url-stdin"], &shop.url())
        .await?
        .refused()?;
    ensure!(refused.contains(why), "{refused}");
    for args in [&["key", "create", "--team", "beta"][..], &ROTATE] {
        let refused = vault.lab.run(args).await?.refused()?;
        ensure!(refused.contains(why), "{refused}");
    }
    let doctor = vault.lab.run(&["doctor"]).await?;
    let line = doctor.out.lines().find(|line| line.contains(why));
    ensure!(
        line.is_some_and(|line| line.starts_with("FAIL keys")),
        "{doctor:?}"
    );
    let keys = "select count(*) from lastgood.master_keys";
    ensure!(vault.lab.catalog.count(keys).await? == 1);

    // After a rotation, a process with only the old key is told that it has been replaced.
    set_both(&mut vault.lab);
    vault.lab.run(&ROTATE).await?.succeeded()?;
    vault.lab.set("LASTGOOD_MASTER_KEY", MASTER_KEY);
    vault.lab.set("LASTGOOD_PREVIOUS_MASTER_KEY", "");
    let mut service = vault.lab.start("old", &["consumer"])?;
    ensure!(service.exit().await?.code() == Some(1));
    let log = service.log()?;
    ensure!(
        log.contains("master key 1, which master key 2 has replaced"),
        "{log}"
    );
    vault.lab.set("LASTGOOD_MASTER_KEY", "");
    vault.lab.set("LASTGOOD_PREVIOUS_MASTER_KEY", MASTER_KEY);
    let refused = vault.lab.run(&ROTATE).await?.refused()?;
    ensure!(
        refused.contains("LASTGOOD_MASTER_KEY is not") && !refused.contains(MASTER_KEY),
        "{refused}"
    );
    no_secret_was_written(&vault.lab).await
}

#[tokio::test]
async fn a_catalog_from_before_there_were_proofs_takes_the_key_that_opens_it_and_no_other()
-> Result<()> {
    let (mut vault, _shop) = vault().await?;
    vault
        .lab
        .catalog
        .execute("update lastgood.master_keys set proof = null")
        .await?;
    vault.lab.set("LASTGOOD_MASTER_KEY", THIRD_KEY);
    let mut service = vault.lab.start("wrong", &["consumer"])?;
    ensure!(service.exit().await?.code() == Some(1));
    let log = service.log()?;
    ensure!(
        log.contains("is not the key that sealed this catalog"),
        "{log}"
    );
    vault.lab.set("LASTGOOD_MASTER_KEY", MASTER_KEY);
    let _consumer = vault.lab.consumer("right", &[]).await?;
    let proven = "select count(*) from lastgood.master_keys where proof is not null";
    ensure!(vault.lab.catalog.count(proven).await? == 1);
    Ok(())
}

/// A key that was only tried once, with nothing sealed under it, can be replaced by another.
#[tokio::test]
async fn a_catalog_in_which_nothing_is_sealed_takes_another_key_when_nobody_has_the_first()
-> Result<()> {
    let mut lab = Lab::create().await?;
    let mut first = lab.consumer("first", &[]).await?;
    lab.set("LASTGOOD_MASTER_KEY", NEXT_KEY);
    let mut second = lab.start("second", &["consumer"])?;
    ensure!(second.exit().await?.code() == Some(1));
    first.signal("TERM")?;
    ensure!(first.exit().await?.success());
    let _third = lab.consumer("third", &[]).await?;
    let shop = shop().await?;
    lab.add("shop", &shop).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    Ok(())
}

#[tokio::test]
async fn a_recovery_that_recovers_nothing_says_why_and_fails() -> Result<()> {
    let mut vault = Vault::create().await?;
    let file = vault.lab.home.path().join("recovery.txt");
    fs::write(&file, vault.recovery.to_line().expose_secret())?;
    let file = file.display().to_string();
    let recover = ["key", "recover", "--identity-file", &file];
    // Starting a consumer creates the store.
    drop(vault.lab.consumer("consumer", &[]).await?);
    let said = vault.lab.run(&recover).await?;
    ensure!(
        said.code == Some(1) && said.out.contains("no store here holds an escrow"),
        "{said:?}"
    );
    vault.key("create", &["--platform"]).await?;
    let said = vault.lab.run(&recover).await?;
    ensure!(
        said.code == Some(1) && said.out.contains("is on record already, and opens"),
        "{said:?}"
    );
    // With another master key, the keys on record do not open, and the error names the command that helps.
    vault.lab.set("LASTGOOD_MASTER_KEY", NEXT_KEY);
    let refused = vault.lab.run(&recover).await?.refused()?;
    ensure!(refused.contains("lastgood key reseal"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_key_is_given_up_only_by_its_number_and_while_nobody_alive_has_it() -> Result<()> {
    let (mut vault, _shop) = vault().await?;
    let file = vault.lab.home.path().join("recovery.txt");
    fs::write(&file, vault.recovery.to_line().expose_secret())?;
    let file = file.display().to_string();
    let reseal = ["key", "reseal", "--identity-file", &file];
    let with = |more: &[&'static str]| [&reseal[..], more].concat();
    let mut consumer = vault.lab.consumer("with-the-old", &[]).await?;
    vault.lab.set("LASTGOOD_MASTER_KEY", NEXT_KEY);
    for (args, why) in [
        (with(&[]), "confirm with --lost 1"),
        (
            with(&["--lost", "2"]),
            "master key 1 seals this catalog, not 2",
        ),
        (
            with(&["--lost", "1"]),
            "master key 1 is not lost: live consumers have it",
        ),
    ] {
        let refused = vault.lab.run(&args).await?.refused()?;
        ensure!(refused.contains(why), "{refused}");
    }
    consumer.signal("TERM")?;
    ensure!(consumer.exit().await?.success());
    vault.lab.set("LASTGOOD_PREVIOUS_MASTER_KEY", MASTER_KEY);
    let refused = vault.lab.run(&with(&["--lost", "1"])).await?.refused()?;
    ensure!(refused.contains("lastgood key rotate-master"), "{refused}");
    let given_up = "select count(*) from lastgood.audit where action = 'give_up_master_key'";
    ensure!(vault.lab.catalog.count(given_up).await? == 0);

    // One key no longer has an escrow: the others are recovered, and that one is named.
    vault.lab.set("LASTGOOD_PREVIOUS_MASTER_KEY", "");
    let keys = vault.lab.catalog.catalog.keys().await?;
    let lost = keys.last().context("no key")?;
    let escrow = lastgood_jobs::escrow::object(lost.id);
    fs::remove_file(vault.objects().join(&escrow))?;
    let said = vault.lab.run(&with(&["--lost", "1"])).await?;
    let left = format!("LEFT: archive key {} of team alpha", lost.id);
    ensure!(
        said.code == Some(1)
            && said
                .out
                .contains(": 1 archive key; opened without an escrow")
            && said.out.contains(&left),
        "{said:?}"
    );
    ensure!(vault.lab.catalog.count(given_up).await? == 1);

    // The lost key is found after all. As the previous key, it opens the rest, including URLs.
    vault.lab.set("LASTGOOD_PREVIOUS_MASTER_KEY", MASTER_KEY);
    let said = vault.lab.run(&ROTATE).await?.succeeded()?;
    ensure!(
        said.out.contains("2 URLs, 1 archive key") && said.out.contains(MAY_GO),
        "{said:?}"
    );
    set_next_alone(&mut vault.lab);
    let _consumer = vault.lab.consumer("with-the-next", &[]).await?;
    vault.back_up("a").await?;
    let doctor = vault.lab.run(&["doctor"]).await?.out;
    ensure!(doctor.contains("lacks the escrows of 1 of"), "{doctor}");
    Ok(())
}
