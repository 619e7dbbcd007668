//! A fault is explained usefully, leaves no restore point and no object, and holds up no one else.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use lastgood::{nouns::Run, run::RunState};

use super::{
    customer::{Customer, PASSWORD, Rights},
    gate::{FakeTools, LARGE_TABLE},
    lab::{Lab, PATIENCE, client_dirs, free_port},
    program::Service,
    store,
};
use crate::eventually::eventually;

const FAILED: &str = "lastgood_runs_total{engine=\"vector\",kind=\"backup\",result=\"failed\"}";
const SUCCEEDED: &str =
    "lastgood_runs_total{engine=\"vector\",kind=\"backup\",result=\"succeeded\"}";

/// Checks that a run failed for this reason, and that `run show` says so.
pub(super) async fn says_why(lab: &Lab, row: &Run, kind: &str, words: &str) -> Result<()> {
    ensure!(row.state == RunState::Failed, "{row:?}");
    assert_eq!(row.error_kind.as_deref(), Some(kind), "{row:?}");
    let shown = lab
        .run(&["run", "show", &row.id.to_string()])
        .await?
        .succeeded()?
        .out;
    ensure!(shown.contains(&format!("error     {kind}: ")), "{shown}");
    ensure!(shown.contains(words), "{words:?} is not in {shown}");
    Ok(())
}

/// Makes a backup attempt that fails for this reason and leaves nothing behind.
pub(super) async fn fails(lab: &Lab, queue: &str, id: &str, kind: &str, words: &str) -> Result<()> {
    let run = lab.enqueue_single_attempt(queue, id).await?;
    says_why(lab, &lab.ends(run).await?, kind, words).await?;
    lab.has_points(0).await?;
    Ok(())
}

/// Backs up after the fault is fixed, and checks the number of restore points.
pub(super) async fn goes_on(lab: &Lab, queue: &str, id: &str, points: usize) -> Result<()> {
    let run = lab.enqueue_single_attempt(queue, id).await?;
    lab.succeeds(run).await?;
    lab.has_points(points).await?;
    Ok(())
}

#[tokio::test]
async fn customers_that_cannot_be_reached_are_told_of_and_hold_up_nobody() -> Result<()> {
    let (lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    let nobody = free_port()?;
    let wrong = [
        ("refused", shop.url_with(shop.port(), "wrong", &shop.name)),
        ("gone", shop.url_of("e2e_nowhere")),
        ("down", shop.url_with(nobody, PASSWORD, &shop.name)),
    ];
    for (id, url) in &wrong {
        lab.add_url(id, "pro", url).await?;
    }
    lab.add_url("good", "pro", &shop.url()).await?;
    let producer = lab.producer()?;
    eventually(PATIENCE, "all four are enqueued", async || {
        Ok(lab.runs().await?.len() == 4)
    })
    .await?;
    lab.catalog
        .execute("update lastgood.runs set max_attempts = 1")
        .await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    eventually(PATIENCE, "all four have ended", async || {
        Ok(lab.runs().await?.iter().all(|it| it.state.has_ended()))
    })
    .await?;

    for row in lab.runs().await? {
        match row.resource.as_str() {
            "refused" => says_why(&lab, &row, "auth", "password authentication failed").await?,
            "gone" => says_why(&lab, &row, "config", "\"e2e_nowhere\" does not exist").await?,
            "down" => says_why(&lab, &row, "connect", "could not be reached").await?,
            _ => assert_eq!(
                (row.resource.as_str(), row.state.as_str()),
                ("good", "succeeded")
            ),
        }
    }
    let points = lab.has_points(1).await?;
    assert_eq!(
        points.first().map(|point| point.resource_id.as_str()),
        Some("good")
    );
    are_shown(&lab, &producer, &consumer).await
}

/// Checks that the faults show up in `status` and in the metrics.
async fn are_shown(lab: &Lab, producer: &Service, consumer: &Service) -> Result<()> {
    let status = lab.run(&["--json", "status"]).await?.succeeded()?.json()?;
    let resources = status
        .get("resources")
        .and_then(serde_json::Value::as_array);
    for resource in resources.context("no resources")? {
        let is_good = resource.get("id") == Some(&"good".into());
        let failures = i32::from(!is_good);
        assert_eq!(
            resource.get("failures_in_a_row"),
            Some(&failures.into()),
            "{resource}"
        );
        assert_eq!(
            resource
                .get("newest_consistent_at")
                .map(serde_json::Value::is_null),
            Some(!is_good),
            "{resource}"
        );
    }
    assert_eq!(status.pointer("/tiers/0/never_backed_up"), Some(&3.into()));
    consumer.shows(FAILED, 3.0).await?;
    consumer.shows(SUCCEEDED, 1.0).await?;
    producer
        .shows("lastgood_never_backed_up_resources{tier=\"pro\"}", 3.0)
        .await
}

#[tokio::test]
async fn a_dump_that_is_cut_short_is_none_although_its_tool_says_success() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table orders as select n from generate_series(1, 1000) n")
        .await?;
    lab.add("shop", &shop).await?;
    let tools = FakeTools::new(
        "if [ -e $GATE ]; then exec $REAL \"$@\"; fi; $REAL \"$@\" | /usr/bin/head -c -2000; exit 0",
    )?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    let consumer = lab.consumer("consumer", &[]).await?;
    fails(
        &lab,
        "vector",
        "shop",
        "dump",
        "the dump is not whole, although no step reported a failure",
    )
    .await?;
    consumer.shows(FAILED, 1.0).await?;
    tools.open()?;
    goes_on(&lab, "vector", "shop", 1).await
}

#[tokio::test]
async fn a_tool_that_vanished_is_named() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    lab.add("shop", &shop).await?;
    let tools = FakeTools::new("exec $REAL \"$@\"")?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    let _consumer = lab.consumer("consumer", &[]).await?;
    let (here, away) = (
        Path::new(&tools.path()).join("pg_dump"),
        Path::new(&tools.path()).join("away"),
    );
    std::fs::rename(&here, &away)?;
    fails(
        &lab,
        "vector",
        "shop",
        "tool",
        &format!("cannot start {}", here.display()),
    )
    .await?;
    std::fs::rename(&away, &here)?;
    goes_on(&lab, "vector", "shop", 1).await
}

#[tokio::test]
async fn without_a_tool_of_the_servers_version_the_version_is_named() -> Result<()> {
    let usual = [
        "/usr/lib/postgresql/18/bin/pg_dump",
        "/usr/pgsql-18/bin/pg_dump",
    ];
    if usual.iter().any(|path| Path::new(path).exists()) {
        // A consumer always searches these places. The tests of `jobs` cover the rule.
        skipped("this machine has pg_dump 18 in one of the usual places");
        return Ok(());
    }
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    lab.add("shop", &shop).await?;
    let empty = lab.home.path().join("empty").display().to_string();
    std::fs::create_dir(&empty)?;
    lab.set("PATH", empty.clone());
    lab.set("LASTGOOD_PG_CLIENT_DIRS", empty);
    let without = lab.consumer("without", &[]).await?;
    fails(
        &lab,
        "vector",
        "shop",
        "tool",
        "no pg_dump of major version 18 for this server",
    )
    .await?;
    drop(without);
    lab.set("LASTGOOD_PG_CLIENT_DIRS", client_dirs()?);
    let _with = lab.consumer("with", &[]).await?;
    goes_on(&lab, "vector", "shop", 1).await
}

/// Writes to the real standard error, because the test runner hides the output of tests that pass.
pub(crate) fn skipped(why: &str) {
    drop(writeln!(std::io::stderr(), "SKIPPED: {why}"));
}

/// A small file system that is unmounted when the value is dropped.
pub(super) struct Tiny(String);

impl Tiny {
    /// Returns `None`, and reports a skip, if only root could mount it and this user is not root.
    pub(super) fn mount(at: &Path) -> Result<Option<Self>> {
        std::fs::create_dir_all(at)?;
        let tiny = Self(at.display().to_string());
        match tiny.run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs"]) {
            Err(_) if std::fs::metadata("/proc/self")?.uid() != 0 => {
                skipped("a full store: only root can mount one");
                Ok(None)
            }
            mounted => mounted.map(|()| Some(tiny)),
        }
    }

    pub(super) fn grow(&self) -> Result<()> {
        self.run("mount", &["-o", "remount,size=200m"])
    }

    fn run(&self, command: &str, args: &[&str]) -> Result<()> {
        let status = Command::new(command).args(args).arg(&self.0).status()?;
        ensure!(status.success(), "{command} {args:?} failed");
        Ok(())
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        drop(self.run("umount", &["-l"]));
    }
}

#[tokio::test]
async fn a_full_store_is_said_to_be_full_and_keeps_nothing() -> Result<()> {
    let lab = Lab::create().await?;
    let Some(store) = Tiny::mount(&lab.store())? else {
        return Ok(());
    };
    let shop = Customer::create(Rights::Owner).await?;
    shop.run(LARGE_TABLE).await?;
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    fails(&lab, "vector", "shop", "storage", "the store is full").await?;
    store.grow()?;
    goes_on(&lab, "vector", "shop", 1).await
}

/// The same database on a tier without a limit is backed up.
#[tokio::test]
async fn a_dump_that_is_larger_than_its_tier_allows_fails_for_good_and_keeps_nothing() -> Result<()>
{
    let (lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table orders as select n, md5(n::text) from generate_series(1, 50000) n")
        .await?;
    lab.add_url("limited", "free", &shop.url()).await?;
    lab.add_url("unlimited", "pro", &shop.url()).await?;
    lab.catalog
        .execute(
            "insert into lastgood.dump_limits (tier, maximum_dump_bytes) values ('free', 1000000)",
        )
        .await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("limited").await?;
    let row = lab.ends(run).await?;
    says_why(&lab, &row, "config", "maximum_dump_gib").await?;
    // Only one attempt: trying again would change nothing.
    ensure!(row.attempt == 1 && row.max_attempts > 1, "{row:?}");
    lab.has_points(0).await?;
    goes_on(&lab, "vector", "unlimited", 1).await
}

#[tokio::test]
async fn a_flipped_bit_is_found_before_the_target_is_touched() -> Result<()> {
    let (lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table orders as select n from generate_series(1, 1000) n")
        .await?;
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(lab.enqueue_backup("shop").await?).await?;
    let points = lab.has_points(1).await?;
    let archive = store::archive(&lab.store(), points.first().context("no restore point")?)?;
    let mut bytes = std::fs::read(&archive)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("empty")? ^= 1;
    std::fs::write(&archive, bytes)?;

    shop.run("insert into orders values (1001)").await?;
    let point = points.first().context("no restore point")?.id.to_string();
    // By its id, because the first failure quarantines the point and requests a backup to replace it.
    let damaged = [
        "restore",
        "shop",
        "--wait",
        "--point",
        &point,
        "--even-quarantined",
    ];
    let in_place = [&damaged[..], &["--in-place", "--overwrite", "shop"]].concat();
    for args in [&damaged[..], &in_place] {
        let said = lab.run(args).await?;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.out.contains("corrupt: the archive"), "{said:?}");
    }
    assert_eq!(shop.ask("select count(*)::text from orders").await?, "1001");
    assert_eq!(shop.databases().await?, [shop.name.as_str()]);
    Ok(())
}
