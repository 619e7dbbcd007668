//! Checks the scanner of dumps against the output of each version's real `pg_dump`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::format::pg_dump::{FormatError, Keep, Scanner, Summary};
use url::Url;

use crate::lab::{Lab, MARKER, Server, client_dirs};

/// One of every kind of object that a table of contents can hold.
const EVERYTHING: &str = r#"
    create schema s;
    create type s.mood as enum ('ok', 'sad');
    create table s.plain (id serial primary key, mood s.mood default 'ok', note text);
    insert into s.plain (note) select 'note ' || n from generate_series(1, 40) n;
    create table empty (a int);
    create table parted (a int) partition by list (a);
    create table parted_1 partition of parted for values in (1);
    insert into parted values (1), (1);
    create unlogged table hasty as select 1 a;
    create view v as select * from s.plain;
    create materialized view m as select count(*) from s.plain;
    create sequence lonely;
    create function f() returns trigger language plpgsql as 'begin return new; end';
    create trigger t before insert on s.plain for each row execute function f();
    alter table s.plain enable row level security;
    create policy p on s.plain using (true);
    comment on table s.plain is 'a comment; with "quotes"';
    grant select on s.plain to public;
    select lo_from_bytea(1001, '\x00'), lo_from_bytea(1002, decode(repeat('ab', 5000), 'hex')), lo_create(1003);
"#;

fn scan(bytes: &[u8], piece: usize) -> Result<Summary, FormatError> {
    let mut scanner = Scanner::new(Keep::Nothing);
    for piece in bytes.chunks(piece) {
        scanner.feed(piece)?;
    }
    scanner.finish()
}

fn dump(major: u32, url: &Url, database: &str) -> Result<Vec<u8>> {
    let is_it = |dir: &std::path::PathBuf| {
        let said = Command::new(dir.join("pg_dump")).arg("--version").output();
        said.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains(&format!(") {major}.")))
    };
    let dir = client_dirs()?.into_iter().find(is_it);
    let dir =
        dir.with_context(|| format!("no client of {major} in LASTGOOD_TEST_PG_CLIENT_DIRS"))?;
    let mut url = url.clone();
    url.set_path(database);
    let output = Command::new(dir.join("pg_dump"))
        .args(["-Fc", "-Z0", "-d", url.as_str()])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).replace(MARKER, "***")
    );
    Ok(output.stdout)
}

async fn every_cut_is_noticed(server: Server, major: u32) -> Result<()> {
    let lab = Lab::superuser(server).await?;
    let empty = dump(major, &lab.server.url, &lab.name)?;
    assert_eq!(scan(&empty, 4096)?.tables, 0);
    assert!(
        empty.len() > 512,
        "the floor is too high for {} bytes",
        empty.len()
    );
    lab.run(EVERYTHING).await?;
    let whole = dump(major, &lab.server.url, &lab.name)?;
    for piece in [1, 3, 64, 4096, 1 << 20] {
        let summary = scan(&whole, piece)?;
        assert_eq!(summary.tables, 5);
        assert!(summary.dump_version.starts_with(&major.to_string()));
        assert!(summary.server_version.starts_with(&major.to_string()));
    }
    for end in 0..whole.len() {
        assert!(
            scan(whole.get(..end).unwrap_or_default(), 1 << 20).is_err(),
            "cut at {end} of {}",
            whole.len()
        );
    }
    assert!(scan(&[&whole[..], b"\0"].concat(), 4096).is_err());

    let mut scanner = Scanner::new(Keep::Entries);
    scanner.feed(&whole)?;
    let (summary, entries) = scanner.into_contents();
    assert_eq!(summary.entries, entries.len() as u64);
    let plain = entries
        .iter()
        .find(|it| it.kind == "TABLE" && it.tag == "plain")
        .context("s.plain")?;
    assert_eq!(plain.namespace, "s");
    lab.clean().await
}

#[tokio::test]
async fn a_dump_of_18_cut_at_any_byte_is_noticed() -> Result<()> {
    every_cut_is_noticed(Server::pg18()?, 18).await
}

#[tokio::test]
async fn a_dump_of_17_cut_at_any_byte_is_noticed() -> Result<()> {
    every_cut_is_noticed(Server::pg17()?, 17).await
}
