//! What the tests share: private databases and stores, and waiting for conditions.

use std::{
    future::Future,
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::subject::{Subject, backup, restore};
use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use futures::future::BoxFuture;
use lastgood_jobs::{
    attempt::{Attempt, AttemptId, Epoch, RunId},
    backup::RestorePoint,
    clients::Toolbox,
    error::JobError,
    job::{Restore, RestoreTarget},
    resource::{Engine, ResourceOptions},
    restore::{Contents, Restored},
    sought::Sought,
    storage::Storage,
    worker::{Lease, Progress, Worker},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};
use url::Url;
use uuid::Uuid;

/// Part of every password in these tests. It must not appear anywhere else.
pub(crate) const MARKER: &str = "hunter2-marker";

pub(crate) fn variable(name: &str) -> Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: run `make test`, which starts the servers"))
}

pub(crate) fn client_dirs() -> Result<Vec<PathBuf>> {
    let dirs = variable("LASTGOOD_TEST_PG_CLIENT_DIRS")?;
    Ok(std::env::split_paths(&dirs).collect())
}

/// One server, with a superuser on it.
pub(crate) struct Server {
    pub(crate) url: Url,
}

impl Server {
    pub(crate) fn pg18() -> Result<Self> {
        Ok(Self {
            url: variable("LASTGOOD_TEST_PG18_URL")?.parse()?,
        })
    }

    pub(crate) fn pg17() -> Result<Self> {
        Ok(Self {
            url: variable("LASTGOOD_TEST_PG17_URL")?.parse()?,
        })
    }

    /// A server with room for few locks, whose template no other test uses and where nothing else gathers statistics.
    pub(crate) fn narrow() -> Result<Self> {
        Ok(Self {
            url: variable("LASTGOOD_TEST_PG17_NARROW_URL")?.parse()?,
        })
    }

    /// A server with `PostGIS`. If this machine has none, reports the skip and returns `None`.
    pub(crate) fn postgis() -> Result<Option<Self>> {
        let url = variable("LASTGOOD_TEST_PG15_POSTGIS_URL")?;
        if let Some(why) = url.strip_prefix("skip: ") {
            // Written past the test runner, which hides the output of a test that passes.
            writeln!(std::io::stderr(), "SKIPPED: PostGIS: {why}")?;
            return Ok(None);
        }
        Ok(Some(Self { url: url.parse()? }))
    }

    /// Creates a database once no session uses the template.
    pub(crate) async fn create(&self, database: &str, owner: &str, template: &str) -> Result<()> {
        let create =
            format!("create database \"{database}\" owner \"{owner}\" template {template}");
        until("nobody looks into the template", || async {
            match self.run("postgres", &create).await {
                Err(error) if error.to_string().contains("being accessed") => Ok(false),
                created => created.map(|()| true),
            }
        })
        .await
    }

    pub(crate) async fn session(&self, database: &str) -> Result<PgConnection> {
        let mut url = self.url.clone();
        url.set_path(database);
        Ok(url
            .as_str()
            .parse::<PgConnectOptions>()?
            .disable_statement_logging()
            .connect()
            .await?)
    }

    /// Runs statements in a database as the superuser.
    pub(crate) async fn run(&self, database: &str, statements: &str) -> Result<()> {
        let mut session = self.session(database).await?;
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned())))
            .await?;
        Ok(())
    }

    /// Asks a query for one text.
    pub(crate) async fn ask(&self, database: &str, question: &str) -> Result<String> {
        let mut session = self.session(database).await?;
        let answer: Option<String> = sqlx::query_scalar(AssertSqlSafe(question.to_owned()))
            .fetch_one(&mut session)
            .await?;
        Ok(answer.unwrap_or_default())
    }

    pub(crate) async fn databases_like(&self, prefix: &str) -> Result<Vec<String>> {
        let mut session = self.session("postgres").await?;
        let question =
            "select datname::text from pg_database where starts_with(datname::text, $1) order by 1";
        Ok(sqlx::query_scalar(question)
            .bind(prefix)
            .fetch_all(&mut session)
            .await?)
    }
}

/// A private role with a private database of the same name, and a private store.
pub(crate) struct Lab {
    pub(crate) server: Server,
    pub(crate) name: String,
    pub(crate) store: tempfile::TempDir,
    pub(crate) work: tempfile::TempDir,
    pub(crate) worker: Worker,
    pub(crate) lease: Arc<Switch>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) resource: Subject,
    /// Whether restores allow a superuser.
    pub(crate) as_superuser: bool,
    /// Whether restores leave tablespaces out, and whether they may break logical replication.
    pub(crate) no_tablespaces: bool,
    pub(crate) break_replication: bool,
}

/// A lease that is alive until it is switched off.
pub(crate) struct Switch(pub(crate) AtomicBool);

/// A lease that also records which database is closed.
pub(crate) struct Ledger {
    lease: Arc<Switch>,
    /// Whether recording fails.
    pub(crate) is_mute: AtomicBool,
    pub(crate) closed: std::sync::Mutex<Option<String>>,
    /// Whether anything was ever recorded.
    pub(crate) was_written: AtomicBool,
}

impl Lease for Switch {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { self.0.load(Ordering::SeqCst) })
    }
}

impl Lease for Ledger {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        self.lease.is_alive()
    }

    fn will_close<'a>(&'a self, database: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            if self.is_mute.load(Ordering::SeqCst) {
                return false;
            }
            if let Ok(mut closed) = self.closed.lock() {
                *closed = Some(database.to_owned());
            }
            self.was_written.store(true, Ordering::SeqCst);
            true
        })
    }

    fn is_open(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Ok(mut closed) = self.closed.lock() {
                *closed = None;
            }
        })
    }
}

impl Lab {
    /// A role that owns its database and may create others, and nothing more, as customers have it.
    pub(crate) async fn owner(server: Server) -> Result<Self> {
        Self::new(server, false).await
    }

    pub(crate) async fn superuser(server: Server) -> Result<Self> {
        Self::new(server, true).await
    }

    async fn new(server: Server, is_superuser: bool) -> Result<Self> {
        let name = format!("t-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let attributes = if is_superuser {
            "superuser"
        } else {
            "createdb"
        };
        let role = format!("create role \"{name}\" login {attributes} password '{MARKER}'");
        server.run("postgres", &role).await?;
        server
            .run(
                "postgres",
                &format!("create database \"{name}\" owner \"{name}\" template template0"),
            )
            .await?;
        let mut url = server.url.clone();
        url.set_path(&name);
        url.set_username(&name)
            .and_then(|()| url.set_password(Some(MARKER)))
            .ok();
        let (store, work) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let lease = Arc::new(Switch(AtomicBool::new(true)));
        let ledger = Arc::new(Ledger {
            lease: lease.clone(),
            is_mute: AtomicBool::new(false),
            closed: std::sync::Mutex::new(None),
            was_written: AtomicBool::new(false),
        });
        let worker = Worker {
            storage: Storage::open(&store.path().display().to_string().parse()?).await?,
            tools: Arc::new(Toolbox::only(&client_dirs()?).await),
            work_dir: work.path().to_owned(),
            encrypt_to: None,
            keyring: std::sync::Arc::new(lastgood_jobs::key::NoKeys),
            lease: ledger.clone(),
            progress: Arc::new(Progress::default()),
        };
        let resource = Subject {
            id: "db-1".parse()?,
            team: "acme".parse()?,
            tier: "pro".parse()?,
            engine: Engine::Vector,
            options: ResourceOptions::default(),
            url: url.to_string().into(),
        };
        Ok(Self {
            server,
            name,
            store,
            work,
            worker,
            lease,
            ledger,
            resource,
            as_superuser: is_superuser,
            no_tablespaces: false,
            break_replication: false,
        })
    }

    /// Runs statements in the private database as its owner.
    pub(crate) async fn run(&self, statements: &str) -> Result<()> {
        let mut session = self.session().await?;
        session
            .execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned())))
            .await?;
        Ok(())
    }

    pub(crate) async fn session(&self) -> Result<PgConnection> {
        let url = secrecy::ExposeSecret::expose_secret(&self.resource.url).to_owned();
        Ok(url
            .parse::<PgConnectOptions>()?
            .disable_statement_logging()
            .connect()
            .await?)
    }

    pub(crate) async fn ask(&self, question: &str) -> Result<String> {
        self.server.ask(&self.name, question).await
    }

    pub(crate) async fn backup(&self, attempt: Attempt) -> Result<RestorePoint, JobError> {
        backup(attempt, &self.resource, None, &self.worker).await
    }

    pub(crate) async fn restore(
        &self,
        point: &RestorePoint,
        target: RestoreTarget,
    ) -> Result<Restored, JobError> {
        self.restore_as(attempt(), point, target).await
    }

    pub(crate) async fn restore_as(
        &self,
        attempt: Attempt,
        point: &RestorePoint,
        target: RestoreTarget,
    ) -> Result<Restored, JobError> {
        let job = Restore {
            point: point.manifest.run_id.0,
            target,
            no_owner: false,
            no_acl: false,
            as_superuser: self.as_superuser,
            no_tablespaces: self.no_tablespaces,
            break_replication: self.break_replication,
            of_owner: false,
        };
        restore(
            attempt,
            &self.resource,
            &job,
            &Sought::at(&point.manifest_key),
            None,
            &self.worker,
        )
        .await
    }

    /// Returns the resource with a changed URL.
    pub(crate) fn with_url(&self, change: impl FnOnce(&mut Url)) -> Result<Subject> {
        let mut url: Url = secrecy::ExposeSecret::expose_secret(&self.resource.url).parse()?;
        change(&mut url);
        Ok(Subject {
            url: url.to_string().into(),
            ..self.resource.clone()
        })
    }

    /// Returns every file in the store and in the work directory.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut directories = vec![self.store.path().to_owned(), self.work.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.push(path.display().to_string());
                }
            }
        }
        Ok(files)
    }

    /// Checks that no restore left a database behind.
    pub(crate) async fn has_no_other_database(&self) -> Result<()> {
        let found = self.server.databases_like(&self.name).await?;
        ensure!(found.iter().eq([&self.name]), "left behind: {found:?}");
        Ok(())
    }

    /// Drops the role and every database of the test.
    pub(crate) async fn clean(self) -> Result<()> {
        for database in self.server.databases_like(&self.name).await? {
            self.server
                .run(
                    "postgres",
                    &format!("drop database if exists \"{database}\" with (force)"),
                )
                .await?;
        }
        self.server
            .run("postgres", &format!("drop role \"{}\"", self.name))
            .await?;
        Ok(())
    }
}

pub(crate) fn attempt() -> Attempt {
    Attempt {
        run: RunId(Uuid::new_v4()),
        epoch: Epoch(1),
        id: AttemptId(uuid::Uuid::new_v4()),
        created_at: Utc::now(),
    }
}

/// Returns how many tables a restore reports, or 0 for another engine.
pub(crate) fn tables(restored: &Restored) -> u64 {
    match restored.contents {
        Contents::Postgres { tables } => tables,
        Contents::Mongodb { .. } | Contents::Redis { .. } => 0,
    }
}

/// Polls a condition until it holds, for 30 s at most.
pub(crate) async fn until<F: Future<Output = Result<bool>>>(
    what: &str,
    condition: impl Fn() -> F,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await? {
        ensure!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Checks that a text does not contain the secret's marker.
pub(crate) fn is_clean(text: &str) -> Result<()> {
    ensure!(!text.contains(MARKER), "a secret is seen in {text}");
    Ok(())
}

/// Checks that no form of an error shows a secret.
pub(crate) fn shows_no_secret(error: &JobError) -> Result<()> {
    is_clean(&format!("{error} {error:?} {}", error.report()))
}
