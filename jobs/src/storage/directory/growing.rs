//! An object on its way into a directory: it grows below `partial`, and is renamed when it is whole.
//!
//! What was written is written back while more comes, and then forgotten by the system: a backup is durable soon after its
//! last byte, and does not push what the machine's other processes work with out of its memory.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use rustix::fs::{Advice, fadvise};
use tempfile::NamedTempFile;

use crate::storage::upload::Sharing;

/// After how many bytes more they are written back.
const WRITE_BACK_BYTES: usize = 32 * 1024 * 1024;

/// A file that is removed when it is dropped, unless it was published.
pub(super) struct Growing {
    file: NamedTempFile,
    /// Since the last time that they were to be written back.
    bytes: usize,
    write_back: Option<WriteBack>,
}

impl Growing {
    /// Begins a file in `partial`, under a name that begins as the object's ends: the janitor tells by it whose it is.
    pub(super) fn begin(partial: &Path, object: &Path) -> io::Result<Self> {
        let name = object.file_name().unwrap_or_default().to_string_lossy();
        let file = tempfile::Builder::new()
            .prefix(&format!("{name}."))
            .tempfile_in(partial)?;
        Ok(Self {
            file,
            bytes: 0,
            write_back: None,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.as_file_mut().write_all(bytes)?;
        self.bytes += bytes.len();
        if self.bytes >= WRITE_BACK_BYTES {
            self.bytes = 0;
            let write_back = match self.write_back.take() {
                Some(under_way) => under_way,
                None => WriteBack::start(self.file.as_file().try_clone()?)?,
            };
            self.write_back = Some(write_back.ask()?);
        }
        Ok(())
    }

    /// Makes the file durable, and visible as `object`. Its directories are not durable yet.
    /// What is to be one attempt's alone replaces nothing.
    pub(super) fn publish(mut self, object: &Path, sharing: Sharing) -> io::Result<()> {
        if let Some(write_back) = self.write_back.take() {
            write_back.finish()?;
        }
        self.file.as_file().sync_all()?;
        forget(self.file.as_file());
        if let Some(directory) = object.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let published = match sharing {
            Sharing::Alone => self.file.persist_noclobber(object),
            Sharing::Many => self.file.persist(object),
        };
        published.map_err(|failed| failed.error)?;
        Ok(())
    }
}

/// A thread that writes back what the file has, whenever it is asked to.
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

    /// Does not wait. Fails where the thread has: nobody need make the rest of a dump that the disk cannot take.
    fn ask(self) -> io::Result<Self> {
        match self.asks.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => Ok(self),
            Err(TrySendError::Disconnected(())) => {
                self.finish()?;
                Err(stopped())
            }
        }
    }

    /// Says whether all that was written back has arrived: the system tells of a fault once, and told this thread.
    fn finish(self) -> io::Result<()> {
        drop(self.asks);
        self.thread.join().unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> io::Error {
    io::Error::other("the thread that writes back stopped")
}

fn write_back(file: &File, asked: &Receiver<()>) -> io::Result<()> {
    while asked.recv().is_ok() {
        file.sync_data()?;
        forget(file);
    }
    Ok(())
}

/// Lets the system forget what of the file is on the disk by now: nobody reads it soon.
fn forget(file: &File) {
    // Advice: where it is not taken, the memory is freed later.
    let _taken_or_not = fadvise(file, 0, None, Advice::DontNeed);
}
