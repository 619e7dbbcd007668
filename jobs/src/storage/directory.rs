//! A store in a directory: `objects`, where everything is whole and under its final name, and `partial`, where it grows.
//!
//! Both are on one file system. A name appears in `objects` by rename (archives) or by hard link (manifests, which must be
//! written once even when two attempts race).

mod growing;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use opendal::{Operator, services::Fs};
use tokio::sync::mpsc;

use self::growing::Growing;
use super::{
    Absent, Created,
    fault::io_failure,
    upload::{Sharing, Write},
};
use crate::error::JobError;

/// The root of a store in a directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    root: Arc<Path>,
}

impl Directory {
    /// Makes the directories, unless they must be there already.
    pub(super) async fn open(
        directory: PathBuf,
        absent: Absent,
    ) -> Result<(Self, Operator), JobError> {
        if absent == Absent::IsRefused && !holds_a_store(&directory).await? {
            return Err(JobError::NoStore {
                directory: directory.display().to_string(),
            });
        }
        blocking("open", "the store", move || {
            let root = std::path::absolute(directory)?;
            // Customers' data: nobody else on this machine may look.
            let mut private = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(private.recursive(true), 0o700);
            private.create(root.join("objects"))?;
            private.create(root.join("partial"))?;
            let utf8 = |path: PathBuf| {
                let path = path.into_os_string().into_string();
                path.map_err(|_| io::Error::other("its path is not UTF-8"))
            };
            let service = Fs::default()
                .root(&utf8(root.join("objects"))?)
                .atomic_write_dir(&utf8(root.join("partial"))?);
            let operator = Operator::new(service).map_err(io::Error::other)?;
            Ok((Self { root: root.into() }, operator))
        })
        .await
    }

    /// Makes sure that the store is still where it was opened: [`JobError::NoStore`] where its directory is not.
    pub(super) async fn require(&self) -> Result<(), JobError> {
        if holds_a_store(&self.root).await? {
            return Ok(());
        }
        Err(JobError::NoStore {
            directory: self.root.display().to_string(),
        })
    }

    /// Writes an object, whole, once and durably: of two writers at the same instant, exactly one is told [`Created::New`].
    pub(super) async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<Created, JobError> {
        let partial = self.root.join("partial");
        let object = self.object_path(key);
        let created = blocking("create", key, move || {
            // First: where `partial` is gone, so is the store, and nothing is to be made in its place.
            let mut file = tempfile::Builder::new()
                .prefix("manifest.")
                .tempfile_in(partial)?;
            if let Some(directory) = object.parent() {
                std::fs::create_dir_all(directory)?;
            }
            io::Write::write_all(&mut file, &bytes)?;
            file.as_file().sync_all()?;
            // A link, unlike a rename, fails where the name is taken.
            match std::fs::hard_link(file.path(), &object) {
                Ok(()) => Ok(Created::New),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Ok(Created::AlreadyExists)
                }
                Err(error) => Err(error),
            }
        })
        .await?;
        self.make_durable(key).await?;
        Ok(created)
    }

    /// Writes what comes, on a thread of its own, and makes it an object, not yet durable, once that is asked for. Until
    /// then, and on any failure, there is nothing.
    pub(super) async fn store(
        &self,
        key: &str,
        sharing: Sharing,
        mut incoming: mpsc::Receiver<Write>,
    ) -> Result<(), JobError> {
        let partial = self.root.join("partial");
        let object = self.object_path(key);
        let is_whole = blocking("write", key, move || {
            // Not before the first bytes: whoever dies waiting for them leaves nothing.
            let mut growing = None;
            while let Some(write) = incoming.blocking_recv() {
                let mut begun = match growing.take() {
                    Some(begun) => begun,
                    None => Growing::begin(&partial, &object)?,
                };
                match write {
                    Write::Bytes(bytes) => begun.write(&bytes)?,
                    Write::Commit => return begun.publish(&object, sharing).map(|()| true),
                }
                growing = Some(begun);
            }
            Ok(false)
        })
        .await?;
        let stopped = JobError::Stopped { what: "the upload" };
        is_whole.then_some(()).ok_or(stopped)
    }

    /// Makes an object's name survive a power cut: its bytes are synced already, its directories may not be.
    pub(super) async fn make_durable(&self, key: &str) -> Result<(), JobError> {
        let object = self.object_path(key);
        let root = self.root.clone();
        blocking("sync", key, move || {
            let directories = object.ancestors().skip(1);
            for directory in directories.take_while(|directory| directory.starts_with(&root)) {
                std::fs::File::open(directory)?.sync_all()?;
            }
            Ok(())
        })
        .await
    }

    /// Removes unfinished uploads that are `dead`, by name and last change.
    pub(super) async fn remove_partial(
        &self,
        dead: impl Fn(&str, SystemTime) -> bool + Send + 'static,
    ) -> Result<u64, JobError> {
        let partial = self.root.join("partial");
        blocking("clean", "partial", move || {
            let mut removed = 0;
            for file in std::fs::read_dir(partial)? {
                let file = file?;
                let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
                let changed = match file.metadata().and_then(|found| found.modified()) {
                    Err(error) if gone(&error) => continue,
                    changed => changed?,
                };
                if dead(&file.file_name().to_string_lossy(), changed) {
                    match std::fs::remove_file(file.path()) {
                        Err(error) if !gone(&error) => return Err(error),
                        _removed_or_gone => removed += 1,
                    }
                }
            }
            Ok(removed)
        })
        .await
    }

    fn object_path(&self, key: &str) -> PathBuf {
        self.root.join("objects").join(key)
    }
}

async fn holds_a_store(directory: &Path) -> Result<bool, JobError> {
    let objects = directory.join("objects");
    blocking("open", "the store", move || {
        match std::fs::metadata(objects) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Runs file system work that opendal has no word for.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    key: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, JobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(io_failure(doing, key, &error)),
        Err(_) => Err(JobError::Stopped {
            what: "work on the store",
        }),
    }
}
