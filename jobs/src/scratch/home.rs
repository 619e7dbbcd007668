//! Where are a scratch server's files, and who else may see them?
//!
//! ```text
//! DRILL-DIR/lastgood-drill-RUN8-RANDOM/   this process's
//!     lock                                held for as long as this process lives
//!     server                              which process it is: see `processes.rs`
//!     home/                               the server's own: its data, password files, socket and log
//! ```
//!
//! The server is started in `home`, and everything that it starts stays below it: that is how its processes are known,
//! whatever became of their parents.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use super::{
    RunAs, ScratchSpace,
    error::{NotPossible, StartError},
};
use crate::attempt::RunId;

/// The names of drills' directories begin with this. Permanent: the sweep of a later build knows them by it.
pub(super) const PREFIX: &str = "lastgood-drill-";
pub(super) const LOCK: &str = "lock";
/// The record of the server's process.
pub(super) const RECORD: &str = "server";
/// The directory of the server itself.
pub(super) const INSIDE: &str = "home";
const LOG: &str = "log";
/// How much of the end of a log is read.
const LOG_BYTES: u64 = 16 * 1024;
/// Lets nobody else in.
const CLOSED: u32 = 0o700;
/// Lets another user through, and lets them see nothing.
const PASSABLE: u32 = 0o711;

/// The private directory of one scratch server.
///
/// Dropping it removes it, as long as no server was started in it.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    is_used: bool,
    run_as: Option<RunAs>,
    _lock: File,
}

impl Home {
    /// Makes the directory, and refuses a `space` in which another user could replace it.
    pub(super) fn create(space: &ScratchSpace, run: RunId) -> Result<Self, StartError> {
        let mode = if space.run_as.is_some() {
            PASSABLE
        } else {
            CLOSED
        };
        let parent = prepare(space, mode)?;
        let random = uuid::Uuid::new_v4().simple().to_string();
        let run = run.0.simple().to_string();
        let name = format!(
            "{PREFIX}{}-{}",
            run.get(..8).unwrap_or_default(),
            random.get(..8).unwrap_or_default()
        );
        let doing = StartError::files("make a private directory");
        // Locked before it gets its name, so that every named directory whose lock is free belongs to a dead process.
        let (unnamed, dir) = (parent.join(format!(".{name}")), parent.join(name));
        DirBuilder::new()
            .mode(CLOSED)
            .create(&unnamed)
            .map_err(&doing)?;
        // Whatever the umask.
        fs::set_permissions(&unnamed, fs::Permissions::from_mode(mode)).map_err(&doing)?;
        let lock = private(&unnamed.join(LOCK)).map_err(&doing)?;
        lock.try_lock().map_err(io::Error::from).map_err(&doing)?;
        DirBuilder::new()
            .mode(CLOSED)
            .create(unnamed.join(INSIDE))
            .map_err(&doing)?;
        fs::rename(&unnamed, &dir).map_err(&doing)?;
        let home = Self {
            dir,
            is_used: false,
            run_as: space.run_as,
            _lock: lock,
        };
        home.hand_over(&home.inside()).map_err(&doing)?;
        Ok(home)
    }

    /// Returns the whole directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the server's part of it.
    pub(super) fn inside(&self) -> PathBuf {
        self.dir.join(INSIDE)
    }

    pub(super) fn run_as(&self) -> Option<RunAs> {
        self.run_as
    }

    /// Writes a file that only the server and this process can read.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, StartError> {
        let path = self.inside().join(name);
        let doing = StartError::files("write a private file");
        let mut file = private(&path).map_err(&doing)?;
        file.write_all(text.as_bytes()).map_err(&doing)?;
        self.hand_over(&path).map_err(&doing)?;
        Ok(path)
    }

    /// Makes an empty directory for the server.
    pub(super) fn make(&self, name: &str) -> Result<PathBuf, StartError> {
        let path = self.inside().join(name);
        let doing = StartError::files("make a private directory");
        DirBuilder::new()
            .mode(CLOSED)
            .create(&path)
            .map_err(&doing)?;
        self.hand_over(&path).map_err(&doing)?;
        Ok(path)
    }

    /// Removes one of the files that [`Self::write`] made.
    pub(super) fn forget(path: &Path) -> Result<(), StartError> {
        fs::remove_file(path).map_err(StartError::files("remove a private file"))
    }

    /// Opens the log to append to it. This process opens it, so the server needs no right to do so.
    pub(super) fn log(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.dir.join(LOG))
    }

    /// Returns the end of the log; nothing if it cannot be read.
    pub(super) fn log_tail(&self) -> String {
        let tail = || -> io::Result<Vec<u8>> {
            let mut log = File::open(self.dir.join(LOG))?;
            let begin = log.metadata()?.len().saturating_sub(LOG_BYTES);
            log.seek(SeekFrom::Start(begin))?;
            let mut tail = Vec::new();
            log.take(LOG_BYTES).read_to_end(&mut tail)?;
            Ok(tail)
        };
        String::from_utf8_lossy(&tail().unwrap_or_default()).into_owned()
    }

    /// Replaces the record of the server's process.
    pub(super) fn record(&mut self, record: &str) -> Result<(), StartError> {
        self.is_used = true;
        let (path, new) = (self.dir.join(RECORD), self.dir.join("server.new"));
        let written = private(&new)
            .and_then(|mut file| file.write_all(record.as_bytes()))
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(StartError::files("record the process"))
    }

    /// Removes everything. The server must have ended.
    pub(super) fn remove(self) -> io::Result<()> {
        // While the lock is held.
        remove(&self.dir)
    }

    fn hand_over(&self, path: &Path) -> io::Result<()> {
        match self.run_as {
            Some(to) => std::os::unix::fs::chown(path, Some(to.uid), Some(to.gid)),
            None => Ok(()),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.is_used {
            drop(remove(&self.dir));
        }
    }
}

/// Removes a directory that somebody else may be removing too.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the directory for drills if need be, and returns its absolute path.
fn prepare(space: &ScratchSpace, mode: u32) -> Result<PathBuf, NotPossible> {
    let unusable = |why: String| NotPossible::Directory {
        dir: space.dir.clone(),
        why,
    };
    if !space.dir.exists() {
        let prepared = DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&space.dir)
            // Whatever the umask.
            .and_then(|()| fs::set_permissions(&space.dir, fs::Permissions::from_mode(mode)));
        prepared.map_err(|error| unusable(error.to_string()))?;
    }
    let path = fs::canonicalize(&space.dir).map_err(|error| unusable(error.to_string()))?;
    let found = fs::symlink_metadata(&path).map_err(|error| unusable(error.to_string()))?;
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(unusable(
            "it belongs to another user, or others may write to it".to_owned(),
        ));
    }
    if space.run_as.is_some() && found.mode() & 0o001 == 0 {
        return Err(unusable(
            "the servers' user may not pass through it (chmod o+x)".to_owned(),
        ));
    }
    Ok(path)
}

/// Creates a file that only its owner can read.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
