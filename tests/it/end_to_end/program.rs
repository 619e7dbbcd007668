//! The real program as a child process: killed when its value is dropped, with its output in a file and its metrics over HTTP.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::eventually::eventually;

use super::lab::PATIENCE;

/// Returns the program with `variables` as everything that lastgood and libpq see in the environment.
pub(super) fn program(variables: &[(String, String)]) -> Command {
    with(Command::new(env!("CARGO_BIN_EXE_lastgood")), variables)
}

/// Returns a shell for a script in which `lastgood` is the program. It stops at the first command that fails.
pub(super) fn shell(script: &str, variables: &[(String, String)]) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_lastgood"));
    let own = program.parent().unwrap_or(Path::new("."));
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = with(Command::new("sh"), variables);
    command
        .env("PATH", format!("{}:{path}", own.display()))
        .args(["-euc", script]);
    command
}

fn with(mut command: Command, variables: &[(String, String)]) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("LASTGOOD_")
            || text.starts_with("PG")
            || text.starts_with("DATABASE_URL")
        {
            command.env_remove(&name);
        }
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

/// A command's output and exit code.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// Returns standard output as JSON.
    pub(super) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.out).with_context(|| format!("no JSON: {self:?}"))
    }

    pub(super) fn succeeded(self) -> Result<Self> {
        ensure!(self.code == Some(0), "{self:?}");
        Ok(self)
    }

    /// Checks that the command failed, and returns its error.
    pub(super) fn refused(self) -> Result<String> {
        ensure!(self.code == Some(1), "{self:?}");
        Ok(self.err)
    }
}

pub(super) struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a service that writes its output to the file `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// Sends a signal: `KILL`, `STOP`, `CONT`, `TERM`.
    pub(super) fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill")
            .args([format!("-{signal}"), self.pid().to_string()])
            .status()?;
        ensure!(sent.success(), "cannot send SIG{signal}");
        Ok(())
    }

    /// Kills the service, as a crash of its machine would.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub(super) async fn exit(&mut self) -> Result<ExitStatus> {
        eventually(PATIENCE, "the service ends", async || {
            Ok(self.child.try_wait()?.is_some())
        })
        .await?;
        Ok(self.child.wait()?)
    }

    /// Waits until the service serves its metrics, and returns its address.
    pub(super) async fn address(&self) -> Result<String> {
        let found = || -> Result<Option<String>> {
            let log = self.log()?;
            let rest = log.split_once("metrics at http://").map(|(_, rest)| rest);
            Ok(rest
                .and_then(|rest| rest.split_once("/metrics"))
                .map(|(address, _)| address.to_owned()))
        };
        eventually(PATIENCE, "the service serves its metrics", async || {
            Ok(found()?.is_some())
        })
        .await?;
        found()?.context("the address is gone from the log")
    }

    /// Returns the answer to `GET path`, including its head.
    pub(super) async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address().await?).await?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Returns the value of the series with this spelling.
    pub(super) async fn metric(&self, series: &str) -> Result<f64> {
        let metrics = self.get("/metrics").await?;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        match value {
            Some(value) => Ok(value),
            None => bail!("no series {series} in {metrics}"),
        }
    }

    /// Waits until the series with this spelling has at least this value.
    pub(super) async fn shows(&self, series: &str, least: f64) -> Result<()> {
        eventually(PATIENCE, &format!("{series} reaches {least}"), async || {
            Ok(self.metric(series).await? >= least)
        })
        .await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Also reaps a service that has ended already or is stopped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
