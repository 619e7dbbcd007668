//! What did killed processes leave of their drills?

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    home::{LOCK, PREFIX, RECORD, remove},
    processes::{Record, kill},
};

/// A directory without its name yet is left alone for so long: its owner may be about to lock and name it.
const UNNAMED_FOR: Duration = Duration::from_hours(1);

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Scratch servers' directories, whose servers were ended if they still ran.
    pub removed: u64,
    /// Those that could not be removed; the reason is logged.
    pub failed: u64,
}

/// Ends the scratch servers of processes that are no longer alive, and removes their directories below `dir`.
///
/// A live process holds a lock on each of its directories, so a sweep never touches a drill that is going on, of this
/// process or of another one. Only what belongs to this process's user is looked at. Call it at the start and every hour.
pub async fn sweep(dir: &Path) -> io::Result<Swept> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || sweep_now(&dir))
        .await
        .map_err(io::Error::other)?
}

fn sweep_now(dir: &Path) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let dir = match fs::canonicalize(dir) {
        // No drill has run here yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
        dir => dir?,
    };
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let is_unnamed = name.starts_with(b".");
        let is_drill = name
            .strip_prefix(b".")
            .unwrap_or(name)
            .starts_with(PREFIX.as_bytes());
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if !is_drill || !found.is_dir() || found.uid() != me {
            continue;
        }
        match remove_if_dead(&entry.path(), is_unnamed, &found) {
            Ok(true) => swept.removed += 1,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, path = %entry.path().display(), "cannot remove what a killed drill left");
                swept.failed += 1;
            }
        }
    }
    Ok(swept)
}

/// Returns whether the directory's owner was dead, and so it was removed.
fn remove_if_dead(path: &Path, is_unnamed: bool, found: &fs::Metadata) -> io::Result<bool> {
    if is_unnamed {
        let age = SystemTime::now().duration_since(found.modified()?);
        return match age {
            Ok(age) if age > UNNAMED_FOR => remove(path).map(|()| true),
            Ok(_) | Err(_) => Ok(false),
        };
    }
    // Without a lock it was being removed when its owner died: the server had ended.
    let lock = match File::open(path.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        lock => Some(lock?),
    };
    if lock.as_ref().is_some_and(|lock| lock.try_lock().is_err()) {
        return Ok(false);
    }
    let record = fs::read(path.join(RECORD)).unwrap_or_default();
    // A record that was cut short is from before the machine went down, and so is the server.
    if let Some(record) = Record::read(&record) {
        record.ask_and_wait();
        kill(&record, path)?;
    }
    remove(path).map(|()| true)
}
