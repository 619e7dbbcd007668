//! One object on its way into the store: whole under its key, or absent.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    Backend, Storage, admitted, failure,
    fault::{PUT_TOGETHER, step},
    parts::{PART_BYTES_MIN, part_bytes, parts_in_flight},
};
use crate::{
    detached,
    error::{JobError, StoreFault},
    object_key::ObjectKey,
};

/// How many writes may wait for the store.
const WRITES_WAITING: usize = 4;

/// An upload in progress.
///
/// The store's writer lives in its own task, because a writer that is merely dropped leaves its parts behind. Dropping
/// this handle without [`Upload::finish`] makes that task remove them.
pub(crate) struct Upload {
    writes: mpsc::Sender<Write>,
    result: oneshot::Receiver<Result<Unpublished, JobError>>,
    is_kept: bool,
}

/// Who may write an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Only this attempt: the object belongs to nobody else, and is removed on failure.
    Alone,
    /// Many writers at once, all with the same bytes: each replaces an existing object, and none ever removes it.
    Many,
}

/// A message to an upload.
pub(super) enum Write {
    Bytes(Bytes),
    Commit,
}

/// Takes the bytes of an upload. It cannot finish the upload, and fails once the upload has failed.
#[derive(Clone)]
pub(crate) struct UploadWriter {
    writes: mpsc::Sender<Write>,
    is_kept: bool,
}

/// The upload has failed; [`Upload::finish`] says why.
#[derive(Debug)]
pub(crate) struct UploadFailed;

impl Upload {
    pub(super) fn start(storage: Storage, key: String, sharing: Sharing) -> Self {
        let (writes, incoming) = mpsc::channel(WRITES_WAITING);
        let (answer, result) = oneshot::channel();
        detached::spawn(async move {
            let stored = store(&storage, &key, sharing, incoming).await;
            let stored = stored.map(|()| Unpublished::new(storage, key, sharing));
            // If the receiver is gone, the value comes back, and dropping it removes the object.
            let _nobody_waits = answer.send(stored);
        });
        Self {
            writes,
            result,
            is_kept: true,
        }
    }

    /// Begins an upload that keeps nothing and never fails.
    pub(super) fn to_nowhere(storage: Storage) -> Self {
        let (writes, mut incoming) = mpsc::channel(WRITES_WAITING);
        let (answer, result) = oneshot::channel();
        detached::spawn(async move {
            while let Some(Write::Bytes(_)) = incoming.recv().await {}
            let nothing = Unpublished { storage, key: None };
            let _nobody_waits = answer.send(Ok(nothing));
        });
        Self {
            writes,
            result,
            is_kept: false,
        }
    }

    pub(crate) fn writer(&self) -> UploadWriter {
        UploadWriter {
            writes: self.writes.clone(),
            is_kept: self.is_kept,
        }
    }

    /// Makes the object visible under its key, durably.
    ///
    /// Cancel-safe: if nobody waits for the answer any more, the object is removed again, unless it may belong to
    /// another attempt.
    pub(crate) async fn finish(self) -> Result<Unpublished, JobError> {
        // A failed upload does not take the commit. Its answer is already there.
        let _failed_before = self.writes.send(Write::Commit).await;
        let stopped = JobError::Stopped { what: "the upload" };
        self.result.await.unwrap_or(Err(stopped))
    }

    /// Aborts the upload, and waits until nothing is left. Its writers must have been dropped.
    pub(crate) async fn abort(self) {
        drop(self.writes);
        let _aborted_either_way = self.result.await;
    }
}

/// A whole object that nothing refers to yet. Dropping this removes the object, unless it was kept or may belong to
/// another attempt.
#[derive(Debug)]
pub(crate) struct Unpublished {
    storage: Storage,
    key: Option<String>,
}

impl Unpublished {
    fn new(storage: Storage, key: String, sharing: Sharing) -> Self {
        Self {
            storage,
            key: (sharing == Sharing::Alone).then_some(key),
        }
    }

    /// Keeps the object, because something refers to it now.
    pub(crate) fn keep(mut self) {
        self.key = None;
    }

    /// Removes the object now. If that fails, it is left to the janitor.
    pub(crate) async fn remove(mut self) {
        if let Some(key) = self.key.take() {
            self.storage.remove_or_leave(&key).await;
        }
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        // If this fails, the janitor removes the object.
        if let Some(key) = self.key.take() {
            let storage = self.storage.clone();
            detached::spawn_from_drop(async move { storage.remove_or_leave(&key).await });
        }
    }
}

impl UploadWriter {
    /// Returns whether anybody keeps the bytes: else they need not be compressed.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Hands bytes over, from a thread that may block. Waits while the store is behind.
    pub(crate) fn blocking_write(&self, bytes: Bytes) -> Result<(), UploadFailed> {
        let sent = self.writes.blocking_send(Write::Bytes(bytes));
        sent.map_err(|_| UploadFailed)
    }

    /// Hands bytes over. Waits while the store is behind.
    pub(crate) async fn write(&self, bytes: Bytes) -> Result<(), UploadFailed> {
        let sent = self.writes.send(Write::Bytes(bytes)).await;
        sent.map_err(|_| UploadFailed)
    }
}

/// Owns the store's writer from its first byte to its commit or abort.
async fn store(
    storage: &Storage,
    key: &str,
    sharing: Sharing,
    mut incoming: mpsc::Receiver<Write>,
) -> Result<(), JobError> {
    let key = &admitted(key)?;
    if let Backend::Directory(directory) = &storage.backend {
        let meant = storage.meant.clone();
        directory.store(key, sharing, meant, incoming).await?;
        return durable(storage, key, sharing).await;
    }
    storage.require().await?;
    let mut writer = Growing::begin(storage, key).await?;
    while let Some(write) = incoming.recv().await {
        match write {
            Write::Bytes(bytes) => {
                if let Err(error) = writer.write(bytes).await {
                    writer.abort(key).await;
                    return Err(failure("write", key, &error));
                }
            }
            Write::Commit => return commit(storage, key, sharing, writer).await,
        }
    }
    writer.abort(key).await;
    Err(JobError::Stopped { what: "the upload" })
}

/// Makes the object visible, or leaves nothing behind.
async fn commit(
    storage: &Storage,
    key: &ObjectKey,
    sharing: Sharing,
    mut writer: Growing,
) -> Result<(), JobError> {
    // Hours may have passed, and another bucket may answer to the name by now.
    let looked = match storage.require().await {
        Ok(()) if sharing == Sharing::Alone => is_free(storage, key).await,
        looked => looked,
    };
    if let Err(error) = looked {
        writer.abort(key).await;
        return Err(error);
    }
    if let Err(error) = writer.finish().await {
        // The store may have finished the object and only lost its answer. If only this attempt writes the key, an
        // object of the right size is its own. If others may have written it, the next reader has to check it.
        let is_ours = sharing == Sharing::Alone
            && matches!(storage.size(key).await, Ok(Some(size)) if size == writer.written);
        if !is_ours {
            writer.abort(key).await;
            let doing = if writer.written > PART_BYTES_MIN {
                step(&error).unwrap_or(PUT_TOGETHER)
            } else {
                "finish"
            };
            return Err(failure(doing, key, &error));
        }
        tracing::debug!(object.key = %key, error = %error, "the object is whole, although its commit reported an error");
    }
    durable(storage, key, sharing).await
}

/// Checks that a key is free. A look is enough here, where manifests need a condition: nobody else ever writes an
/// object of this attempt.
async fn is_free(storage: &Storage, key: &str) -> Result<(), JobError> {
    match storage.size(key).await {
        // If the look fails, the write fails too and says more: the answer to a HEAD gives no reason.
        Ok(None) | Err(_) => Ok(()),
        Ok(Some(_)) => Err(JobError::Store {
            doing: "publish",
            key: key.to_owned(),
            source: StoreFault(
                "an object with this key already exists, and is not replaced".to_owned(),
            ),
        }),
    }
}

/// Makes a whole object survive a power cut, or removes it.
async fn durable(storage: &Storage, key: &ObjectKey, sharing: Sharing) -> Result<(), JobError> {
    let durable = storage.make_durable(key).await;
    if durable.is_err() && sharing == Sharing::Alone {
        storage.remove_or_leave(key).await;
    }
    durable
}

/// A writer whose parts grow with what it has written; see [`part_bytes`].
struct Growing {
    inner: opendal::Writer,
    expected: u64,
    /// The part that is being filled.
    part: Vec<Bytes>,
    part_bytes: u64,
    written: u64,
}

impl Growing {
    /// Sets no condition: services differ in whether they support it at the end of a multipart upload. See [`is_free`].
    async fn begin(storage: &Storage, key: &str) -> Result<Self, JobError> {
        let expected = storage.expected_bytes;
        let writer = storage.operator.writer_with(key);
        let writer = writer.concurrent(parts_in_flight(expected)).await;
        Ok(Self {
            inner: writer.map_err(|error| failure("begin", key, &error))?,
            expected,
            part: Vec::new(),
            part_bytes: 0,
            written: 0,
        })
    }

    async fn write(&mut self, mut bytes: Bytes) -> opendal::Result<()> {
        self.written += bytes.len() as u64;
        while !bytes.is_empty() {
            let sent = self.written - bytes.len() as u64 - self.part_bytes;
            let room = part_bytes(self.expected, sent) - self.part_bytes;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let taken = bytes.split_to(room.min(bytes.len()));
            self.part_bytes += taken.len() as u64;
            self.part.push(taken);
            if !bytes.is_empty() {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> opendal::Result<()> {
        self.part_bytes = 0;
        let part: opendal::Buffer = std::mem::take(&mut self.part).into();
        self.inner.write(part).await
    }

    async fn finish(&mut self) -> opendal::Result<()> {
        if !self.part.is_empty() {
            self.send().await?;
        }
        self.inner.close().await.map(drop)
    }

    async fn abort(&mut self, key: &str) {
        if let Err(error) = self.inner.abort().await {
            tracing::warn!(object.key = %key, error = %error, "cannot abort an unfinished upload: it is left to the janitor");
        }
    }
}
