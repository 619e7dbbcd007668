//! Drills prove restore points of every engine, and what two of them find wanting is set aside and replaced.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::PointRow;
use lastgood_jobs::manifest::Manifest;
use serde_json::Value;
use uuid::Uuid;

use super::{
    cache::Cache,
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE, run_id},
    native,
    orders::Orders,
    store,
};
use crate::eventually::eventually;

/// Where the servers are that the tests run on: a consumer's drills restore into the same.
fn program_dirs() -> Result<String> {
    let mut dirs: Vec<PathBuf> =
        std::env::split_paths(&crate::variable("LASTGOOD_TEST_PG_CLIENT_DIRS")?).collect();
    for name in [
        "LASTGOOD_TEST_MONGODB_PROGRAM",
        "LASTGOOD_TEST_REDIS6_PROGRAM",
        "LASTGOOD_TEST_VALKEY9_PROGRAM",
    ] {
        let program: Value = serde_json::from_str(&crate::variable(name)?)?;
        let path = program.pointer("/argv/0").and_then(Value::as_str);
        let path = path.context("no program")?;
        let dir = PathBuf::from(path);
        dirs.push(dir.parent().context("no directory")?.to_owned());
    }
    let joined = std::env::join_paths(dirs)?;
    Ok(joined.to_string_lossy().into_owned())
}

impl Lab {
    /// Returns an installation whose consumers run drills, and the directory that these use.
    pub(super) async fn with_drills() -> Result<(Self, tempfile::TempDir)> {
        let mut lab = Self::create().await?;
        let ground = tempfile::tempdir()?;
        if rustix::process::geteuid().is_root() {
            use std::os::unix::fs::PermissionsExt as _;
            // PostgreSQL's server runs as another user then, who has to get there.
            fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o711))?;
            lab.set("LASTGOOD_DRILL_USER", "65534:65534");
        }
        let dir = ground.path().join("drills");
        lab.set("LASTGOOD_DRILL_DIR", dir.display().to_string());
        lab.set("LASTGOOD_DRILL_PROGRAM_DIRS", program_dirs()?);
        lab.set("LASTGOOD_DRILL_SLOTS", "1");
        Ok((lab, ground))
    }

    async fn backed_up(&self, id: &str) -> Result<PointRow> {
        let run = self.enqueue_backup(id).await?;
        self.succeeds(run).await?;
        Ok(self.catalog.catalog.point(run).await?)
    }

    /// Returns the ledger's rows of drills, the newest first.
    async fn drilled(&self) -> Result<Vec<Value>> {
        let listed = ["--json", "proof", "list", "--kind", "drill"];
        let said = self.run(&listed).await?.succeeded()?.json()?;
        Ok(said.as_array().context("no list")?.clone())
    }

    /// Gives a point's archive the list of contents of another: what a dump that lost something looks like, to which every hash
    /// agrees.
    async fn forge(&self, dump: &PointRow, list: &PointRow) -> Result<()> {
        let read = |point: &PointRow| -> Result<(Vec<u8>, Vec<u8>, Manifest)> {
            let manifest: Manifest = serde_json::from_value(point.manifest.clone())?;
            let bytes = fs::read(store::archive(&self.store(), point)?)?;
            let size = manifest
                .contents
                .as_ref()
                .context("nothing recorded")?
                .size_bytes;
            let (dump, list) = bytes.split_at(bytes.len() - usize::try_from(size)?);
            Ok((dump.to_vec(), list.to_vec(), manifest))
        };
        let (mut archive, _, mut manifest) = read(dump)?;
        let (_, list, of_list) = read(list)?;
        archive.extend(list);
        manifest.archive.size_bytes = archive.len() as u64;
        manifest.archive.blake3 = blake3::hash(&archive).to_hex().to_string();
        manifest.contents = of_list.contents;
        fs::write(store::archive(&self.store(), dump)?, archive)?;
        let json = serde_json::to_value(&manifest)?;
        let key = self.store().join("objects").join(&dump.manifest_key);
        fs::write(key, serde_json::to_vec(&json)?)?;
        sqlx::query(
            "update lastgood.restore_points set manifest = $2, stored_bytes = $3 where id = $1",
        )
        .bind(dump.id)
        .bind(json)
        .bind(i64::try_from(manifest.archive.size_bytes)?)
        .execute(self.catalog.pool())
        .await?;
        Ok(())
    }

    async fn quarantined_points(&self) -> Result<Vec<Uuid>> {
        let all = self.catalog.catalog.quarantined(100).await?;
        Ok(all.into_iter().map(|point| point.id).collect())
    }
}

async fn shop() -> Result<Customer> {
    let shop = Customer::create(Rights::Owner).await?;
    shop.run(
        "create table items as select n, 'item ' || n as name from generate_series(1, 500) n; \
         create table paid (id serial primary key, amount int); insert into paid (amount) values (1), (2), (3)",
    )
    .await?;
    Ok(shop)
}

fn nothing_left(ground: &tempfile::TempDir) -> bool {
    fs::read_dir(ground.path().join("drills")).is_ok_and(|mut entries| entries.next().is_none())
}

#[tokio::test]
async fn points_of_every_engine_are_proven_by_drills_and_the_ledger_says_so() -> Result<()> {
    let (lab, ground) = Lab::with_drills().await?;
    let (shop, orders, cache) = (
        shop().await?,
        Orders::create().await?,
        Cache::start().await?,
    );
    orders.fill().await?;
    cache.fill().await?;
    lab.add("shop", &shop).await?;
    native::add(&lab, "orders", "mongodb", "free", &orders.url()).await?;
    native::add(&lab, "cache", "redis", "free", &cache.url()).await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    for id in ["shop", "orders", "cache"] {
        lab.backed_up(id).await?;
        let said = lab.run(&["drill", "now", id, "--wait"]).await?;
        ensure!(
            said.code == Some(0) && said.out.contains("proven"),
            "{id}: {said:?}"
        );
    }
    let proofs = lab.drilled().await?;
    ensure!(proofs.len() == 3, "{proofs:?}");
    for proof in &proofs {
        ensure!(proof["outcome"] == "proven", "{proof}");
        ensure!(proof["seconds"]["restore"].as_f64() > Some(0.0), "{proof}");
        ensure!(proof["compared"]["records"].as_u64() > Some(0), "{proof}");
    }
    lab.run(&["proof", "check"]).await?.succeeded()?;
    for engine in ["vector", "mongodb", "redis"] {
        let series = format!("lastgood_drills_total{{engine=\"{engine}\",outcome=\"proven\"}}");
        consumer.shows(&series, 1.0).await?;
    }
    eventually(PATIENCE, "nothing is left of the drills", async || {
        Ok(nothing_left(&ground))
    })
    .await?;
    orders.drop().await
}

#[tokio::test]
async fn a_point_that_lost_rows_is_set_aside_only_when_another_consumer_agrees() -> Result<()> {
    let (lab, _ground) = Lab::with_drills().await?;
    let shop = shop().await?;
    lab.add("shop", &shop).await?;
    let first = lab.consumer("first", &[]).await?;
    let whole = lab.backed_up("shop").await?;
    shop.run("delete from paid where id = 2").await?;
    let less = lab.backed_up("shop").await?;
    lab.forge(&less, &whole).await?;
    // Reading it back sees nothing.
    lab.run(&["verify", "--point", &less.id.to_string(), "--wait"])
        .await?
        .succeeded()?;

    let said = lab.run(&["drill", "now", "shop", "--wait"]).await?;
    ensure!(
        said.code == Some(1) && said.out.contains("DIFFERS") && said.out.contains("public.paid"),
        "{said:?}"
    );
    // The only consumer does not agree with itself.
    eventually(PATIENCE, "the second drill is skipped", async || {
        let runs = lab.runs().await?;
        let skipped = |report: &Value| report["skipped"].is_string();
        Ok(runs
            .iter()
            .any(|run| run.report.as_ref().is_some_and(skipped)))
    })
    .await?;
    ensure!(lab.quarantined_points().await?.is_empty());
    ensure!(lab.drilled().await?.len() == 1);

    // Another one does.
    let _second = lab.consumer("second", &[]).await?;
    let said = lab.run(&["drill", "now", "shop", "--wait"]).await?;
    ensure!(
        said.code == Some(1) && said.out.contains("DIFFERS"),
        "{said:?}"
    );
    ensure!(lab.quarantined_points().await? == [less.id]);
    let proofs = lab.drilled().await?;
    ensure!(
        proofs.len() == 2 && proofs[0]["consumer"] != proofs[1]["consumer"],
        "{proofs:?}"
    );
    // It is replaced, and reading it back does not acquit it.
    let replaced = lab
        .catalog
        .catalog
        .run_with_key("shop", &format!("quarantine-{}", less.id))
        .await?
        .context("no backup was asked for")?;
    lab.succeeds(replaced.id.0).await?;
    lab.run(&["verify", "--point", &less.id.to_string(), "--wait"])
        .await?;
    ensure!(lab.quarantined_points().await? == [less.id]);
    drop(first);
    Ok(())
}

#[tokio::test]
async fn a_consumer_that_cannot_drill_says_so_and_condemns_nothing() -> Result<()> {
    let (mut lab, _ground) = Lab::with_drills().await?;
    lab.set("LASTGOOD_DRILL_MAX_BYTES", "1000");
    let shop = shop().await?;
    lab.add("shop", &shop).await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    lab.backed_up("shop").await?;
    let said = lab
        .run(&["--json", "drill", "now", "shop", "--wait"])
        .await?;
    ensure!(said.code == Some(1), "{said:?}");
    let report = said.json()?["report"].clone();
    ensure!(report["drill"] == "not_possible", "{report}");
    let proofs = lab.drilled().await?;
    ensure!(
        proofs[0]["outcome"] == "not_possible" && proofs[0]["because_kind"] == "too_large",
        "{proofs:?}"
    );
    ensure!(lab.quarantined_points().await?.is_empty());
    consumer
        .shows(
            "lastgood_drills_total{engine=\"vector\",outcome=\"not_possible\"}",
            1.0,
        )
        .await
}

#[tokio::test]
async fn drills_are_due_by_themselves_newest_point_first_and_then_an_older_one() -> Result<()> {
    let (mut lab, _ground) = Lab::with_drills().await?;
    lab.set("LASTGOOD_UPKEEP", "1s");
    let shop = shop().await?;
    lab.add_url("shop", "pro", &shop.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let older = lab.backed_up("shop").await?;
    let newer = lab.backed_up("shop").await?;
    let _producer = lab.producer()?;
    eventually(PATIENCE, "a drill has proven a point", async || {
        Ok(!lab.drilled().await?.is_empty())
    })
    .await?;
    let proofs = lab.drilled().await?;
    ensure!(
        proofs[0]["point"] != older.id.to_string(),
        "{proofs:?} before {newer:?}"
    );
    // Half of the seven days later, an older one.
    sqlx::query("update lastgood.resources set drill_tried_at = now() - interval '4 days'")
        .execute(lab.catalog.pool())
        .await?;
    let was = proofs.len();
    eventually(PATIENCE, "another one has", async || {
        Ok(lab.drilled().await?.len() > was)
    })
    .await?;
    let newest = lab
        .points()
        .await?
        .first()
        .context("no point")?
        .id
        .to_string();
    let proofs = lab.drilled().await?;
    ensure!(proofs[0]["point"] != newest, "{proofs:?}");
    Ok(())
}

#[tokio::test]
async fn a_consumer_that_is_killed_in_a_drill_leaves_nothing_after_the_next_one_looks() -> Result<()>
{
    let (lab, ground) = Lab::with_drills().await?;
    let shop = shop().await?;
    lab.add("shop", &shop).await?;
    // It takes back what the killed one had.
    let _producer = lab.producer()?;
    let mut first = lab.consumer("first", &[]).await?;
    lab.backed_up("shop").await?;
    let asked = lab.run(&["--json", "drill", "now", "shop"]).await?;
    let run = run_id(&asked.succeeded()?.json()?)?;
    eventually(PATIENCE, "the drill has a server", async || {
        Ok(!nothing_left(&ground) && ground.path().join("drills").exists())
    })
    .await?;
    first.kill()?;
    let _second = lab.consumer("second", &[]).await?;
    lab.succeeds(run).await?;
    eventually(PATIENCE, "nothing is left", async || {
        Ok(nothing_left(&ground))
    })
    .await?;
    ensure!(lab.drilled().await?[0]["outcome"] == "proven");
    Ok(())
}
