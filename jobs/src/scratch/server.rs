//! One scratch server's process: started with nothing of ours, waited for, and ended with everything it started.

use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::{
    error::StartError,
    home::Home,
    processes::{self, END_TIMEOUT, Record, kill},
};
use crate::{detached, printable::printable, process::Secrets};

/// How long a server may take until it accepts connections. Disks that many drills share are slow.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(20);
/// How many lines of the log an error quotes.
const LINES_TOLD: usize = 12;

/// A server's directory, and its process while one is running.
///
/// Dropping it ends the process and everything it started, and removes the directory: at once without a runtime, and
/// otherwise in the background, which [`detached::settled`] waits for.
pub(super) struct Server {
    /// `None` once it has ended.
    inner: Option<Inner>,
    secrets: Secrets,
}

#[derive(Debug)]
struct Inner {
    home: Home,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    name: String,
    record: Record,
    child: Child,
}

/// A program to run.
pub(super) struct Program<'a> {
    /// Such as `PostgreSQL 18.6`.
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    /// No secret: everybody on the machine can read them.
    pub(super) args: Vec<OsString>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.inner).finish()
    }
}

impl Server {
    /// Takes over a directory. `secrets` are removed from what is told of its log.
    pub(super) fn new(home: Home, secrets: Secrets) -> Self {
        let inner = Some(Inner {
            home,
            started: None,
        });
        Self { inner, secrets }
    }

    /// Returns its directory.
    pub(super) fn home(&self) -> Result<&Home, StartError> {
        let inner = self.inner.as_ref().map(|it| &it.home);
        inner.ok_or_else(|| StartError::files("use the directory")(gone()))
    }

    /// Starts a program in the directory, and returns at once.
    pub(super) fn start(&mut self, program: &Program<'_>) -> Result<(), StartError> {
        let doing = StartError::files("run the program");
        let inner = self.inner.as_mut().ok_or_else(|| doing(gone()))?;
        let mut record = Record::new(program.path);
        // Twice: a sweep finds a process that was not recorded by where it works, if it knows the program.
        inner.home.record(&json(&record)?)?;
        let mut command = command(&inner.home, program).map_err(&doing)?;
        let child = command.spawn().map_err(&doing)?;
        record.began_as(child.id());
        let text = json(&record);
        inner.started = Some(Started {
            name: program.name.to_owned(),
            record,
            child,
        });
        inner.home.record(&text?)
    }

    /// Runs a program in the directory until it ends with success.
    pub(super) async fn run(&mut self, program: &Program<'_>) -> Result<(), StartError> {
        self.start(program)?;
        let doing = StartError::files("wait for the program");
        let deadline = Self::deadline();
        loop {
            match self.exited().map_err(&doing)? {
                Some(status) if status.success() => return Ok(()),
                Some(_) | None => self.pause(deadline).await?,
            }
        }
    }

    /// Returns until when a program may take, beginning now.
    pub(super) fn deadline() -> Instant {
        Instant::now() + START_TIMEOUT
    }

    /// Waits a moment before the caller looks again. Fails if the program has ended, or the deadline has passed.
    pub(super) async fn pause(&mut self, deadline: Instant) -> Result<(), StartError> {
        let exited = self.exited();
        if let Some(status) = exited.map_err(StartError::files("wait for the server"))? {
            return Err(self.ended(&status.to_string()));
        }
        if Instant::now() > deadline {
            return Err(self.silent());
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// Returns how the server ended, if it has, with the end of its log.
    pub(super) fn died(&mut self) -> Option<String> {
        let status = self.exited().ok().flatten()?;
        Some(self.ended(&status.to_string()).to_string())
    }

    /// Ends the server and everything it started, and removes the directory.
    pub(super) async fn end(mut self) -> io::Result<()> {
        match self.inner.take() {
            // Even if nobody waits any more.
            Some(inner) => detached::spawn(inner.end())
                .await
                .map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// Returns how its last program exited. Called again, it returns the same.
    fn exited(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        match self.inner.as_mut().and_then(|it| it.started.as_mut()) {
            Some(started) => started.child.try_wait(),
            None => Ok(None),
        }
    }

    fn ended(&self, status: &str) -> StartError {
        StartError::Ended {
            program: self.name(),
            status: status.to_owned(),
            log: self.log(),
        }
    }

    fn silent(&self) -> StartError {
        StartError::Silent {
            program: self.name(),
            seconds: START_TIMEOUT.as_secs(),
            log: self.log(),
        }
    }

    fn name(&self) -> String {
        let started = self.inner.as_ref().and_then(|it| it.started.as_ref());
        started.map_or_else(String::new, |it| it.name.clone())
    }

    /// Returns the end of the log in one line.
    fn log(&self) -> String {
        let log = self.inner.as_ref().map(|it| it.home.log_tail());
        let log = self.secrets.scrub(&log.unwrap_or_default());
        let lines: Vec<&str> = log
            .lines()
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .collect();
        let told = lines.get(lines.len().saturating_sub(LINES_TOLD)..);
        printable(&told.unwrap_or_default().join(" | "))
    }
}

impl Inner {
    async fn end(mut self) -> io::Result<()> {
        if let Some(mut started) = self.started.take() {
            let dir = self.home.dir().to_owned();
            started.record.ask_to_end();
            let _ended_by_itself = tokio::time::timeout(END_TIMEOUT, started.child.wait()).await;
            let record = started.record.clone();
            let killed = tokio::task::spawn_blocking(move || kill(&record, &dir)).await;
            started.child.start_kill().or_else(is_gone)?;
            started.child.wait().await?;
            killed.map_err(io::Error::other)??;
        }
        tokio::task::spawn_blocking(|| self.home.remove())
            .await
            .map_err(io::Error::other)?
    }

    /// Does the same at once, and without waiting.
    fn end_now(mut self) {
        if let Some(mut started) = self.started.take() {
            for process in processes::all(&started.record, self.home.dir()) {
                process.signal(Signal::KILL);
            }
            drop(started.child.start_kill());
        }
        drop(self.home.remove());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return inner.end_now();
        }
        detached::spawn_from_drop(async move {
            if let Err(error) = inner.end().await {
                tracing::warn!(%error, "a drill's server was not removed: the next sweep tries again");
            }
        });
    }
}

/// Returns the command: nothing of our environment, a group of its own, no input, and the log as its output.
fn command(home: &Home, program: &Program<'_>) -> io::Result<Command> {
    let log = home.log()?;
    let mut command = Command::new(program.path);
    command
        .args(&program.args)
        .env_clear()
        // GMT is the one time zone that needs no data on the machine.
        .env("TZ", "GMT")
        .env("LC_ALL", "C")
        .current_dir(home.inside())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = home.run_as() {
        command.uid(user.uid).gid(user.gid);
    }
    Ok(command)
}

fn json(record: &Record) -> Result<String, StartError> {
    let text = serde_json::to_string(record).map_err(io::Error::other);
    text.map_err(StartError::files("record the process"))
}

fn gone() -> io::Error {
    io::Error::other("it was removed")
}

/// A process that has ended already need not be killed.
fn is_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::InvalidInput {
        Ok(())
    } else {
        Err(error)
    }
}

/// Returns a port of the loopback that nobody listens on now.
pub(super) fn free_port() -> Result<u16, StartError> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr());
    Ok(port.map_err(StartError::files("find a free port"))?.port())
}

/// Returns an argument that holds a path.
pub(super) fn with_path(before: &str, path: &Path) -> OsString {
    let mut arg = OsString::from(before);
    arg.push(path);
    arg
}

/// Returns a random text of 64 letters and digits.
pub(super) fn random_secret() -> String {
    let random = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", random(), random())
}

/// Returns the program's path, which a server may only run by an absolute one: it starts elsewhere.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
