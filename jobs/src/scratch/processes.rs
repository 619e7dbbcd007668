//! Which processes belong to a scratch server, and how do all of them end?
//!
//! A process id alone names nobody: it may have been given to another process since. A server's processes are
//!
//! * the one that was recorded, if it also began at the recorded time, and its descendants;
//! * those that run a program from the same directory and work below the server's own: a server's child whose parent died.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// How long a server may take to end by itself. PostgreSQL gives its own processes five seconds.
pub(super) const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often its end is looked for.
const PAUSE: Duration = Duration::from_millis(20);

/// A server's first process, as recorded beside its directory. The format is permanent: a later build sweeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The program that was run.
    program: PathBuf,
    /// During which run of this machine; empty on systems that do not number them.
    boot: String,
    /// Its process and when it began, once it has begun.
    process: Option<Process>,
}

/// One process, never to be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Process {
    pid: u32,
    /// In clock ticks since the machine started, as `/proc` has it.
    began: u64,
}

/// A process that is running.
#[derive(Debug, Clone, Copy)]
struct Running {
    process: Process,
    parent: u32,
}

impl Process {
    /// Returns the process that now has this id; `None` if there is none, or if this system has no `/proc`.
    fn of(pid: u32) -> Option<Self> {
        read(pid).map(|it| it.process)
    }

    /// Sends a signal to this process and to no other. Returns whether it was there.
    pub(super) fn signal(self, signal: Signal) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| exactly(pid, self, signal))
    }
}

impl Record {
    /// Records a program that is about to be run.
    pub(super) fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            boot: boot(),
            process: None,
        }
    }

    /// Adds its process.
    pub(super) fn began_as(&mut self, pid: Option<u32>) {
        self.process = pid.and_then(Process::of);
    }

    /// Reads a record. A process from before the machine was started again has ended.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        let mut record: Self = serde_json::from_slice(json).ok()?;
        if record.boot != boot() {
            record.process = None;
        }
        Some(record)
    }

    /// Asks a server to end in the way that leaves the least behind. It may not obey.
    pub(super) fn ask_to_end(&self) {
        let Some(process) = self.process else {
            return;
        };
        let name = self.program.file_name().and_then(|it| it.to_str());
        process.signal(match name {
            // Ends its own processes, and gives back its shared memory.
            Some("postgres") => Signal::QUIT,
            // So does the server that it feeds, once its input ends.
            Some("initdb") => Signal::TERM,
            Some(_) | None => Signal::KILL,
        });
    }

    /// Asks a server that is nobody's child, and waits for a while until it has ended.
    pub(super) fn ask_and_wait(&self) {
        self.ask_to_end();
        let deadline = Instant::now() + END_TIMEOUT;
        let is_there = || {
            self.process
                .is_some_and(|it| Process::of(it.pid) == Some(it))
        };
        while is_there() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Kills every process of a server, and waits until none is left.
pub(super) fn kill(record: &Record, dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + END_TIMEOUT;
    loop {
        // Again and again: one of them may have started another meanwhile.
        let found = all(record, dir);
        if found.is_empty() {
            return Ok(());
        }
        for process in &found {
            process.signal(Signal::KILL);
        }
        if Instant::now() > deadline {
            let pids: Vec<u32> = found.iter().map(|it| it.pid).collect();
            return Err(io::Error::other(format!(
                "processes {pids:?} of {} cannot be killed",
                dir.display()
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the running processes of the server whose directory this is.
pub(super) fn all(record: &Record, directory: &Path) -> HashSet<Process> {
    let running = running();
    let programs = fs::canonicalize(&record.program)
        .ok()
        .and_then(|program| Some(program.parent()?.to_owned()));
    let works_there = |it: &&Running| {
        let link = |name| fs::read_link(format!("/proc/{}/{name}", it.process.pid)).ok();
        let is_of_server = || link("exe").is_some_and(|exe| exe.parent() == programs.as_deref());
        link("cwd").is_some_and(|cwd| cwd.starts_with(directory)) && is_of_server()
    };
    let mut found: HashSet<Process> = running
        .iter()
        .filter(|it| Some(it.process) == record.process || works_there(it))
        .map(|it| it.process)
        .collect();
    loop {
        let pids: HashSet<u32> = found.iter().map(|it| it.pid).collect();
        let children = running.iter().filter(|it| pids.contains(&it.parent));
        let before = found.len();
        found.extend(children.map(|it| it.process));
        if found.len() == before {
            return found;
        }
    }
}

/// Returns the random id of this run of the machine.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

/// Returns what is running, without those that have ended and wait for their parent to notice.
fn running() -> Vec<Running> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

fn read(pid: u32) -> Option<Running> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `PID (NAME) STATE PPID …`, where the name may contain anything. The 22nd field is when it began.
fn parse(pid: u32, stat: &str) -> Option<Running> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let began = fields.nth(17)?.parse().ok()?;
    let is_alive = !matches!(state, "Z" | "X");
    is_alive.then_some(Running {
        process: Process { pid, began },
        parent,
    })
}

/// Holds on to whoever has this id, and only then compares.
#[cfg(target_os = "linux")]
fn exactly(pid: Pid, process: Process, signal: Signal) -> bool {
    use rustix::process::{PidfdFlags, kill_process, pidfd_open, pidfd_send_signal};
    let held = pidfd_open(pid, PidfdFlags::empty());
    if Process::of(process.pid) != Some(process) {
        return false;
    }
    match held {
        Ok(held) => pidfd_send_signal(held, signal).is_ok(),
        // Linux before 5.3.
        Err(rustix::io::Errno::NOSYS) => kill_process(pid, signal).is_ok(),
        Err(_) => false,
    }
}

/// Without `/proc` no process can be told from a later one with the same id.
#[cfg(not(target_os = "linux"))]
fn exactly(_: Pid, _: Process, _: Signal) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let found = parse(7, stat).unwrap();
        assert_eq!((found.process.began, found.parent), (4711, 3));
        let ended = stat.replace(") S", ") Z");
        assert!(parse(7, &ended).is_none());
    }

    #[test]
    fn nobody_else_with_the_same_id_is_signalled() -> anyhow::Result<()> {
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()?;
        let process = Process::of(child.id()).unwrap();
        let earlier = Process {
            began: process.began - 1,
            ..process
        };
        assert!(!earlier.signal(Signal::KILL));
        assert!(child.try_wait()?.is_none());
        assert!(process.signal(Signal::KILL));
        child.wait()?;
        assert!(!process.signal(Signal::KILL));
        Ok(())
    }

    #[test]
    fn a_record_from_before_a_restart_of_the_machine_names_no_process() -> anyhow::Result<()> {
        let mut record = Record::new(Path::new("/bin/sh"));
        record.began_as(Some(std::process::id()));
        let json = serde_json::to_string(&record)?;
        assert_eq!(Record::read(json.as_bytes()), Some(record.clone()));
        let other = json.replace(&boot(), "another");
        assert_eq!(Record::read(other.as_bytes()).unwrap().process, None);
        assert_eq!(Record::read(b""), None);
        Ok(())
    }

    #[test]
    fn an_orphan_is_known_by_its_program_and_where_it_works() -> anyhow::Result<()> {
        let (here, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let record = Record::new(Path::new("/bin/sleep"));
        let sleep = |dir: &Path| {
            Command::new("/bin/sleep")
                .arg("1000")
                .current_dir(dir)
                .spawn()
        };
        let (mut ours, mut theirs) = (sleep(here.path())?, sleep(elsewhere.path())?);
        let mut other = Command::new("/bin/sh")
            .args(["-c", "read line"])
            .stdin(Stdio::piped())
            .current_dir(here.path())
            .spawn()?;
        let found = all(&record, &fs::canonicalize(here.path())?);
        let expected = HashSet::from([Process::of(ours.id()).unwrap()]);
        for child in [&mut ours, &mut theirs, &mut other] {
            child.kill()?;
            child.wait()?;
        }
        // The shell may be in the same directory of programs, but it is only reading: whoever looks around is no server.
        let found: HashSet<_> = found
            .into_iter()
            .filter(|it| it.pid != other.id())
            .collect();
        assert_eq!(found, expected);
        Ok(())
    }

    #[test]
    fn descendants_belong_to_the_recorded_process() -> anyhow::Result<()> {
        let mut parent = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & wait"])
            .spawn()?;
        let mut record = Record::new(Path::new("/nowhere/sh"));
        record.began_as(Some(parent.id()));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut found = HashSet::new();
        while found.len() < 2 && std::time::Instant::now() < deadline {
            found = all(&record, Path::new("/nowhere"));
            std::thread::yield_now();
        }
        assert_eq!(found.len(), 2);
        for process in found {
            process.signal(Signal::KILL);
        }
        parent.wait()?;
        Ok(())
    }
}
