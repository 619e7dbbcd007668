//! Records the ends of runs in batches: ends that arrive while a statement is under way are recorded by the next one, each decided alone.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use lastgood_jobs::{
    attempt::{Attempt, AttemptId, Epoch, RunId},
    backup::RestorePoint,
};
use sqlx::{PgExecutor, PgPool};
use tokio::sync::{
    Notify,
    oneshot::{self, error::RecvError},
};

use super::{gathering::gathered, ledger::bigint};
use crate::catalog::{CatalogError, is_refused, leave_out};

/// How many ends one statement records at most.
const TOGETHER: usize = 200;

/// The end of a run that succeeded, as it is recorded.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) attempt: Attempt,
    pub(super) report: Option<serde_json::Value>,
    pub(super) point: Option<EndPoint>,
    pub(super) dump_bytes: u64,
    pub(super) stored_bytes: u64,
}

/// The restore point that a run made.
#[derive(Debug, Clone)]
pub(super) struct EndPoint {
    consistent_at: DateTime<Utc>,
    manifest_key: String,
    manifest: serde_json::Value,
    dump_bytes: i64,
    stored_bytes: i64,
}

impl EndPoint {
    pub(super) fn of(point: &RestorePoint) -> sqlx::Result<Self> {
        Ok(Self {
            consistent_at: point.manifest.consistent_at,
            manifest_key: point.manifest_key.clone(),
            manifest: serde_json::to_value(&point.manifest)
                .map_err(|error| sqlx::Error::Encode(error.into()))?,
            dump_bytes: bigint(point.manifest.dump.size_bytes),
            stored_bytes: bigint(point.manifest.archive.size_bytes),
        })
    }
}

/// The ends that wait to be recorded. Clones share their state and are cheap.
#[derive(Clone, Default)]
pub(super) struct Ends {
    waiting: Arc<Mutex<Vec<Waiting>>>,
    more: Arc<Notify>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Waiting {
    end: End,
    told: oneshot::Sender<sqlx::Result<bool>>,
}

impl Ends {
    /// Records an end, together with those that wait at the same time. Returns whether the run was still this attempt's.
    ///
    /// An end that the catalog refuses is refused alone.
    pub(super) async fn record(
        &self,
        end: End,
        pool: &PgPool,
        store: &Arc<str>,
    ) -> sqlx::Result<bool> {
        let (told, mut hears) = oneshot::channel();
        self.locked().push(Waiting { end, told });
        self.more.notify_one();
        // Somebody else's turn may record this end; its own may not, if more are waiting than one statement takes.
        loop {
            let turn = tokio::select! {
                biased;
                recorded = &mut hears => return heard(recorded),
                turn = self.turn.lock() => turn,
            };
            gathered(&self.more, || self.locked().len()).await;
            let batch: Vec<Waiting> = {
                let mut waiting = self.locked();
                let together = waiting.len().min(TOGETHER);
                waiting.drain(..together).collect()
            };
            // A turn that was given up may have taken all of it.
            if !batch.is_empty() {
                record_batch(batch, pool, store).await;
            }
            drop(turn);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what was recorded. If the task that was recording was stopped, nobody knows whether it did, and the caller tries again.
fn heard(recorded: Result<sqlx::Result<bool>, RecvError>) -> sqlx::Result<bool> {
    recorded.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn record_batch(batch: Vec<Waiting>, pool: &PgPool, store: &Arc<str>) {
    let (ends, hearers): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| {
            let id = waiting.end.attempt.id;
            (waiting.end, (id, waiting.told))
        })
        .unzip();
    match finish(&ends, pool, store).await {
        Ok(done) => {
            for (id, told) in hearers {
                // The caller may have stopped waiting.
                let _heard_or_not = told.send(Ok(done.contains(&id)));
            }
        }
        Err(error) if is_refused(&error) && ends.len() > 1 => {
            let (pool, store) = (pool.clone(), Arc::clone(store));
            let alone = move |ends: Vec<End>| {
                let (pool, store) = (pool.clone(), Arc::clone(&store));
                async move { Ok(finish(&ends, &pool, &store).await?) }.boxed()
            };
            let outcome = leave_out(ends, alone).await;
            tell(hearers, outcome);
        }
        Err(error) => {
            let mut hearers = hearers.into_iter();
            if let Some((_, told)) = hearers.next() {
                let _heard_or_not = told.send(Err(error));
            }
            for (_, told) in hearers {
                let _heard_or_not = told.send(Err(sqlx::Error::PoolTimedOut));
            }
        }
    }
}

type LeftOut = (Vec<Vec<AttemptId>>, Vec<(End, CatalogError)>);

fn tell(
    hearers: Vec<(AttemptId, oneshot::Sender<sqlx::Result<bool>>)>,
    outcome: Result<LeftOut, CatalogError>,
) {
    let Ok((done, refused)) = outcome else {
        // Dropping the senders makes the callers try again.
        return;
    };
    let done: Vec<AttemptId> = done.into_iter().flatten().collect();
    let mut refused: Vec<_> = refused
        .into_iter()
        .map(|(end, error)| (end.attempt.id, error))
        .collect();
    for (id, told) in hearers {
        let place = refused.iter().position(|(of, _)| *of == id);
        let recorded = match place.map(|place| refused.swap_remove(place).1) {
            Some(CatalogError::Statement(error)) => Err(error),
            Some(_) => Err(sqlx::Error::PoolTimedOut),
            None => Ok(done.contains(&id)),
        };
        let _heard_or_not = told.send(recorded);
    }
}

/// Records these ends in one statement. Returns the attempts whose runs were still theirs.
pub(super) async fn finish(
    ends: &[End],
    executor: impl PgExecutor<'_>,
    store: &str,
) -> sqlx::Result<Vec<AttemptId>> {
    let ids: Vec<_> = ends.iter().map(|end| end.attempt.run).collect();
    let epochs: Vec<_> = ends.iter().map(|end| end.attempt.epoch).collect();
    let attempts: Vec<_> = ends.iter().map(|end| end.attempt.id).collect();
    let reports: Vec<_> = ends.iter().map(|end| end.report.clone()).collect();
    let points: Vec<_> = ends.iter().map(|end| end.point.as_ref()).collect();
    let consistent: Vec<_> = points
        .iter()
        .map(|it| it.map(|it| it.consistent_at))
        .collect();
    let keys: Vec<_> = points
        .iter()
        .map(|it| it.map(|it| it.manifest_key.clone()))
        .collect();
    let manifests: Vec<_> = points
        .iter()
        .map(|it| it.map(|it| it.manifest.clone()))
        .collect();
    let dumps: Vec<_> = points.iter().map(|it| it.map(|it| it.dump_bytes)).collect();
    let archives: Vec<_> = points
        .iter()
        .map(|it| it.map(|it| it.stored_bytes))
        .collect();
    let read: Vec<_> = ends.iter().map(|end| bigint(end.dump_bytes)).collect();
    let written: Vec<_> = ends.iter().map(|end| bigint(end.stored_bytes)).collect();
    sqlx::query_file_scalar!(
        "src/queue/finish_succeeded.sql",
        &ids as &[RunId],
        &epochs as &[Epoch],
        &attempts as &[AttemptId],
        &reports as &[Option<serde_json::Value>],
        &consistent as &[Option<DateTime<Utc>>],
        &keys as &[Option<String>],
        &manifests as &[Option<serde_json::Value>],
        &dumps as &[Option<i64>],
        &archives as &[Option<i64>],
        &read,
        &written,
        store,
    )
    .fetch_all(executor)
    .await
}
