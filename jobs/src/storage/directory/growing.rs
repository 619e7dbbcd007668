//! An object on its way into a directory: it grows below `partial`, and is renamed when it is whole.
//!
//! Written data is flushed to disk while more arrives, and is then dropped from the page cache. A backup is thereby
//! durable soon after its last byte, and does not push other processes' data out of memory.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use rustix::fs::{Advice, fadvise};

use super::{
    Trouble,
    root::{Root, Temporary},
};
use crate::{
    object_key::ObjectKey,
    storage::{Created, identity::Binding, upload::Sharing},
};

/// How many more bytes are written between two flushes.
const WRITE_BACK_BYTES: usize = 32 * 1024 * 1024;

/// A file that is removed on drop unless it was published.
pub(super) struct Growing {
    root: Root,
    path: PathBuf,
    file: Temporary,
    /// How many bytes were written since the last flush was requested.
    bytes: usize,
    write_back: Option<WriteBack>,
}

impl Growing {
    /// Begins a file in `partial`. Its name begins with the last part of the object's key, by which the janitor tells
    /// whose file it is.
    pub(super) fn begin(
        path: &Path,
        key: &ObjectKey,
        meant: Option<&Binding>,
    ) -> Result<Self, Trouble> {
        let root = Root::open(path, meant)?;
        let file = root.temporary(key.path().1)?;
        Ok(Self {
            root,
            path: path.to_owned(),
            file,
            bytes: 0,
            write_back: None,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.file.write_all(bytes)?;
        self.bytes += bytes.len();
        if self.bytes >= WRITE_BACK_BYTES {
            self.bytes = 0;
            let write_back = match self.write_back.take() {
                Some(under_way) => under_way,
                None => WriteBack::start(self.file.file.try_clone()?)?,
            };
            self.write_back = Some(write_back.ask()?);
        }
        Ok(())
    }

    /// Makes the file durable, and visible as `key`. Its directories are not durable yet. An object that only one
    /// attempt writes replaces nothing.
    ///
    /// The store is checked again: hours may have passed, and its path may now lead to another store or to a bare mount
    /// point.
    pub(super) fn publish(
        mut self,
        key: &ObjectKey,
        sharing: Sharing,
        meant: Option<&Binding>,
    ) -> Result<(), Trouble> {
        if let Some(write_back) = self.write_back.take() {
            write_back.finish()?;
        }
        self.file.file.sync_all()?;
        forget(&self.file.file);
        let now = Root::open(&self.path, meant)?;
        if !self.root.is_same(&now)? {
            return Err(Trouble::Changed(format!(
                "the directory at {} is not the one that was there when the upload began",
                self.path.display()
            )));
        }
        match sharing {
            Sharing::Many => self.file.rename(&now, key)?,
            Sharing::Alone => match self.file.link(&now, key)? {
                Created::New => {}
                Created::AlreadyExists => {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
                }
            },
        }
        Ok(())
    }
}

/// A thread that flushes the file to disk on request.
struct WriteBack {
    asks: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl WriteBack {
    fn start(file: File) -> io::Result<Self> {
        let (asks, asked) = sync_channel(1);
        let named = std::thread::Builder::new().name("write-back".to_owned());
        let thread = named.spawn(move || write_back(&file, &asked))?;
        Ok(Self { asks, thread })
    }

    /// Requests a flush without waiting for it. Fails if the thread has failed, so that no more of the dump is made for
    /// a disk that cannot take it.
    fn ask(self) -> io::Result<Self> {
        match self.asks.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => Ok(self),
            Err(TrySendError::Disconnected(())) => {
                self.finish()?;
                Err(stopped())
            }
        }
    }

    /// Checks that all flushed data has arrived. The system reports a fault only once, and reported it to this thread.
    fn finish(self) -> io::Result<()> {
        drop(self.asks);
        self.thread.join().unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> io::Error {
    io::Error::other("the write-back thread stopped")
}

fn write_back(file: &File, asked: &Receiver<()>) -> io::Result<()> {
    while asked.recv().is_ok() {
        file.sync_data()?;
        forget(file);
    }
    Ok(())
}

/// Drops from the page cache what is already on disk, because nobody will read it soon.
fn forget(file: &File) {
    // Advice only: if the system ignores it, the memory is freed later.
    let _taken_or_not = fadvise(file, 0, None, Advice::DontNeed);
}
