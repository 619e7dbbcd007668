//! A private database, store and user, and servers that tests may kill.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
};

use ::mongodb::{Client, Database};
use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use lastgood_jobs::{
    backup::RestorePoint,
    clients::Toolbox,
    error::{ErrorKind, JobError},
    resource::{Engine, ResourceOptions},
    storage::Storage,
    worker::{Progress, Worker},
};
use uuid::Uuid;

use super::archive::Archive;
use crate::{
    lab::{MARKER, Switch, attempt, shows_no_secret, until, variable},
    subject::{Subject, backup},
};

/// The variable with the program of most private servers.
pub(crate) const PROGRAM: &str = "LASTGOOD_TEST_MONGODB_PROGRAM";

/// A server without passwords, for one test only.
pub(crate) struct Private {
    child: Child,
    home: tempfile::TempDir,
    /// The variable with the program.
    program: &'static str,
    args: Vec<String>,
    pub(crate) port: u16,
}

impl Private {
    /// Starts a replica set of one member, and waits until it accepts writes.
    pub(crate) async fn start() -> Result<Self> {
        Self::with(&[]).await
    }

    /// Does the same with server parameters, e.g. `minSnapshotHistoryWindowInSeconds=1`.
    pub(crate) async fn with(parameters: &[&str]) -> Result<Self> {
        let set = |it: &&str| ["--setParameter".to_owned(), (*it).to_owned()];
        let args: Vec<_> = parameters.iter().flat_map(set).collect();
        Self::with_args(&args).await
    }

    /// Does the same with arguments.
    pub(crate) async fn with_args(args: &[impl AsRef<str>]) -> Result<Self> {
        Self::of_program(PROGRAM, args).await
    }

    /// Does the same with the program in a variable.
    pub(crate) async fn of_program(
        program: &'static str,
        args: &[impl AsRef<str>],
    ) -> Result<Self> {
        let args = args.iter().map(|it| it.as_ref().to_owned());
        let server = Self::spawned(program, args.collect()).await?;
        let client = server.direct().await?;
        let admin = client.database("admin");
        let members = vec![doc! {"_id": 0, "host": format!("127.0.0.1:{}", server.port)}];
        let mut config = doc! {"_id": "rs0", "members": members};
        if server.args.iter().any(|it| it == "--configsvr") {
            config.insert("configsvr", true);
        }
        admin.run_command(doc! {"replSetInitiate": config}).await?;
        server.is_primary().await?;
        Ok(server)
    }

    async fn spawned(variable: &'static str, mut args: Vec<String>) -> Result<Self> {
        let home = tempfile::tempdir()?;
        std::fs::create_dir(home.path().join("data"))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        args.extend(["--replSet".to_owned(), "rs0".to_owned()]);
        let child = spawn(variable, home.path(), port, &args)?;
        let server = Self {
            child,
            home,
            program: variable,
            args,
            port,
        };
        server.answers().await?;
        Ok(server)
    }

    /// Restarts a killed server with its data.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(self.program, self.home.path(), self.port, &self.args)?;
        self.answers().await?;
        self.is_primary().await
    }

    async fn answers(&self) -> Result<()> {
        let client = self.direct().await?;
        let admin = client.database("admin");
        until("the private server answers", || async {
            Ok(admin.run_command(doc! {"hello": 1}).await.is_ok())
        })
        .await
    }

    async fn is_primary(&self) -> Result<()> {
        let client = self.direct().await?;
        let admin = client.database("admin");
        until("the private server takes writes", || async {
            let told = admin.run_command(doc! {"hello": 1}).await?;
            Ok(told.get_bool("isWritablePrimary")?)
        })
        .await
    }

    async fn direct(&self) -> Result<Client> {
        let url = format!(
            "mongodb://127.0.0.1:{}/?directConnection=true&serverSelectionTimeoutMS=1000",
            self.port
        );
        Ok(Client::with_uri_str(url).await?)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{database}", self.port)
    }

    /// Kills the server, and waits until it has exited.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        ensure!(self.home.path().exists(), "its directory outlives it");
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}

fn spawn(variable: &str, home: &std::path::Path, port: u16, args: &[String]) -> Result<Child> {
    let child = program(variable)?
        .args(["--port", &port.to_string()])
        .args(args)
        .arg("--dbpath")
        .arg(home.join("data"))
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child)
}

/// Returns the program in a variable.
fn program(name: &str) -> Result<Command> {
    #[derive(serde::Deserialize)]
    struct Program {
        argv: Vec<String>,
        env: BTreeMap<String, String>,
    }
    let program: Program = serde_json::from_str(&variable(name)?)?;
    let (first, rest) = program.argv.split_first().context("a program's name")?;
    let mut command = Command::new(first);
    command.args(rest).envs(program.env);
    Ok(command)
}

/// Returns whether this machine has no such server, and reports the skip.
pub(crate) fn is_skipped(name: &str) -> Result<bool> {
    let said = variable(name)?;
    let is_skipped = said.starts_with("skip: ");
    if is_skipped {
        writeln!(std::io::stderr(), "SKIPPED: {name}: {said}")?;
    }
    Ok(is_skipped)
}

/// Whether private servers have snapshot reads and time series, which a test is about. If not, reports the skip.
pub(crate) fn private_servers_read_snapshots() -> Result<bool> {
    let told = program(PROGRAM)?.arg("--version").output()?.stdout;
    let told = String::from_utf8(told)?;
    let version = told.strip_prefix("db version v").context("a version")?;
    let is_recent = parsed(version)? >= (5, 0);
    if !is_recent {
        writeln!(
            std::io::stderr(),
            "SKIPPED: MongoDB before 5.0 reads no snapshots"
        )?;
    }
    Ok(is_recent)
}

/// A private database with its own user, and a private store.
pub(crate) struct Lab {
    pub(crate) name: String,
    /// Connected as root.
    pub(crate) client: Client,
    pub(crate) store: tempfile::TempDir,
    pub(crate) worker: Worker,
    pub(crate) resource: Subject,
    /// The server's version, e.g. 6.0.
    pub(super) version: (i32, i32),
}

impl Lab {
    /// A lab on the replica set.
    pub(crate) async fn new() -> Result<Self> {
        Self::on("LASTGOOD_TEST_MONGODB_URL").await
    }

    /// A lab on the standalone server.
    pub(crate) async fn standalone() -> Result<Self> {
        Self::on("LASTGOOD_TEST_MONGODB_STANDALONE_URL").await
    }

    /// A lab on a server of another version. If this machine has none, reports the skip and returns `None`.
    pub(crate) async fn of_version(server: &str) -> Result<Option<Self>> {
        if is_skipped(server)? {
            return Ok(None);
        }
        Self::on(server).await.map(Some)
    }

    async fn on(server: &str) -> Result<Self> {
        let root = variable(server)?;
        let client = Client::with_uri_str(&root).await?;
        let version = version(&client).await?;
        let name = format!("t-{}", &Uuid::new_v4().simple().to_string()[..12]);
        // As in deploy/grants: an owner does not have every right to the buckets of a time series.
        let buckets = doc! {"resource": {"db": &name, "system_buckets": ""}, "actions": [
            "find", "insert", "remove", "bypassDocumentValidation", "createCollection", "createIndex", "dropCollection",
        ]};
        let privileges = if has_time_series(version) {
            vec![buckets]
        } else {
            Vec::new()
        };
        let role = doc! {"createRole": &name, "privileges": privileges, "roles": []};
        client.database("admin").run_command(role).await?;
        let roles = ["dbOwner", &name].map(|role| {
            let db = if role == name { "admin" } else { &name };
            doc! {"role": role, "db": db}
        });
        let user = doc! {"createUser": &name, "pwd": MARKER, "roles": roles.to_vec()};
        client.database(&name).run_command(user).await?;
        let (_, rest) = root.split_once('@').context("root's URL has a user")?;
        let (host, _) = rest.split_once('/').context("root's URL has a path")?;
        let url = format!("mongodb://{name}:{MARKER}@{host}/{name}");
        Self::of(name, client, url).await
    }

    /// A lab on a private server.
    pub(crate) async fn private(server: &Private) -> Result<Self> {
        let client = Client::with_uri_str(server.url("")).await?;
        Self::of("shop".to_owned(), client, server.url("shop")).await
    }

    async fn of(name: String, client: Client, url: String) -> Result<Self> {
        let version = version(&client).await?;
        let store = tempfile::tempdir()?;
        let worker = Worker {
            storage: Storage::open(&store.path().display().to_string().parse()?).await?,
            tools: Arc::new(Toolbox::only(&[]).await),
            work_dir: store.path().to_owned(),
            encrypt_to: None,
            keyring: std::sync::Arc::new(lastgood_jobs::key::NoKeys),
            lease: Arc::new(Switch(AtomicBool::new(true))),
            progress: Arc::new(Progress::default()),
        };
        let resource = Subject {
            id: "db-1".parse()?,
            team: "acme".parse()?,
            tier: "pro".parse()?,
            engine: Engine::Mongodb,
            options: ResourceOptions::default(),
            url: url.into(),
        };
        Ok(Self {
            name,
            client,
            store,
            worker,
            resource,
            version,
        })
    }

    pub(crate) fn has_time_series(&self) -> bool {
        has_time_series(self.version)
    }

    /// Whether keys of documents may contain a dot or begin with a dollar sign.
    pub(crate) fn has_odd_keys(&self) -> bool {
        self.version >= (5, 0)
    }

    pub(crate) fn has_clustered_collections(&self) -> bool {
        self.version >= (5, 3)
    }

    /// Whether a `find` outside a transaction reads from a snapshot.
    pub(crate) fn has_snapshot_reads(&self) -> bool {
        self.version >= (5, 0)
    }

    pub(crate) fn database(&self) -> Database {
        self.client.database(&self.name)
    }

    /// Runs a command in the private database, as root.
    pub(crate) async fn run(&self, command: Document) -> Result<Document> {
        Ok(self.database().run_command(command).await?)
    }

    pub(crate) fn with_url(&self, from: &str, to: &str) -> Subject {
        let url = secrecy::ExposeSecret::expose_secret(&self.resource.url);
        Subject {
            url: url.replace(from, to).into(),
            ..self.resource.clone()
        }
    }

    /// Returns the resource of the same user, but for everything on the server.
    pub(crate) fn whole_deployment(&self) -> Subject {
        let url = secrecy::ExposeSecret::expose_secret(&self.resource.url);
        let (server, database) = url.rsplit_once('/').unwrap_or_default();
        Subject {
            url: format!("{server}/?authSource={database}").into(),
            ..self.resource.clone()
        }
    }

    pub(crate) async fn backup(&self) -> Result<(RestorePoint, Archive)> {
        let point = backup(attempt(), &self.resource, None, &self.worker).await?;
        let object = self
            .store
            .path()
            .join("objects")
            .join(&point.manifest.archive.key);
        Ok((point, Archive::read(&std::fs::read(object)?)?))
    }

    /// Checks that a backup fails as expected, without showing a secret or leaving anything behind.
    pub(crate) async fn fails(
        &self,
        resource: &Subject,
        kind: ErrorKind,
        is_permanent: bool,
    ) -> Result<JobError> {
        let result = backup(attempt(), resource, None, &self.worker).await;
        let error = result.err().context("the backup succeeded")?;
        shows_no_secret(&error)?;
        ensure!(
            error.kind() == kind,
            "{:?}: {}",
            error.kind(),
            error.report()
        );
        ensure!(error.is_permanent() == is_permanent, "{}", error.report());
        self.leaves_nothing().await?;
        Ok(error)
    }

    /// Checks that nothing is left in the store.
    pub(crate) async fn leaves_nothing(&self) -> Result<()> {
        until("no file is left", || async { Ok(self.files()?.is_empty()) }).await
    }

    /// Returns every file in the store.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut directories = vec![self.store.path().to_owned()];
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

    /// Drops the user and the database.
    pub(crate) async fn clean(self) -> Result<()> {
        self.run(doc! {"dropUser": &self.name}).await?;
        let role = doc! {"dropRole": &self.name};
        self.client.database("admin").run_command(role).await?;
        self.database().drop().await?;
        Ok(())
    }
}

async fn version(client: &Client) -> Result<(i32, i32)> {
    let build = doc! {"buildInfo": 1};
    let build = client.database("admin").run_command(build).await?;
    parsed(build.get_str("version")?)
}

/// Returns the first two numbers of a version.
fn parsed(version: &str) -> Result<(i32, i32)> {
    let mut numbers = version.split('.').map(str::parse);
    let mut next = || numbers.next().with_context(|| version.to_owned());
    Ok((next()??, next()??))
}

fn has_time_series(version: (i32, i32)) -> bool {
    version >= (5, 0)
}
