//! How fast is a backup compared with the bare tool? Run by hand, in release mode:
//! `LASTGOOD_TEST_ROWS=10000000 cargo test --release -p lastgood-jobs --test real_servers -- --ignored --nocapture`

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::job::RestoreTarget;

use crate::lab::{Lab, Server, attempt, client_dirs};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; a measurement, not a claim"]
#[expect(clippy::print_stderr, reason = "its purpose is to print")]
async fn a_backup_takes_little_longer_than_the_bare_dump() -> Result<()> {
    let rows: u64 =
        std::env::var("LASTGOOD_TEST_ROWS").map_or(Ok(1_000_000), |rows| rows.parse())?;
    let lab = Lab::superuser(Server::pg18()?).await?;
    // Like pgbench's accounts.
    let accounts = format!(
        "create table accounts as select n aid, n / 100000 bid, 0 abalance, rpad('', 84) filler from generate_series(1, {rows}) n"
    );
    lab.run(&accounts).await?;
    let mut url = lab.server.url.clone();
    url.set_path(&lab.name);
    let dirs = client_dirs()?;
    let newest = dirs.first().context("no client directory")?;
    for round in 1..=3 {
        let began = Instant::now();
        let bare = Command::new(newest.join("pg_dump"))
            .args(["-Fc", "-Z0", "-d", url.as_str()])
            .stdout(Stdio::null())
            .status()?;
        ensure!(
            bare.success(),
            "pg_dump failed: the first client directory must be of 18"
        );
        let bare = began.elapsed();
        let began = Instant::now();
        let point = lab.backup(attempt()).await?;
        let ours = began.elapsed();
        let (dump, archive) = (
            point.manifest.dump.size_bytes,
            point.manifest.archive.size_bytes,
        );
        eprintln!(
            "round {round}: pg_dump {bare:.2?}, backup {ours:.2?}, {dump} bytes, {archive} stored"
        );
        if round == 3 {
            let began = Instant::now();
            lab.restore(&point, RestoreTarget::Swap {}).await?;
            eprintln!("restore by swap {:.2?}", began.elapsed());
        }
    }
    lab.clean().await
}
