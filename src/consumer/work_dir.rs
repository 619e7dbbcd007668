//! A private directory of this process for password files, and the removal of those that killed processes left.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The directory, which is removed when this value is dropped. Its lock file shows others that its owner is alive.
pub(crate) struct WorkDir {
    path: PathBuf,
    _lock: File,
}

impl WorkDir {
    /// Creates a directory below `parent` that only this user can read, and removes those whose owners are dead.
    pub(crate) fn create(parent: &Path) -> anyhow::Result<Self> {
        let mine = || {
            format!(
                "cannot make a private directory in {}: choose another --work-dir",
                parent.display()
            )
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(mine)?;
        refuse_others(parent)?;
        remove_dead(parent).with_context(mine)?;
        let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        // Locked before it gets its name, so that every named directory whose lock is free belongs to a dead process.
        let (unnamed, path) = (parent.join(format!(".{name}")), parent.join(name));
        DirBuilder::new()
            .mode(0o700)
            .create(&unnamed)
            .with_context(mine)?;
        let lock = File::create(unnamed.join("lock")).with_context(mine)?;
        lock.try_lock()
            .map_err(io::Error::from)
            .with_context(mine)?;
        fs::rename(&unnamed, &path).with_context(mine)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove this process's private directory");
        }
    }
}

/// Refuses a parent directory in which another user could rename this process's directory and put their own password files in its place.
fn refuse_others(parent: &Path) -> anyhow::Result<()> {
    let found = fs::symlink_metadata(parent)?;
    let me = fs::metadata("/proc/self").map_or_else(|_| found.uid(), |process| process.uid());
    anyhow::ensure!(
        found.is_dir() && found.uid() == me && found.mode() & 0o022 == 0,
        "{} belongs to another user, or others may write to it: choose another --work-dir",
        parent.display()
    );
    Ok(())
}

/// Removes the directories that killed processes of this user left below `parent`, with their password files.
pub(super) fn remove_dead(parent: &Path) -> io::Result<()> {
    let me = fs::symlink_metadata(parent)?.uid();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let path = entry.path();
        let is_ours = fs::symlink_metadata(&path)
            .is_ok_and(|found| found.is_dir() && found.uid() == me && found.mode() & 0o077 == 0);
        let is_unnamed = entry.file_name().as_encoded_bytes().starts_with(b".");
        let Ok(lock) = File::open(path.join("lock")) else {
            continue;
        };
        if is_ours && !is_unnamed && lock.try_lock().is_ok() {
            // Another process may be removing it too.
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_a_live_ones_stays() -> anyhow::Result<()> {
        let parent = tempfile::tempdir()?;
        let alive = WorkDir::create(parent.path())?;
        let dead = parent.path().join("4194304-dead");
        DirBuilder::new().mode(0o700).create(&dead)?;
        File::create(dead.join("lock"))?;
        fs::write(dead.join("pgpass.x"), "secret")?;
        remove_dead(parent.path())?;
        assert!(!dead.exists());
        assert!(alive.path().join("lock").exists());
        Ok(())
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir()?;
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o777))?;
        let refused = WorkDir::create(parent.path()).err();
        let text = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("--work-dir"), "{text}");
        Ok(())
    }
}
