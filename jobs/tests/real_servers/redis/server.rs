//! A test's own servers: start them, send them commands, kill them.

use std::{
    collections::BTreeMap, io::Write as _, net::TcpListener, path::PathBuf, process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use redis::{AsyncConnectionConfig, FromRedisValue, aio::MultiplexedConnection};
use tokio::process::{Child, Command};

/// The password of every user.
const MARKER: &str = "hunter2-marker";
/// How long an answer may take. A digest of a million keys takes some seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// The kinds of servers, each of which writes a different version of the dump format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// 6.2
    Redis6,
    /// 7.0
    Redis7,
    /// 9
    Valkey9,
}

impl Flavour {
    fn variable(self) -> &'static str {
        match self {
            Self::Redis6 => "LASTGOOD_TEST_REDIS6_PROGRAM",
            Self::Redis7 => "LASTGOOD_TEST_REDIS7_PROGRAM",
            Self::Valkey9 => "LASTGOOD_TEST_VALKEY9_PROGRAM",
        }
    }

    pub(crate) fn has_functions(self) -> bool {
        self != Self::Redis6
    }

    /// Returns how to start it. A missing program is reported as a skip, and gives `None`.
    fn program(self) -> Result<Option<Program>> {
        let variable = self.variable();
        let said = std::env::var(variable).with_context(|| {
            format!("{variable} is not set: run `make test`, which starts the servers")
        })?;
        if said.starts_with("skip: ") {
            writeln!(std::io::stderr(), "SKIPPED: {variable}: {said}")?;
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&said)?))
    }
}

#[derive(serde::Deserialize)]
struct Program {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
}

/// A running server with only a password set. Dropping it kills it.
pub(crate) struct Server {
    pub(crate) flavour: Flavour,
    pub(crate) port: u16,
    home: tempfile::TempDir,
    program: Program,
    child: Child,
}

impl Server {
    /// Starts a server. If this machine has none, reports the skip and returns `None`.
    pub(crate) async fn start(flavour: Flavour, settings: &[&str]) -> Result<Option<Self>> {
        let Some(program) = flavour.program()? else {
            return Ok(None);
        };
        let home = tempfile::tempdir()?;
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            configure(&home.path().join("redis.conf"), flavour, port, settings)?;
            let child = spawn(&program, &home)?;
            let mut server = Self {
                flavour,
                port,
                home: tempfile::tempdir()?,
                program: Program {
                    argv: program.argv.clone(),
                    env: program.env.clone(),
                },
                child,
            };
            if server.is_up().await? {
                server.home = home;
                return Ok(Some(server));
            }
        }
        bail!(
            "{flavour:?} did not start: {}",
            std::fs::read_to_string(home.path().join("log"))?
        )
    }

    /// Starts a Sentinel that watches this server under the name `shop`. Its password is the marker.
    pub(crate) async fn watched_by_sentinel(&self) -> Result<Option<Self>> {
        let Some(program) = self.flavour.program()? else {
            return Ok(None);
        };
        for _ in 0..5 {
            let home = tempfile::tempdir()?;
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let lines = [
                "bind 127.0.0.1".to_owned(),
                format!("port {port}"),
                format!("dir {}", home.path().display()),
                format!("requirepass {MARKER}"),
                format!("sentinel monitor shop 127.0.0.1 {} 1", self.port),
                format!("sentinel auth-pass shop {MARKER}"),
                String::new(),
            ];
            std::fs::write(home.path().join("redis.conf"), lines.join("\n"))?;
            let mut argv = Program {
                argv: program.argv.clone(),
                env: program.env.clone(),
            };
            // Otherwise the configuration file would come last.
            argv.argv.extend([
                home.path().join("redis.conf").display().to_string(),
                "--sentinel".to_owned(),
            ]);
            let log = std::fs::File::create(home.path().join("log"))?;
            let (first, rest) = argv.argv.split_first().context("a program's name")?;
            let child = Command::new(first)
                .args(rest)
                .envs(&argv.env)
                .current_dir(home.path())
                .stdin(Stdio::null())
                .stdout(log)
                .kill_on_drop(true)
                .spawn()?;
            let mut server = Self {
                flavour: self.flavour,
                port,
                home,
                program: argv,
                child,
            };
            if server.is_up().await? {
                return Ok(Some(server));
            }
        }
        bail!("Sentinel did not start")
    }

    /// Kills the server without warning.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Restarts the server on the same port.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.program, &self.home)?;
        anyhow::ensure!(self.is_up().await?, "it did not start again");
        Ok(())
    }

    /// Waits until the server answers. Returns `false` if it exits instead.
    async fn is_up(&mut self) -> Result<bool> {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while std::time::Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            if self.ask::<String>(0, &["PING"]).await.is_ok() {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(false)
    }

    /// Returns the default user's URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://:{MARKER}@127.0.0.1:{}", self.port)
    }

    /// Returns the URL of another user, whose password is also the marker.
    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("redis://{user}:{MARKER}@127.0.0.1:{}", self.port)
    }

    pub(crate) async fn session(&self, database: u64) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(format!("{}/{database}", self.url()))?;
        let patience = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        Ok(client
            .get_multiplexed_async_connection_with_config(&patience)
            .await?)
    }

    /// Sends one command, and returns the answer.
    pub(crate) async fn ask<T: FromRedisValue>(&self, database: u64, words: &[&str]) -> Result<T> {
        let mut session = self.session(database).await?;
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        let answer = command.query_async(&mut session).await;
        answer.with_context(|| format!("{words:?}"))
    }

    /// Runs one command per line, with words split at blanks.
    pub(crate) async fn run(&self, database: u64, commands: &str) -> Result<()> {
        let mut session = self.session(database).await?;
        for line in commands
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let mut command = redis::Cmd::new();
            for word in line.split_whitespace() {
                command.arg(word);
            }
            let done = command.query_async::<redis::Value>(&mut session).await;
            done.with_context(|| line.to_owned())?;
        }
        Ok(())
    }

    /// Returns a text that changes if any key of any database changes, apart from expiry times.
    pub(crate) async fn digest(&self) -> Result<String> {
        self.ask(0, &["DEBUG", "DIGEST"]).await
    }

    /// Returns the data as a file from which the server would start.
    pub(crate) async fn rdb(&self) -> Result<Vec<u8>> {
        self.ask::<()>(0, &["SAVE"]).await?;
        Ok(std::fs::read(self.home.path().join("dump.rdb"))?)
    }
}

fn spawn(program: &Program, home: &tempfile::TempDir) -> Result<Child> {
    let (first, rest) = program.argv.split_first().context("a program's name")?;
    let log = std::fs::File::create(home.path().join("log"))?;
    Ok(Command::new(first)
        .args(rest)
        .arg(home.path().join("redis.conf"))
        .envs(&program.env)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(log)
        .kill_on_drop(true)
        .spawn()?)
}

fn configure(path: &PathBuf, flavour: Flavour, port: u16, settings: &[&str]) -> Result<()> {
    let mut lines = vec![
        "bind 127.0.0.1".to_owned(),
        format!("port {port}"),
        format!("requirepass {MARKER}"),
        "save \"\"".to_owned(),
        "repl-diskless-sync-delay 0".to_owned(),
    ];
    if flavour != Flavour::Redis6 {
        lines.push("enable-debug-command yes".to_owned());
    }
    lines.extend(settings.iter().map(|&it| it.to_owned()));
    lines.push(String::new());
    Ok(std::fs::write(path, lines.join("\n"))?)
}
