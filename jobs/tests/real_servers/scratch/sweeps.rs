//! A sweep removes what a killed process left, and nothing of one that is alive.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::scratch::sweep;
use rstest::rstest;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::lab::{Kind, Place, processes_in, space, start};

/// Tells the child process where to start a server, and which.
const TOLD: &str = "LASTGOOD_TEST_SCRATCH_IN";
/// What it says when the server runs.
const RUNS: &str = "the scratch server runs";

#[rstest]
#[case::postgres(Kind::Postgres)]
#[case::mongodb(Kind::Mongodb)]
#[case::redis(Kind::Redis)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_is_removed_and_a_live_server_stays(
    #[case] kind: Kind,
) -> Result<()> {
    let place = Place::new()?;
    let live = start(Kind::Redis, &place.space).await?;
    let told = serde_json::to_string(&(format!("{kind:?}"), &place.space.dir))?;
    let mut owner = tokio::process::Command::new(std::env::current_exe()?)
        .args([
            "--exact",
            "scratch::sweeps::starts_what_another_test_asks_for",
            "--nocapture",
        ])
        .env(TOLD, told)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(owner.stdout.take().context("its output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains(RUNS) {
            break;
        }
    }
    let mine = processes_of(&place, &live)?;
    ensure!(place.processes()?.len() > mine, "the other's server runs");
    ensure!(
        sweep(&place.space.dir).await?.removed == 0,
        "a sweep took a live one"
    );
    owner.kill().await?;
    ensure!(
        place.processes()?.len() > mine,
        "the server outlives its owner"
    );
    let swept = sweep(&place.space.dir).await?;
    ensure!((swept.removed, swept.failed) == (1, 0), "{swept:?}");
    ensure!(place.processes()?.len() == mine, "processes are left");
    ensure!(
        std::fs::read_dir(&place.space.dir)?.count() == 1,
        "files are left"
    );
    ensure!(sweep(&place.space.dir).await?.removed == 0);
    let mut session = redis::Client::open(live.url().expose_secret())?
        .get_multiplexed_async_connection()
        .await?;
    redis::cmd("PING").exec_async(&mut session).await?;
    live.stop().await?;
    place.is_empty().await
}

fn processes_of(place: &Place, _live: &lastgood_jobs::scratch::Scratch) -> Result<usize> {
    let mut counts = Vec::new();
    for entry in std::fs::read_dir(&place.space.dir)? {
        counts.push(processes_in(&entry?.path())?.len());
    }
    // Redis has one process, and every other server at least that.
    counts
        .into_iter()
        .min()
        .context("the live server has a directory")
}

/// The owner's half of the test above. Does nothing unless it has a server to start.
#[tokio::test(flavor = "multi_thread")]
async fn starts_what_another_test_asks_for() -> Result<()> {
    let Ok(told) = std::env::var(TOLD) else {
        return Ok(());
    };
    let (kind, dir): (String, PathBuf) = serde_json::from_str(&told)?;
    let kinds = [Kind::Postgres, Kind::Mongodb, Kind::Redis];
    let kind = kinds
        .into_iter()
        .find(|it| format!("{it:?}") == kind)
        .context("a kind")?;
    let _server = start(kind, &space(&dir)).await?;
    // Past the test runner.
    std::io::Write::write_all(&mut std::io::stdout(), format!("{RUNS}\n").as_bytes())?;
    // Until it is killed.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    Ok(())
}

#[tokio::test]
async fn other_files_and_missing_directories_are_left_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("theirs"))?;
    std::fs::create_dir(dir.path().join(".lastgood-drill-begun"))?;
    std::fs::create_dir(dir.path().join("lastgood-drill-half-removed"))?;
    ensure!(sweep(dir.path()).await?.removed == 1);
    ensure!(dir.path().join("theirs").exists());
    ensure!(dir.path().join(".lastgood-drill-begun").exists());
    ensure!(sweep(&dir.path().join("nowhere")).await?.removed == 0);
    Ok(())
}
