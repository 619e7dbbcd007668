//! Writes every key of a dump over one connection: commands go out while replies come back, within a window.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    batch::{About, Batch},
    encode::{Counts, Encoder, Unwanted},
    roll::Roll,
};
use crate::{
    archive::{self, DumpRead},
    engine::redis::{
        connection::{Commands, Connection, advice, meaning},
        reply::Replies,
    },
    error::{Damage, JobError, RedisError, ServerFault},
    format::rdb::{Limits, SplitError, split},
    manifest::Manifest,
    worker::{Progress, Worker},
};

/// How many bytes may await replies, unless a single batch is larger.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// How often a worker that writes checks its lease.
pub(super) const LEASE_EVERY: Duration = Duration::from_secs(10);

const DOING: &str = "write keys (RESTORE and others)";

#[derive(Debug)]
pub(super) struct Filled {
    pub(super) counts: Counts,
    pub(super) roll: Option<Roll>,
}

/// Counts the keys that the target has taken; also readable after a failure.
#[derive(Debug, Default)]
pub(super) struct Taken(AtomicU64);

impl Taken {
    pub(super) fn keys(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes the dump. On success, the target has accepted every command, and the dump was whole.
///
/// Dropping the future closes the channel to the thread that reads the dump, which ends the thread.
pub(super) async fn fill(
    connection: &mut Connection,
    manifest: &Manifest,
    roll: Option<Roll>,
    stubs: BTreeMap<u64, Vec<u8>>,
    taken: &Taken,
    worker: &Worker,
) -> Result<Filled, JobError> {
    let reading = archive::open(
        &worker.storage,
        &*worker.keyring,
        &manifest.archive,
        &manifest.dump,
    )
    .await?;
    let (source, end) = reading.into_read();
    // A short queue, because the window does the waiting.
    let (batches, waiting) = mpsc::channel(1);
    let encoder = Encoder::new(batches, now_ms(), roll).with_stubs(stubs);
    let source = Counted {
        source,
        progress: worker.progress.clone(),
    };
    let encoding = tokio::task::spawn_blocking(move || encode(source, encoder));
    let poured = pour(connection, waiting, taken, worker).await;
    // The side that stopped first has the reason, except for a damaged dump, which ends the stream regularly.
    let done = encoding.await;
    let ended = end.finish().await;
    poured?;
    ended?;
    let stopped = JobError::Stopped {
        what: "encoding the dump",
    };
    match done {
        Ok(Ok((counts, roll))) => Ok(Filled { counts, roll }),
        Ok(Err(SplitError::Format(wrong))) => {
            let wrong = Damage::Dump(wrong.into());
            Err(JobError::of_archive(&manifest.archive.key, wrong))
        }
        Ok(Err(SplitError::Read(_) | SplitError::Visitor(Unwanted))) | Err(_) => Err(stopped),
    }
}

pub(super) fn now_ms() -> u64 {
    u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0)
}

fn encode(
    source: Counted,
    mut encoder: Encoder,
) -> Result<(Counts, Option<Roll>), SplitError<Unwanted>> {
    // With the limits of the backup, so that everything it accepted can be written.
    split(source, &mut encoder, Limits::default())?;
    encoder.finish().map_err(SplitError::Visitor)
}

/// A dump that reports how much of it has been read.
struct Counted {
    source: DumpRead,
    progress: Arc<Progress>,
}

impl io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.progress.add_dump(read as u64);
        Ok(read)
    }
}

/// A batch that awaits its replies, with its share of the window.
struct Sent {
    batch: Arc<Batch>,
    _share: OwnedSemaphorePermit,
}

pub(super) async fn pour(
    connection: &mut Connection,
    batches: mpsc::Receiver<Batch>,
    taken: &Taken,
    worker: &Worker,
) -> Result<(), JobError> {
    let Connection { commands, replies } = connection;
    let (sent, waiting) = mpsc::unbounded_channel();
    tokio::try_join!(
        write(commands, batches, sent, worker),
        read(replies, waiting, taken)
    )?;
    Ok(())
}

async fn write(
    commands: &mut Commands,
    mut batches: mpsc::Receiver<Batch>,
    sent: mpsc::UnboundedSender<Sent>,
    worker: &Worker,
) -> Result<(), JobError> {
    let window = Arc::new(Semaphore::new(WINDOW_BYTES as usize));
    let mut asked = Instant::now();
    while let Some(batch) = batches.recv().await {
        if asked.elapsed() >= LEASE_EVERY {
            super::alive(worker).await?;
            asked = Instant::now();
        }
        let bytes = u32::try_from(batch.bytes.len()).unwrap_or(WINDOW_BYTES);
        let share = window.clone().acquire_many_owned(bytes.min(WINDOW_BYTES));
        let Ok(share) = share.await else {
            return Ok(());
        };
        let batch = Arc::new(batch);
        let waits = Sent {
            batch: batch.clone(),
            _share: share,
        };
        // Replies may arrive before the batch's last byte is sent.
        if sent.send(waits).is_err() {
            return Ok(());
        }
        commands.send(DOING, &batch.bytes).await?;
    }
    Ok(())
}

async fn read(
    replies: &mut Replies,
    mut waiting: mpsc::UnboundedReceiver<Sent>,
    taken: &Taken,
) -> Result<(), JobError> {
    while let Some(Sent { batch, .. }) = waiting.recv().await {
        for number in 0..batch.commands {
            if let Err(fault) = replies.next(DOING).await? {
                return Err(refused(batch.about(number), fault));
            }
        }
        taken.0.fetch_add(batch.keys, Ordering::Relaxed);
    }
    Ok(())
}

/// Returns what a refused command means, and which one it was.
fn refused(about: Option<About>, fault: ServerFault) -> JobError {
    match (fault.code(), about) {
        (Some("NOPERM" | "NOAUTH" | "LOADING" | "MASTERDOWN" | "BUSY"), _) | (_, None) => {
            meaning(DOING, fault)
        }
        (_, Some(about)) => RedisError::KeyRefused {
            what: about.to_string(),
            advice: advice(&fault).unwrap_or("see its answer"),
            source: fault,
        }
        .into(),
    }
}
