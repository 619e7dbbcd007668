//! Runs the binary as a child process, to its end or until the test stops it.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
};

use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually, within},
};

/// A command's output and exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Returns standard output as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }
}

/// Returns the binary with a clean environment, in the repository's root.
fn command(arguments: &[&str], catalog: Option<&TestCatalog>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastgood"));
    command
        .args(arguments)
        .env_clear()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(catalog) = catalog {
        command.env("DATABASE_URL", catalog.url().expose_secret());
    }
    command
}

/// Runs a command that needs no catalog.
pub(crate) async fn run(arguments: &[&str]) -> Result<Said> {
    said(command(arguments, None)).await
}

/// Runs a command on a catalog.
pub(crate) async fn run_on(catalog: &TestCatalog, arguments: &[&str]) -> Result<Said> {
    said(command(arguments, Some(catalog))).await
}

/// Runs a command on a catalog with one variable set.
pub(crate) async fn run_on_with(
    catalog: &TestCatalog,
    variable: (&str, &str),
    arguments: &[&str],
) -> Result<Said> {
    run_on_with_all(catalog, &[variable], arguments).await
}

/// Runs a command on a catalog with these variables set.
pub(crate) async fn run_on_with_all(
    catalog: &TestCatalog,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> Result<Said> {
    let mut command = command(arguments, Some(catalog));
    command.envs(variables.iter().copied());
    said(command).await
}

/// Runs a command with one variable set.
pub(super) async fn run_with(variable: (&str, &str), arguments: &[&str]) -> Result<Said> {
    let mut command = command(arguments, None);
    command.env(variable.0, variable.1);
    said(command).await
}

async fn said(mut command: Command) -> Result<Said> {
    let output = within(SOON, "the command ends", command.output()).await??;
    Ok(Said {
        code: output.status.code().context("killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

pub(super) struct Producer {
    child: Child,
    log: watch::Receiver<String>,
    pub(super) address: String,
}

impl Producer {
    /// Starts a producer that ticks every second, and returns once it serves metrics.
    pub(super) async fn start(catalog: &TestCatalog, plans: &str) -> Result<Self> {
        let arguments = [
            "producer",
            "--tick=1s",
            "--reap=1s",
            "--observe=1s",
            "--lease=3s",
            "--listen=127.0.0.1:0",
            "--plans",
            plans,
        ];
        let mut child = command(&arguments, Some(catalog))
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (write, mut log) = watch::channel(String::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                write.send_modify(|log| *log = format!("{log}{line}\n"));
            }
        });
        let address = within(SOON, "the producer serves metrics", async {
            let log = log
                .wait_for(|log| log.contains("/metrics\"") || log.contains("/metrics"))
                .await?;
            let after = log.split("http://").nth(1).context("no address")?;
            let address = after.split('/').next().context("no address")?;
            Ok::<_, anyhow::Error>(address.to_owned())
        })
        .await??;
        Ok(Self {
            child,
            log,
            address,
        })
    }

    /// Waits until the log contains `text`.
    pub(super) async fn logs(&mut self, text: &str) -> Result<()> {
        let what = format!("the log holds {text:?}");
        within(SOON, &what, self.log.wait_for(|log| log.contains(text))).await??;
        Ok(())
    }

    /// Returns the status line and the body of an answer.
    pub(super) async fn get(&self, path: &str) -> Result<(String, String)> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        within(SOON, "an answer", stream.read_to_string(&mut answer)).await??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
        let status = head.lines().next().unwrap_or_default();
        Ok((status.to_owned(), body.to_owned()))
    }

    /// Returns the value of one series, spelled as it is exported.
    pub(super) async fn metric(&self, series: &str) -> Result<Option<f64>> {
        let (_, body) = self.get("/metrics").await?;
        body.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
            .map(|value| value.parse().context(series.to_owned()))
            .transpose()
    }

    /// Waits until a series has this value.
    pub(super) async fn shows(&self, series: &str, value: f64) -> Result<()> {
        self.shows_where(series, |found| (found - value).abs() < 1e-9)
            .await
    }

    /// Waits until the value of a series satisfies `holds`.
    pub(super) async fn shows_where(
        &self,
        series: &str,
        holds: impl Fn(f64) -> bool,
    ) -> Result<()> {
        eventually(SOON, series, async || {
            Ok(self.metric(series).await?.is_some_and(&holds))
        })
        .await
        .with_context(|| self.log.borrow().clone())
    }

    /// Sends SIGTERM and returns the exit code.
    pub(super) async fn terminate(mut self) -> Result<i32> {
        let pid = self.child.id().context("it has ended")?.to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await?;
        ensure!(sent.success(), "cannot signal {pid}");
        let ended = within(
            Duration::from_secs(30),
            "the producer ends",
            self.child.wait(),
        )
        .await??;
        ended.code().context("killed by a signal")
    }
}
