//! A database with one of everything that `pg_dump` knows, and with every extension of its server, comes back equal,
//! into an empty database and by swap.
//!
//! Equal means that `pg_dump` writes the same text for both, schema and data.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::job::RestoreTarget;

use crate::{
    extensions::create_all,
    lab::{Lab, MARKER, Server, attempt, client_dirs},
};

const SCHEMA: &str = include_str!("regression.sql");

/// Returns the whole database as text, without the parts that differ between two dumps of the same database.
fn text_of(major: u32, lab: &Lab, database: &str) -> Result<String> {
    let dirs = client_dirs()?;
    let has_major = |said: &str| said.contains(&format!(") {major}."));
    let dump = dirs
        .iter()
        .map(|dir| dir.join("pg_dump"))
        .find(|tool| {
            let said = Command::new(tool).arg("--version").output();
            said.is_ok_and(|it| has_major(&String::from_utf8_lossy(&it.stdout)))
        })
        .context("name the client directory in LASTGOOD_TEST_PG_CLIENT_DIRS")?;
    let mut url = lab.server.url.clone();
    url.set_path(database);
    let output = Command::new(dump).args(["-d", url.as_str()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).replace(MARKER, "***");
    ensure!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout)?;
    let is_random =
        |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
    let lines = text.lines().filter(|line| !is_random(line));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Checks that two texts are equal, and shows the first line that differs.
fn is_equal(found: &str, expected: &str) -> Result<()> {
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        ensure!(
            found == expected,
            "line {number}:\n  {found}\nand not\n  {expected}"
        );
    }
    ensure!(found == expected, "one is longer than the other");
    Ok(())
}

async fn comes_back_equal(server: Server, major: u32) -> Result<()> {
    let mut lab = Lab::superuser(server).await?;
    // The database has a subscription.
    lab.break_replication = true;
    ensure!(create_all(&lab, "true").await?.len() > 40);
    lab.run(SCHEMA).await?;
    let expected = text_of(major, &lab, &lab.name)?;
    ensure!(expected.lines().count() > 2000, "{expected}");
    let point = lab.backup(attempt()).await?;

    let into = format!("{}-2", lab.name);
    let create = format!(
        "create database \"{into}\" owner \"{}\" template template0",
        lab.name
    );
    lab.server.run("postgres", &create).await?;
    let target = RestoreTarget::Database { name: into.clone() };
    lab.restore(&point, target).await?;
    is_equal(&text_of(major, &lab, &into)?, &expected).context("into an empty database")?;

    lab.run("drop table app.lines, app.shifts; update app.events set note = 'changed'")
        .await?;
    let swapped = lab.restore(&point, RestoreTarget::Swap {}).await?;
    is_equal(&text_of(major, &lab, &lab.name)?, &expected).context("by swap")?;
    let is_of_replication = |note: &String| {
        note.starts_with("subscription sub stays") || note.starts_with("publication ")
    };
    ensure!(
        swapped.notes.iter().all(is_of_replication),
        "{:?}",
        swapped.notes
    );

    // A database with a subscription cannot be dropped.
    for database in [lab.name.clone(), into, swapped.kept.unwrap_or_default()] {
        lab.server.run(&database, "drop subscription sub").await?;
    }
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_pg_dump_of_18_knows_comes_back_equal() -> Result<()> {
    comes_back_equal(Server::pg18()?, 18).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_pg_dump_of_17_knows_comes_back_equal() -> Result<()> {
    comes_back_equal(Server::pg17()?, 17).await
}
