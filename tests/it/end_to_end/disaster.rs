//! After the catalog is lost, the store alone rebuilds it, and restores every database even without it. docs/how-to/disaster.md describes
//! how, with the output that is tested here.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{AuditFilter, PointRow},
    nouns::ResourceStatus,
};

use super::{
    cache::Cache,
    customer::{Customer, Rights},
    lab::{Lab, run_id},
    native,
    orders::{MARKER, Orders},
};

const ROWS: &str = "select string_agg(items::text, ';' order by n) from items";

/// One database of each engine.
struct Customers {
    plain: Customer,
    vector: Customer,
    orders: Orders,
    cache: Cache,
}

/// Everything that a restore must bring back.
type Everything = (String, String, Vec<String>, (String, i64, i64));

impl Customers {
    async fn create() -> Result<Self> {
        let customers = Self {
            plain: Customer::create(Rights::Owner).await?,
            vector: Customer::create(Rights::Superuser).await?,
            orders: Orders::create().await?,
            cache: Cache::start().await?,
        };
        customers
            .plain
            .run("create table items as select n, 'item ' || n as name from generate_series(1, 300) n")
            .await?;
        customers
            .vector
            .run(
                "create extension vector;
                 create table items as select n, array[n, 1, 2]::vector(3) as at from generate_series(1, 300) n",
            )
            .await?;
        customers.orders.fill().await?;
        customers.cache.fill().await?;
        Ok(customers)
    }

    fn urls(&self) -> [(&'static str, &'static str, String); 4] {
        [
            ("plain", "postgres", self.plain.url()),
            ("vector", "vector", self.vector.url()),
            ("orders", "mongodb", self.orders.url()),
            ("cache", "redis", self.cache.url()),
        ]
    }

    async fn everything(&self) -> Result<Everything> {
        Ok((
            self.plain.ask(ROWS).await?,
            self.vector.ask(ROWS).await?,
            self.orders.state().await?,
            self.cache.state().await?,
        ))
    }

    async fn lose(&self) -> Result<()> {
        self.plain.run("drop table items").await?;
        self.vector
            .run("drop table items; drop extension vector")
            .await?;
        self.orders.lose().await?;
        self.cache.lose().await
    }
}

/// Registers and backs up all four databases, and returns their restore points by resource.
async fn back_up(lab: &Lab, customers: &Customers) -> Result<BTreeMap<String, PointRow>> {
    let _consumer = lab.consumer("before", &[]).await?;
    for (id, engine, url) in customers.urls() {
        native::add(lab, id, engine, "free", &url).await?;
        lab.succeeds(lab.enqueue_backup(id).await?).await?;
    }
    let points = lab.points().await?;
    Ok(points
        .into_iter()
        .map(|point| (point.resource_id.clone(), point))
        .collect())
}

#[tokio::test]
async fn a_lost_catalog_comes_back_from_manifests_alone_and_every_resource_from_it() -> Result<()> {
    let (mut lab, customers) = (Lab::create().await?, Customers::create().await?);
    let before = customers.everything().await?;
    let recorded = back_up(&lab, &customers).await?;
    let older = recorded.get("plain").context("no point")?;
    let lost = lab.catalog.catalog.installations().await?.own.to_string();
    lab.catalog.execute("drop schema lastgood cascade").await?;
    lab.run(&["migrate"]).await?.succeeded()?;
    damage_copies_of(&lab, older)?;
    let store = lab.store().display().to_string();

    // A new catalog is a new installation. The lost one that it replaces must be named, and the error says how.
    let rebuild = ["catalog", "rebuild", "--from", &store];
    let refused = lab.run(&rebuild).await?.refused()?;
    let adopt = ["--adopt-installation", &lost];
    ensure!(refused.contains(&adopt.join(" ")), "{refused}");
    let rebuild = [&rebuild[..], &adopt].concat();
    let tried = lab.run(&[&rebuild[..], &["--dry-run"]].concat()).await?;
    ensure!(
        tried.code == Some(1)
            && tried
                .out
                .contains("4 restore points and 4 resources would be recorded"),
        "{tried:?}"
    );
    ensure!(lab.points().await?.is_empty());

    let done = lab.run(&rebuild).await?;
    ensure!(done.code == Some(1), "{done:?}");
    ensure!(done.out.matches("SKIPPED").count() == 4, "{done:?}");
    for why in [
        "cannot be read: ",
        "not at this key",
        "it is missing from the store",
        "cannot be an object's key",
    ] {
        ensure!(done.out.contains(why), "{why}: {done:?}");
    }
    is_told_in_the_docs(&done.out)?;
    for point in lab.points().await? {
        let was = recorded.get(&point.resource_id).context("a new resource")?;
        ensure!(
            point.id == was.id
                && point.consistent_at == was.consistent_at
                && point.manifest == was.manifest
                && point.manifest_key == was.manifest_key
                && point.stored_bytes == was.stored_bytes
                && point.dump_bytes == was.dump_bytes,
            "{point:?} instead of {was:?}"
        );
    }
    let again = lab
        .run(&["--json", "catalog", "rebuild", "--from", &store])
        .await?
        .json()?;
    ensure!(again["points"] == 0 && again["resources"] == 0, "{again}");
    let audited = lab
        .catalog
        .catalog
        .audited(&AuditFilter::newest(10))
        .await?;
    let audited: Vec<_> = audited
        .into_iter()
        .filter(|it| it.action != "adopt_installation")
        .collect();
    ensure!(
        audited.len() == 2 && audited.iter().all(|it| it.action == "rebuild"),
        "{audited:?}"
    );

    customers.lose().await?;
    let _consumer = lab.consumer("after", &[]).await?;
    for (id, engine, url) in customers.urls() {
        let resource = lab.catalog.catalog.resource(id).await?;
        ensure!(
            resource.status == ResourceStatus::Paused
                && resource.engine == engine
                && resource.team == "acme"
                && resource.tier == "free"
                && resource.newest_consistent_at
                    == recorded.get(id).map(|point| point.consistent_at),
            "{resource:?}"
        );
        let refused = lab.run(&["resource", "resume", id]).await?.refused()?;
        ensure!(refused.contains("has no connection"), "{refused}");
        let variable = format!("{}_URL", id.to_uppercase());
        lab.set(&variable, url.clone());
        lab.run_with_input(&["resource", "set", id, "--url-stdin"], &url)
            .await?
            .succeeded()?;
        lab.run(&["resource", "resume", id]).await?.succeeded()?;
        let mut restore = vec!["--json", "restore", id];
        if id == "vector" {
            restore.push("--as-superuser");
        }
        let restored = lab.run(&restore).await?;
        lab.succeeds(run_id(&restored.succeeded()?.json()?)?)
            .await?;
    }
    ensure!(customers.everything().await? == before);
    // Afterwards, the resource is backed up like any other.
    lab.succeeds(lab.enqueue_backup("cache").await?).await?;
    customers.orders.drop().await
}

/// Puts four bad manifests into the store: one cut short, one of another resource, one without its archive, and one whose archive is
/// outside the store.
fn damage_copies_of(lab: &Lab, point: &PointRow) -> Result<()> {
    let objects = lab.store().join("objects");
    let text = fs::read_to_string(objects.join(&point.manifest_key))?;
    let (directory, _) = point
        .manifest_key
        .rsplit_once('/')
        .context("no directory")?;
    let lay = |key: &str, text: &str| -> Result<()> {
        let path = objects.join(key);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        Ok(fs::write(path, text)?)
    };
    let half = text.get(..text.len() / 2).context("no half")?;
    lay(&format!("{directory}/cut.manifest.json"), half)?;
    lay("v1/acme/other/2026/01/01/moved.manifest.json", &text)?;
    let id = point.id.to_string();
    let missing = text.replace(&id, "00000000-0000-0000-0000-000000000000");
    lay(&format!("{directory}/alone.manifest.json"), &missing)?;
    let outside = text.replace("\"key\": \"v1/", "\"key\": \"v1/../../");
    lay(&format!("{directory}/outside.manifest.json"), &outside)?;
    Ok(())
}

/// Checks that the documentation quotes the rebuild's output.
fn is_told_in_the_docs(said: &str) -> Result<()> {
    let docs = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/how-to/disaster.md"
    ))?;
    for line in said.lines().filter(|line| !line.starts_with("SKIPPED")) {
        ensure!(
            docs.contains(line),
            "docs/how-to/disaster.md lacks {line:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_bucket_and_a_key_suffice_to_restore_without_any_catalog() -> Result<()> {
    let (mut lab, customers) = (Lab::create().await?, Customers::create().await?);
    let before = customers.everything().await?;
    let recorded = back_up(&lab, &customers).await?;
    let key = |id: &str| -> Result<String> {
        let point = recorded.get(id).context("no point")?;
        Ok(point.manifest_key.clone())
    };
    let store = lab.store().display().to_string();
    lab.set("DATABASE_URL", "");
    lab.set("LASTGOOD_MASTER_KEY", "");
    lab.set("LASTGOOD_STORAGE", "/nowhere");

    for (id, _, url) in customers.urls() {
        lab.set("TARGET_URL", url);
        let key = key(id)?;
        let args = [
            "restore",
            "--from-manifest",
            &key,
            "--into",
            "env:TARGET_URL",
            "--as-superuser",
            "--storage",
            &store,
        ];
        let refused = lab.run(&args).await?.refused()?;
        ensure!(refused.contains("not empty"), "{refused}");
    }
    ensure!(customers.everything().await? == before);
    customers.lose().await?;
    for (id, _, url) in customers.urls() {
        lab.set("TARGET_URL", url);
        let key = key(id)?;
        let args = [
            "restore",
            "--from-manifest",
            &key,
            "--into",
            "env:TARGET_URL",
            "--as-superuser",
            "--storage",
            &store,
        ];
        let said = lab.run(&args).await?.succeeded()?;
        ensure!(
            said.out.contains(&format!("restored {id} as of")),
            "{said:?}"
        );
        ensure!(
            !format!("{said:?}").contains(MARKER) && !format!("{said:?}").contains("marker"),
            "{said:?}"
        );
    }
    ensure!(customers.everything().await? == before);

    let nowhere = key("plain")?;
    let in_argv = customers.plain.url();
    for (into, why) in [
        (in_argv.as_str(), "can be read by every user"),
        ("shop", "env:NAME"),
        ("env:NOT_SET_ANYWHERE", "is not set here"),
    ] {
        let args = [
            "restore",
            "--from-manifest",
            &nowhere,
            "--into",
            into,
            "--storage",
            &store,
        ];
        let refused = lab.run(&args).await?.refused()?;
        ensure!(refused.contains(why), "{refused}");
    }
    let args = [
        "restore",
        "--from-manifest",
        "v1/acme/gone.manifest.json",
        "--into",
        "env:TARGET_URL",
        "--storage",
        &store,
    ];
    let refused = lab.run(&args).await?.refused()?;
    ensure!(refused.contains("no restore point at"), "{refused}");
    customers.orders.drop().await
}

#[tokio::test]
async fn an_archive_is_let_out_whole_on_record_and_never_over_a_file() -> Result<()> {
    let (lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table items as select n from generate_series(1, 300) n")
        .await?;
    lab.add("shop", &shop).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    let point = lab.catalog.catalog.point(run).await?;
    let (id, archive) = (
        run.to_string(),
        super::store::archive(&lab.store(), &point)?,
    );
    let to = lab.home.path().join("out.zst");
    let target = to.display().to_string();

    let args = ["--json", "point", "download", &id, "--to", &target];
    let said = lab.run(&args).await?.succeeded()?.json()?;
    ensure!(fs::read(&to)? == fs::read(&archive)?);
    let commands = said["by_hand"].to_string();
    ensure!(
        commands.contains("b3sum --check") && commands.contains("pg_restore"),
        "{said}"
    );
    let refused = lab.run(&args).await?.refused()?;
    ensure!(refused.contains("write the file"), "{refused}");

    let refused = lab.run(&["point", "url", &id]).await?.refused()?;
    ensure!(refused.contains("cannot sign addresses"), "{refused}");

    let mut bytes = fs::read(&archive)?;
    *bytes.last_mut().context("an empty archive")? ^= 1;
    fs::write(&archive, bytes)?;
    let other = lab.home.path().join("other.zst").display().to_string();
    let refused = lab.run(&["point", "download", &id, "--to", &other]).await?;
    let refused = refused.refused()?;
    ensure!(refused.contains("BLAKE3"), "{refused}");
    let left: Vec<_> = fs::read_dir(lab.home.path())?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains("other"))
        .collect();
    ensure!(left.is_empty(), "{left:?}");
    let audited = lab
        .catalog
        .catalog
        .audited(&AuditFilter::newest(10))
        .await?;
    let let_out: Vec<_> = audited
        .iter()
        .filter(|it| ["download", "url"].contains(&it.action.as_str()))
        .collect();
    ensure!(
        let_out.len() == 4
            && let_out
                .iter()
                .all(|it| it.point == Some(run) && !it.by.is_empty()),
        "{audited:?}"
    );
    Ok(())
}
