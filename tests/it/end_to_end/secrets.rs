//! A secret goes from where it is kept to the server that it opens, and shows up nowhere in between.

use lastgood::run::RunState;
use std::{
    fs::{self, File},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::{
    customer::{Customer, Rights, encoded},
    lab::{Lab, MASTER_KEY, PATIENCE, free_port},
    store,
};
use crate::eventually::eventually;

/// The middle part of each password: letters and digits, which no way of quoting changes.
struct Markers {
    customer: String,
    catalog: String,
}

impl Markers {
    fn new() -> Self {
        let unique = || format!("hunter2{}", Uuid::new_v4().simple());
        Self {
            customer: unique(),
            catalog: unique(),
        }
    }

    /// Returns what must not show up anywhere: the markers and the master key.
    fn all(&self) -> [&str; 3] {
        [&self.customer, &self.catalog, MASTER_KEY]
    }

    fn password(marker: &str) -> String {
        format!("h0n/ey:p@t%2F {marker} 'q\"\\ü&?#")
    }

    fn not_in(&self, place: &str, bytes: &[u8]) -> Result<()> {
        for marker in self.all() {
            let is_seen = bytes
                .windows(marker.len())
                .any(|window| window == marker.as_bytes());
            ensure!(!is_seen, "a secret is seen in {place}");
        }
        Ok(())
    }

    fn not_below(&self, root: &Path) -> Result<()> {
        for file in store::files(root)? {
            let bytes = fs::read(root.join(&file))?;
            self.not_in(&file, file.as_bytes())?;
            self.not_in(&file, &bytes)?;
            if Path::new(&file).extension().is_some_and(|it| it == "zst") {
                self.not_in(&file, &zstd::stream::decode_all(bytes.as_slice())?)?;
            }
        }
        Ok(())
    }
}

/// Watches every process on the machine, over and over.
struct Watch {
    stop: Arc<AtomicBool>,
    looks: JoinHandle<u64>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    fn start(markers: &Markers) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let secrets = markers.all().map(str::to_owned);
        let (stopped, found) = (Arc::clone(&stop), Arc::clone(&seen));
        let looks = std::thread::spawn(move || {
            let mut tools_seen = 0;
            while !stopped.load(Ordering::Relaxed) {
                tools_seen += look(&secrets, &found);
                std::thread::sleep(Duration::from_millis(3));
            }
            tools_seen
        });
        Self { stop, looks, seen }
    }

    /// Checks that tools were seen at work, and no secret with them.
    fn saw_nothing(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let tools_seen = self.looks.join().ok().context("the watch panicked")?;
        let seen = self.seen.lock().ok().context("the watch panicked")?;
        ensure!(seen.is_empty(), "a secret is seen in {seen:?}");
        ensure!(tools_seen > 0, "no tool was ever seen at work");
        Ok(())
    }
}

/// Looks once, and returns how many tools were at work. Also looks into their environment, where they need no secret.
fn look(secrets: &[String], found: &Mutex<Vec<String>>) -> u64 {
    let mut tools = 0;
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |name: &str| {
            let bytes = fs::read(process.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut text = read("cmdline");
        let program = text.split('\0').next().unwrap_or_default();
        if program.ends_with("/pg_dump") || program.ends_with("/pg_restore") {
            tools += 1;
            text += &read("environ");
        }
        if secrets.iter().any(|secret| text.contains(secret)) {
            let name = format!("{} {}", process.path().display(), read("comm"));
            found.lock().map(|mut found| found.push(name)).ok();
        }
    }
    tools
}

/// A role on the catalog's server whose password the test looks for. Dropping the value drops the role.
struct CatalogRole {
    name: String,
    lab_url: String,
}

impl CatalogRole {
    async fn create(lab: &Lab, marker: &str) -> Result<Self> {
        let name = format!("e2e_{}", &Uuid::new_v4().simple().to_string()[..12]);
        let password = Markers::password(marker);
        let statement = format!(
            "create role {name} superuser login password '{}'",
            password.replace('\'', "''")
        );
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(lab.catalog.pool())
            .await?;
        let options = lab.catalog.pool().connect_options();
        let database: String = sqlx::query_scalar("select current_database()::text")
            .fetch_one(lab.catalog.pool())
            .await?;
        let lab_url = format!(
            "postgresql://{name}:{}@{}:{}/{database}",
            encoded(&password),
            options.get_host(),
            options.get_port()
        );
        Ok(Self { name, lab_url })
    }

    async fn drop(self, lab: &Lab) -> Result<()> {
        let statement = format!("drop role {}", self.name);
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(lab.catalog.pool())
            .await?;
        Ok(())
    }
}

/// Checks every column of every table, including sealed ones.
async fn is_not_in_the_catalog(lab: &Lab, markers: &Markers) -> Result<()> {
    let tables = "select format('%I.%I', schemaname, tablename) as name from pg_tables
        where schemaname not in ('pg_catalog', 'information_schema')";
    let tables = sqlx::query(tables).fetch_all(lab.catalog.pool()).await?;
    ensure!(tables.len() >= 4, "too few tables: {}", tables.len());
    for table in tables {
        let table: String = table.try_get("name")?;
        let question = format!("select t::text as row from {table} t");
        for row in sqlx::query(AssertSqlSafe(question))
            .fetch_all(lab.catalog.pool())
            .await?
        {
            let row: String = row.try_get("row")?;
            markers.not_in(&table, row.as_bytes())?;
            // PostgreSQL prints binary values in hexadecimal.
            for marker in markers.all() {
                let hex = marker.bytes().map(|byte| format!("{byte:02x}"));
                let hex = hex.collect::<Vec<_>>().concat();
                ensure!(!row.contains(&hex), "a secret is seen in {table}");
            }
        }
    }
    Ok(())
}

/// Makes what a dead process left behind look old enough to be cleared.
fn age(work: &Path) -> Result<()> {
    for entry in fs::read_dir(work)? {
        let long_ago = SystemTime::now() - Duration::from_mins(5);
        File::open(entry?.path())?.set_modified(long_ago)?;
    }
    Ok(())
}

#[tokio::test]
async fn no_secret_is_seen_outside_its_place() -> Result<()> {
    let (mut lab, markers) = (Lab::create().await?, Markers::new());
    let password = Markers::password(&markers.customer);
    let shop = Customer::with_password(Rights::Owner, &password).await?;
    shop.run("create table orders as select n from generate_series(1, 1000) n")
        .await?;
    let role = CatalogRole::create(&lab, &markers.catalog).await?;
    lab.set("DATABASE_URL", role.lab_url.clone());
    lab.set("LASTGOOD_LOG", "trace");
    lab.set("LASTGOOD_LEASE", "4s");
    let watch = Watch::start(&markers);

    register_good_ones(&mut lab, &shop).await?;
    let wrong = register_wrong_ones(&lab, &shop, &password).await?;
    let producer = lab.producer()?;
    let taken_over = kill_in_mid_dump(&lab, &shop).await?;
    let mut consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(taken_over).await?;
    back_up_and_restore(&lab, &shop).await?;
    for id in wrong {
        let run = lab.enqueue_single_attempt("vector", id).await?;
        ensure!(lab.ends(run).await?.state == RunState::Failed);
        lab.run(&["run", "show", &run.to_string()])
            .await?
            .succeeded()?;
    }
    for args in [&["status"], &["doctor"]] {
        lab.run(args).await?;
    }
    for service in [&producer, &consumer] {
        let metrics = service.get("/metrics").await?;
        markers.not_in("the metrics", metrics.as_bytes())?;
    }
    consumer.signal("TERM")?;
    ensure!(consumer.exit().await?.success());

    watch.saw_nothing()?;
    ensure!(consumer.log()?.contains("TRACE"), "the log says too little");
    markers.not_below(&lab.home.path().join("logs"))?;
    markers.not_below(&lab.store())?;
    is_not_in_the_catalog(&lab, &markers).await?;
    assert_eq!(store::files(&lab.home.path().join("work"))?.len(), 0);
    drop(producer);
    role.drop(&lab).await
}

/// Registers one URL in each place where one can be kept.
async fn register_good_ones(lab: &mut Lab, shop: &Customer) -> Result<()> {
    let file = lab.home.path().join("url");
    fs::write(&file, shop.url())?;
    lab.set("SHOP_URL", shop.url());
    lab.add("sealed", shop).await?;
    let by_file = format!("file:{}", file.display());
    for (id, reference) in [("by-env", "env:SHOP_URL"), ("by-file", by_file.as_str())] {
        let connection = ["--connection", reference];
        let args = [&["resource", "add", id], OPTIONS, &connection].concat();
        lab.run(&args).await?.succeeded()?;
    }
    Ok(())
}

const OPTIONS: &[&str] = &["--team", "acme", "--tier", "free", "--engine", "vector"];

/// Registers URLs that fail in use, whose ids are returned, and tries some that are refused at once.
async fn register_wrong_ones(
    lab: &Lab,
    shop: &Customer,
    password: &str,
) -> Result<[&'static str; 3]> {
    let nearly = format!("{password} wrong");
    let fail_later = [
        ("down", shop.url_with(free_port()?, password, &shop.name)),
        ("gone", shop.url_of("e2e_nowhere")),
        ("refused", shop.url_with(shop.port(), &nearly, &shop.name)),
    ];
    for (id, url) in &fail_later {
        lab.add_url(id, "free", url).await?;
    }
    let odd = [
        shop.url().replace("postgresql:", "mysql:"),
        shop.url().replace(['/', '@'], ""),
        format!("{}?surprise=1", shop.url()),
    ];
    for url in &odd {
        let args = [&["resource", "add", "odd"], OPTIONS, &["--url-stdin"]].concat();
        lab.run_with_input(&args, url).await?.refused()?;
    }
    Ok(fail_later.map(|(id, _)| id))
}

/// Kills a consumer while it has a password file, and returns its run.
async fn kill_in_mid_dump(lab: &Lab, shop: &Customer) -> Result<Uuid> {
    let mut killed = lab.consumer("killed", &[]).await?;
    let locked = shop.lock("orders").await?;
    let run = lab.enqueue_backup("sealed").await?;
    eventually(PATIENCE, "the dump waits for the lock", async || {
        Ok(shop.dumping().await?.1 > 0)
    })
    .await?;
    killed.kill()?;
    locked.release().await?;
    let work = lab.home.path().join("work");
    let left = store::files(&work)?;
    ensure!(left.iter().any(|file| file.contains("pgpass.")), "{left:?}");
    age(&work)?;
    Ok(run)
}

async fn back_up_and_restore(lab: &Lab, shop: &Customer) -> Result<()> {
    for id in ["sealed", "by-env", "by-file"] {
        lab.succeeds(lab.enqueue_backup(id).await?).await?;
        lab.run(&["restore", id, "--wait"]).await?.succeeded()?;
    }
    let empty = format!("{}_empty", shop.name);
    let statement = format!(
        "create database {empty} owner {} template template0",
        shop.name
    );
    shop.as_superuser(&statement).await?;
    let target = lab.home.path().join("target");
    fs::write(&target, shop.url_of(&empty))?;
    let target = format!("file:{}", target.display());
    let args = ["restore", "by-file", "--into", &target, "--wait"];
    lab.run(&args).await?.succeeded()?;
    Ok(())
}
