//! An installation of lastgood for one test: a catalog, a store, and the means to start its processes.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{PointFilter, PointRow, RunFilter},
    nouns::Run,
    run::RunState,
};
use lastgood_jobs::attempt::RunId;
use uuid::Uuid;

use super::{
    customer::Customer,
    program::{Said, Service, program, shell},
    store,
};
use crate::{
    database::TestCatalog,
    eventually::{eventually, within},
};
use secrecy::ExposeSecret as _;

/// Long enough for processes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// 32 bytes in base64.
pub(super) const MASTER_KEY: &str = "bWFzdGVyLWtleS1tYXN0ZXIta2V5LW1hc3Rlci1rZXk=";

/// The installation. Services are separate values, and must not outlive it.
pub(super) struct Lab {
    pub(super) catalog: TestCatalog,
    pub(super) home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Lab {
    pub(super) async fn create() -> Result<Self> {
        let catalog = TestCatalog::create().await?;
        let home = tempfile::tempdir()?;
        let at = |name: &str| home.path().join(name).display().to_string();
        std::fs::create_dir(at("logs"))?;
        let mut lab = Self {
            variables: Vec::new(),
            catalog,
            home,
        };
        let at = |name: &str| lab.home.path().join(name).display().to_string();
        let plans = concat!(env!("CARGO_MANIFEST_DIR"), "/plans.yaml").to_owned();
        let url = lab.catalog.url().expose_secret().to_owned();
        for (name, value) in [
            ("DATABASE_URL", url),
            ("LASTGOOD_MASTER_KEY", MASTER_KEY.to_owned()),
            ("LASTGOOD_STORAGE", at("store")),
            ("LASTGOOD_WORK_DIR", at("work")),
            ("LASTGOOD_PLANS", plans),
            ("LASTGOOD_PG_CLIENT_DIRS", client_dirs()?),
            ("LASTGOOD_LISTEN", "127.0.0.1:0".to_owned()),
            ("LASTGOOD_LEASE", "10s".to_owned()),
            ("LASTGOOD_TICK", "1s".to_owned()),
            ("LASTGOOD_REAP", "1s".to_owned()),
            ("LASTGOOD_OBSERVE", "1s".to_owned()),
            ("LASTGOOD_POLL", "200ms".to_owned()),
            // Drills have tests of their own.
            ("LASTGOOD_DRILL_SLOTS", "0".to_owned()),
        ] {
            lab.set(name, value);
        }
        Ok(lab)
    }

    /// Sets a variable in the environment of everything that is started from now on.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
    }

    pub(super) fn store(&self) -> PathBuf {
        self.home.path().join("store")
    }

    /// Starts a service that writes its output to `logs/{name}.log`.
    pub(super) fn start(&self, name: &str, args: &[&str]) -> Result<Service> {
        let mut command = program(&self.variables);
        command.args(args);
        let log = self.home.path().join("logs").join(format!("{name}.log"));
        Service::start(command, &log)
    }

    /// Like [`Self::start`], with further variables in the environment.
    pub(super) fn start_with(
        &self,
        name: &str,
        args: &[&str],
        more: &[(&str, &str)],
    ) -> Result<Service> {
        let mut command = program(&self.variables);
        command.args(args).envs(more.iter().copied());
        let log = self.home.path().join("logs").join(format!("{name}.log"));
        Service::start(command, &log)
    }

    pub(super) fn producer(&self) -> Result<Service> {
        self.start("producer", &["producer"])
    }

    /// Starts a consumer, and returns once it can be sent signals.
    pub(super) async fn consumer(&self, name: &str, args: &[&str]) -> Result<Service> {
        let service = self.start(name, &[&["consumer"], args].concat())?;
        service.get("/readyz").await?;
        Ok(service)
    }

    pub(super) async fn run(&self, args: &[&str]) -> Result<Said> {
        self.run_with_input(args, "").await
    }

    pub(super) async fn run_with_input(&self, args: &[&str], input: &str) -> Result<Said> {
        let mut command = program(&self.variables);
        command.args(args);
        self.ends_with(command, &format!("{args:?}"), input).await
    }

    /// Runs a shell script to its end. In the script, `lastgood` is the program.
    pub(super) async fn run_script(&self, script: &str) -> Result<Said> {
        let mut command = shell(script, &self.variables);
        command.current_dir(self.home.path());
        self.ends_with(command, script, "").await
    }

    async fn ends_with(&self, mut command: Command, what: &str, input: &str) -> Result<Said> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes())?;
        }
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
        let ended = within(PATIENCE, &format!("{what} ends"), ended).await???;
        let said = Said {
            code: ended.status.code(),
            out: String::from_utf8(ended.stdout)?,
            err: String::from_utf8(ended.stderr)?,
        };
        let log = self.home.path().join("logs").join("commands.log");
        let mut log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        writeln!(log, "{what}\n{}\n{}", said.out, said.err)?;
        Ok(said)
    }

    /// Registers a customer's database with a sealed URL, on a tier without a schedule: only what the test requests is run.
    pub(super) async fn add(&self, id: &str, customer: &Customer) -> Result<()> {
        self.add_url(id, "free", &customer.url()).await
    }

    pub(super) async fn add_url(&self, id: &str, tier: &str, url: &str) -> Result<()> {
        let args = [
            "resource",
            "add",
            id,
            "--team",
            "acme",
            "--tier",
            tier,
            "--engine",
            "vector",
            "--url-stdin",
        ];
        self.run_with_input(&args, url).await?.succeeded()?;
        Ok(())
    }

    /// Requests a backup and returns its run.
    pub(super) async fn enqueue_backup(&self, id: &str) -> Result<Uuid> {
        let said = self
            .run(&["--json", "backup", "now", id])
            .await?
            .succeeded()?;
        run_id(&said.json()?)
    }

    /// Enqueues a backup with a single attempt.
    pub(super) async fn enqueue_single_attempt(&self, queue: &str, id: &str) -> Result<Uuid> {
        let statement =
            "insert into lastgood.runs (queue, kind, trigger, resource_id, args, max_attempts)
            values ($1, 'backup', 'adhoc', $2, '{\"kind\": \"backup\"}', 1) returning id";
        Ok(sqlx::query_scalar(statement)
            .bind(queue)
            .bind(id)
            .fetch_one(self.catalog.pool())
            .await?)
    }

    pub(super) async fn row(&self, run: Uuid) -> Result<Run> {
        Ok(self.catalog.catalog.run(RunId(run)).await?)
    }

    pub(super) async fn runs(&self) -> Result<Vec<Run>> {
        let all = RunFilter {
            limit: 1000,
            ..RunFilter::default()
        };
        Ok(self.catalog.catalog.runs(&all).await?)
    }

    /// Returns all restore points, the newest first.
    pub(super) async fn points(&self) -> Result<Vec<PointRow>> {
        Ok(self
            .catalog
            .catalog
            .points(&PointFilter {
                limit: 1000,
                ..PointFilter::default()
            })
            .await?)
    }

    /// Waits until the run's row satisfies `wanted`, and returns it.
    pub(super) async fn becomes(
        &self,
        run: Uuid,
        what: &str,
        wanted: impl Fn(&Run) -> bool,
    ) -> Result<Run> {
        eventually(PATIENCE, what, async || Ok(wanted(&self.row(run).await?)))
            .await
            .with_context(|| format!("run {run}"))?;
        self.row(run).await
    }

    /// Waits until the run has ended, and returns it.
    pub(super) async fn ends(&self, run: Uuid) -> Result<Run> {
        self.becomes(run, "the run ends", |it| it.state.has_ended())
            .await
    }

    /// Waits until the run has ended and checks that it succeeded.
    pub(super) async fn succeeds(&self, run: Uuid) -> Result<Run> {
        let row = self.ends(run).await?;
        ensure!(row.state == RunState::Succeeded, "{row:?}");
        Ok(row)
    }

    /// Checks the number of restore points, and that the store contains these and nothing else.
    pub(super) async fn has_points(&self, count: usize) -> Result<Vec<PointRow>> {
        let points = self.points().await?;
        ensure!(points.len() == count, "{points:?}");
        let expected = store::files_of(&points)?;
        // A process that is gone may have left something that takes a moment to be removed.
        let found = || store::files(&self.store());
        let settled = eventually(Duration::from_secs(10), "the store is clean", async || {
            Ok(found()? == expected)
        });
        settled
            .await
            .with_context(|| format!("{:?} instead of {expected:?}", found()))?;
        Ok(points)
    }
}

/// Returns a port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Returns the id of the run that a command enqueued, from its JSON output: the run, or what names its run.
pub(super) fn run_id(answer: &serde_json::Value) -> Result<Uuid> {
    let id = answer.get("run").or_else(|| answer.get("id"));
    let id = id.and_then(serde_json::Value::as_str);
    Ok(id.context("the answer names no run")?.parse()?)
}

pub(super) fn client_dirs() -> Result<String> {
    crate::variable("LASTGOOD_TEST_PG_CLIENT_DIRS")
}

/// Returns the directory of the client tools of version 18.
pub(super) fn client_dir_18() -> Result<PathBuf> {
    let dirs = client_dirs()?;
    std::env::split_paths(&dirs)
        .find(|dir| is_version_18(dir))
        .context("name the directory of an 18 client in LASTGOOD_TEST_PG_CLIENT_DIRS")
}

fn is_version_18(dir: &Path) -> bool {
    let said = std::process::Command::new(dir.join("pg_dump"))
        .arg("--version")
        .output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(") 18."))
}
