//! A store in a directory: `objects` holds whole objects under their final names, and in `partial` they grow.
//!
//! Both are on one file system. A name appears in `objects` by rename (archives) or by hard link (manifests, which must
//! be written only once even if two attempts race).

mod entries;
mod growing;
mod root;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use opendal::{Operator, services::Fs};
use tokio::sync::mpsc;

pub(super) use self::entries::Entry;
use self::{growing::Growing, root::Root};
use super::{
    Absent, Created,
    fault::io_failure,
    identity::Binding,
    upload::{Sharing, Write},
};
use crate::{error::JobError, object_key::ObjectKey};

pub(super) const OBJECTS: &str = "objects";
const PARTIAL: &str = "partial";

/// The root of a store in a directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    root: Arc<Path>,
}

impl Directory {
    /// Opens a store. Makes its directories unless they must already exist. A store that is only read need not be
    /// writable.
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
            if absent == Absent::IsMade {
                // Customers' data: no other user of this machine may read it.
                let mut private = std::fs::DirBuilder::new();
                std::os::unix::fs::DirBuilderExt::mode(private.recursive(true), 0o700);
                private.create(root.join(OBJECTS))?;
                private.create(root.join(PARTIAL))?;
            }
            let objects = root.join(OBJECTS).into_os_string().into_string();
            let objects = objects.map_err(|_| io::Error::other("its path is not UTF-8"))?;
            // For reading and removing only: writes go through a handle on the root.
            let operator = Operator::new(Fs::default().root(&objects)).map_err(io::Error::other)?;
            Ok((Self { root: root.into() }, operator))
        })
        .await
    }

    /// Checks that the store's directory is still there. If it is not, this is [`JobError::NoStore`].
    pub(super) async fn require_any(&self) -> Result<(), JobError> {
        if holds_a_store(&self.root).await? {
            return Ok(());
        }
        Err(JobError::NoStore {
            directory: self.root.display().to_string(),
        })
    }

    /// Checks that this is the store that is meant.
    pub(super) async fn require(&self, meant: Binding) -> Result<(), JobError> {
        let root = self.root.clone();
        blocking("check", "the store", move || {
            Root::open(&root, Some(&meant)).map(drop)
        })
        .await
    }

    /// Writes an object atomically, durably and only once: of two concurrent writers, exactly one gets
    /// [`Created::New`].
    pub(super) async fn create(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        meant: Option<Binding>,
    ) -> Result<Created, JobError> {
        let (root, object) = (self.root.clone(), key.clone());
        blocking("create", key, move || {
            let root = Root::open(&root, meant.as_ref())?;
            let mut file = root.temporary("manifest")?;
            io::Write::write_all(&mut file.file, &bytes)?;
            file.file.sync_all()?;
            let created = file.link(&root, &object)?;
            root.sync(&object)?;
            Ok(created)
        })
        .await
    }

    /// Writes the incoming bytes on a separate thread, and makes them an object on commit. The object is not durable
    /// yet. Until the commit, and after any failure, there is no object.
    pub(super) async fn store(
        &self,
        key: &ObjectKey,
        sharing: Sharing,
        meant: Option<Binding>,
        mut incoming: mpsc::Receiver<Write>,
    ) -> Result<(), JobError> {
        let (root, object) = (self.root.clone(), key.clone());
        let is_whole = blocking("write", key, move || {
            // Not before the first bytes arrive: a process that dies waiting for them leaves nothing behind.
            let mut growing = None;
            while let Some(write) = incoming.blocking_recv() {
                let mut begun = match growing.take() {
                    Some(begun) => begun,
                    None => Growing::begin(&root, &object, meant.as_ref())?,
                };
                match write {
                    Write::Bytes(bytes) => begun.write(&bytes)?,
                    Write::Commit => {
                        return begun
                            .publish(&object, sharing, meant.as_ref())
                            .map(|()| true);
                    }
                }
                growing = Some(begun);
            }
            Ok(false)
        })
        .await?;
        let stopped = JobError::Stopped { what: "the upload" };
        is_whole.then_some(()).ok_or(stopped)
    }

    /// Makes an object's name survive a power cut. Its bytes are already synced, but its directories may not be.
    pub(super) async fn make_durable(&self, key: &ObjectKey) -> Result<(), JobError> {
        let (root, object) = (self.root.clone(), key.clone());
        blocking("sync", key, move || {
            Ok(Root::open(&root, None)?.sync(&object)?)
        })
        .await
    }

    /// Removes unfinished uploads for which `dead` returns true, given their name and last change.
    pub(super) async fn remove_partial(
        &self,
        dead: impl Fn(&str, SystemTime) -> bool + Send + 'static,
    ) -> Result<u64, JobError> {
        let partial = self.root.join(PARTIAL);
        blocking("clean", PARTIAL, move || {
            let mut removed = 0;
            let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            let files = match std::fs::read_dir(partial) {
                // Nothing was ever written here, or a copy of the store left out the empty directory.
                Err(error) if gone(&error) => return Ok(0),
                files => files?,
            };
            for file in files {
                let file = file?;
                let changed = match file.metadata().and_then(|found| found.modified()) {
                    Err(error) if gone(&error) => continue,
                    changed => changed?,
                };
                if dead(&file.file_name().to_string_lossy(), changed) {
                    match std::fs::remove_file(file.path()) {
                        Err(error) if !gone(&error) => return Err(error.into()),
                        _removed_or_gone => removed += 1,
                    }
                }
            }
            Ok(removed)
        })
        .await
    }
}

async fn holds_a_store(directory: &Path) -> Result<bool, JobError> {
    let objects = directory.join(OBJECTS);
    blocking("open", "the store", move || {
        match std::fs::metadata(objects) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

/// Why an operation in a directory failed.
enum Trouble {
    Io(io::Error),
    /// The store has disappeared, or another one is in its place.
    Changed(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Runs file system work that opendal does not support.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    key: &str,
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, JobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Trouble::Io(error))) => Err(io_failure(doing, key, &error)),
        Ok(Err(Trouble::Changed(why))) => Err(JobError::StoreChanged { why }),
        Err(_) => Err(JobError::Stopped {
            what: "work on the store",
        }),
    }
}
