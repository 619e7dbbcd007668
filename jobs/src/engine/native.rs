//! A dump that this process makes itself: streamed from a future into an upload, and accepted only if everything
//! agrees.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    archive::{self, Measured, SealError, Sealed},
    contents::{Contents, Recorded},
    error::JobError,
    format::Inspect,
    storage::{Unpublished, Upload},
    worker::Worker,
};

/// How many chunks may wait between the maker and the archive.
const CHUNKS_WAITING: usize = 4;

/// Where the maker of a dump writes its bytes. Chunks of about 100 KiB work well: each is handed over once.
#[derive(Clone)]
pub(crate) struct Spout {
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

/// Nobody reads the dump any more. The other end has the reason.
#[derive(Debug)]
pub(crate) struct SpoutClosed;

impl Spout {
    /// Hands over bytes, and waits while the archive is behind.
    pub(crate) async fn write(&self, bytes: Bytes) -> Result<(), SpoutClosed> {
        let sent = self.chunks.send(Ok(bytes)).await;
        sent.map_err(|_| SpoutClosed)
    }
}

/// Why a maker stopped.
pub(crate) enum Stopped {
    /// It failed.
    Failed(JobError),
    /// Its spout was closed; the other end has the reason.
    Closed,
}

impl From<SpoutClosed> for Stopped {
    fn from(_: SpoutClosed) -> Self {
        Self::Closed
    }
}

impl<E: Into<JobError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A dump in a finished upload: what its maker reports, what the inspector found, and its sizes and hashes.
pub(crate) struct Poured<M, T> {
    pub(crate) maker: M,
    pub(crate) contents: T,
    pub(crate) dump: Measured,
    pub(crate) archive: Measured,
    pub(crate) items: Contents,
    pub(crate) recorded: Option<Recorded>,
    pub(crate) object: Unpublished,
}

/// Streams what `make` writes to its [`Spout`] into the object `key`. Any failure, and any doubt, leaves no object.
///
/// If the maker fails, its error is returned, whatever the inspector says about the truncated dump.
pub(crate) async fn pour<I: Inspect, M, F: Future<Output = Result<M, Stopped>>>(
    key: &str,
    worker: &Worker,
    inspector: I,
    floor_bytes: u64,
    make: impl FnOnce(Spout) -> F,
) -> Result<Poured<M, I::Contents>, JobError> {
    let upload = worker.storage.upload(key);
    let (chunks, mut waiting) = mpsc::channel(CHUNKS_WAITING);
    let dump = futures::stream::poll_fn(move |context| waiting.poll_recv(context));
    let sealing = archive::seal(
        dump,
        inspector,
        worker.encrypt_to.clone(),
        upload.writer(),
        worker.progress.clone(),
        || {},
    );
    let (told, sealed) = tokio::join!(make(Spout { chunks }), sealing);
    match believe(told, sealed, floor_bytes) {
        Ok((maker, sealed)) => Ok(Poured {
            maker,
            contents: sealed.contents,
            dump: sealed.dump,
            archive: sealed.archive,
            items: sealed.items,
            recorded: sealed.recorded,
            object: upload.finish().await?,
        }),
        Err(Doubt::Known(error)) => {
            upload.abort().await;
            Err(error)
        }
        Err(Doubt::Upload) => Err(explain(upload).await),
    }
}

/// Why a dump is not accepted.
enum Doubt {
    Known(JobError),
    /// The upload failed, and has the reason.
    Upload,
}

impl From<JobError> for Doubt {
    fn from(error: JobError) -> Self {
        Self::Known(error)
    }
}

/// A dump that is whole.
struct Accepted<T> {
    contents: T,
    dump: Measured,
    archive: Measured,
    items: Contents,
    recorded: Option<Recorded>,
}

fn believe<M, T>(
    made: Result<M, Stopped>,
    sealed: Result<Sealed<T>, SealError>,
    floor_bytes: u64,
) -> Result<(M, Accepted<T>), Doubt> {
    if let Err(Stopped::Failed(error)) = made {
        return Err(error.into());
    }
    let sealed = sealed.map_err(|stopped| match stopped {
        SealError::Io(source) => Doubt::Known(JobError::Io {
            doing: "compress the dump",
            source,
        }),
        SealError::Refused(format) => JobError::of_dump(format).into(),
        SealError::TooLarge { limit_bytes } => JobError::DumpTooLarge { limit_bytes }.into(),
        SealError::Stopped => Doubt::Known(JobError::Stopped {
            what: "the compression",
        }),
        SealError::Upload => Doubt::Upload,
    })?;
    let contents = sealed.contents.map_err(JobError::of_dump)?;
    let maker = made.map_err(|_| JobError::Stopped { what: "the dump" })?;
    if sealed.dump.size_bytes < floor_bytes {
        let size_bytes = sealed.dump.size_bytes;
        return Err(Doubt::Known(JobError::DumpTooSmall {
            size_bytes,
            floor_bytes,
        }));
    }
    let accepted = Accepted {
        contents,
        dump: sealed.dump,
        archive: sealed.archive,
        items: sealed.items,
        recorded: sealed.recorded,
    };
    Ok((maker, accepted))
}

async fn explain(upload: Upload) -> JobError {
    match upload.finish().await {
        Err(error) => error,
        Ok(object) => {
            object.remove().await;
            JobError::Stopped { what: "the upload" }
        }
    }
}
