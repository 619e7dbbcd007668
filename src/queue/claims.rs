//! Claims runs for all lanes of one process in one statement, and loses no run if the answer is lost.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lastgood_jobs::attempt::AttemptId;
use sqlx::{Postgres, pool::PoolConnection};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::sleep,
};
use uuid::Uuid;

use super::{
    Lane, Queue,
    gathering::gathered,
    ledger::{Claimed, Ledger},
};

/// How long after a claim whose answer was lost the server may still execute it.
const MAY_COME_LATE: Duration = Duration::from_mins(1);

/// A claimed run, and the permit of the slot that it takes.
pub(super) type Got = (Claimed, OwnedSemaphorePermit);

/// The most runs of one lane that a claim takes. While the ends of one batch are recorded, the next is claimed: a claim for every slot
/// would make the two take turns.
const AT_ONCE: u32 = 32;

/// Claims for all lanes of a process. Clones share their state and are cheap.
#[derive(Clone)]
pub struct Claims {
    ledger: Ledger,
    wake: Arc<Notify>,
    takers: Arc<Mutex<Takers>>,
}

#[derive(Default)]
struct Takers {
    all: Vec<Taker>,
    /// The task that claims for them; `None` while there are no takers.
    serving: Option<JoinHandle<()>>,
}

/// A lane whose claim loop receives claimed runs.
struct Taker {
    queue: Arc<str>,
    lane: Lane,
    slots: Arc<Semaphore>,
    poll: Duration,
    is_taking: Box<dyn Fn() -> bool + Send>,
    /// Whether the last claim found runs for it.
    found: Arc<AtomicBool>,
    gives: mpsc::UnboundedSender<Got>,
}

/// One claim: the lanes that have free slots, and these slots.
struct Asking {
    lanes: Vec<AskingLane>,
    /// The ids of the attempts, chosen in advance so that they are known even if the answer is lost.
    attempts: Vec<AttemptId>,
}

struct AskingLane {
    queue: Arc<str>,
    lane: Lane,
    permits: OwnedSemaphorePermit,
    found: Arc<AtomicBool>,
    gives: mpsc::UnboundedSender<Got>,
}

impl AskingLane {
    fn takes(&self, row: &Claimed) -> bool {
        *self.queue == *row.queue && self.lane.has(row.priority)
    }
}

impl Claims {
    /// Returns claims through `ledger`. Nothing is claimed until a worker takes runs.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            wake: Arc::new(Notify::new()),
            takers: Arc::default(),
        }
    }

    /// Returns the notifier that makes it look for runs at once. A wake-up is only a hint.
    #[must_use]
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Claims for a lane for as long as the returned receiver lives and `is_taking` returns `true`.
    pub(super) fn take(
        &self,
        queue: &Queue,
        is_taking: impl Fn() -> bool + Send + 'static,
    ) -> mpsc::UnboundedReceiver<Got> {
        let (gives, got) = mpsc::unbounded_channel();
        self.locked().all.push(Taker {
            queue: Arc::clone(&queue.name),
            lane: queue.lane,
            slots: Arc::clone(&queue.slots),
            poll: queue.poll,
            is_taking: Box::new(is_taking),
            found: Arc::default(),
            gives,
        });
        self.keep_serving();
        self.wake.notify_one();
        got
    }

    /// Respawns the claiming task if it has ended: a process that claims nothing would look alive for ever.
    pub(super) fn keep_serving(&self) {
        let mut takers = self.locked();
        if takers.serving.as_ref().is_none_or(JoinHandle::is_finished) {
            takers.serving = Some(tokio::spawn(serve(self.clone())));
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Takers> {
        self.takers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long to wait for a wake-up. `None`: no lane takes runs any more, and the claiming task must end.
    fn poll(&self) -> Option<Duration> {
        let mut takers = self.locked();
        takers.all.retain(|taker| !taker.gives.is_closed());
        let poll = takers.all.iter().map(|taker| taker.poll).min();
        if poll.is_none() {
            takers.serving = None;
        }
        poll
    }

    /// Counts the free slots of the lanes that had something to claim the last time: others may be idle for long.
    fn free_slots(&self) -> usize {
        let takers = self.locked();
        let busy = takers
            .all
            .iter()
            .filter(|taker| taker.found.load(Ordering::Relaxed));
        busy.map(|taker| taker.slots.available_permits()).sum()
    }

    /// Reserves the free slots of the lanes that take runs.
    fn asking(&self) -> Option<Asking> {
        let takers = self.locked();
        let lanes: Vec<_> = takers
            .all
            .iter()
            .filter(|taker| (taker.is_taking)())
            .filter_map(|taker| {
                let free = u32::try_from(taker.slots.available_permits()).unwrap_or(u32::MAX);
                let free = free.min(AT_ONCE);
                let slots = Arc::clone(&taker.slots);
                let permits = slots.try_acquire_many_owned(free).ok();
                Some(AskingLane {
                    queue: Arc::clone(&taker.queue),
                    lane: taker.lane,
                    permits: permits.filter(|permits| permits.num_permits() > 0)?,
                    found: Arc::clone(&taker.found),
                    gives: taker.gives.clone(),
                })
            })
            .collect();
        let slots: usize = lanes.iter().map(|lane| lane.permits.num_permits()).sum();
        (slots > 0).then(|| Asking {
            lanes,
            attempts: (0..slots).map(|_| AttemptId(Uuid::new_v4())).collect(),
        })
    }
}

/// Claims until no lane takes runs any more.
async fn serve(claims: Claims) {
    let mut pace = Pace::Eager;
    let mut claimer = Claimer {
        ledger: &claims.ledger,
        connection: None,
        unanswered: Unanswered::default(),
    };
    loop {
        claimer.unanswered.give_back(&claims.ledger).await;
        let Some(poll) = claims.poll() else {
            return;
        };
        let asking = match pace {
            Pace::Eager => {
                gathered(&claims.wake, || claims.free_slots()).await;
                claims.asking()
            }
            Pace::Idle | Pace::Failing(_) => None,
        };
        let Some(asking) = asking else {
            claimer.connection = None;
            tokio::select! {
                // After an error, a wake-up is no reason to hurry.
                () = claims.wake.notified(), if !pace.is_failing() => {}
                () = sleep(pace.wait(poll)) => {}
            }
            pace = pace.rested();
            if let Some(asking) = claims.asking() {
                pace = claimer.claim(asking, pace).await;
            }
            continue;
        };
        pace = claimer.claim(asking, pace).await;
    }
}

struct Claimer<'a> {
    ledger: &'a Ledger,
    /// Kept from the claim before: a connection from the pool is asked first whether it works, which is a round trip for each claim.
    connection: Option<PoolConnection<Postgres>>,
    unanswered: Unanswered,
}

impl Claimer<'_> {
    async fn claim(&mut self, asking: Asking, pace: Pace) -> Pace {
        match self.claimed(&asking).await {
            Ok(rows) => {
                let found = !rows.is_empty();
                hand_over(self.ledger, asking.lanes, rows).await;
                if found { Pace::Eager } else { Pace::Idle }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot claim runs, trying again");
                self.unanswered.add(asking.attempts);
                pace.after_error()
            }
        }
    }

    /// Claims, and keeps the connection if it answered.
    async fn claimed(&mut self, asking: &Asking) -> sqlx::Result<Vec<Claimed>> {
        let lanes: Vec<_> = asking
            .lanes
            .iter()
            .map(|lane| (&*lane.queue, lane.permits.num_permits(), lane.lane))
            .collect();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.ledger.connection().await?,
        };
        let rows = self
            .ledger
            .claim(&mut connection, &lanes, &asking.attempts)
            .await?;
        self.connection = Some(connection);
        Ok(rows)
    }
}

async fn hand_over(ledger: &Ledger, mut lanes: Vec<AskingLane>, rows: Vec<Claimed>) {
    for lane in &lanes {
        let found = rows.iter().any(|row| lane.takes(row));
        lane.found.store(found, Ordering::Relaxed);
    }
    for row in rows {
        let lane = lanes.iter_mut().find(|lane| lane.takes(&row));
        let attempt = row.as_attempt();
        let permit = lane.and_then(|lane| Some((lane.permits.split(1)?, lane.gives.clone())));
        let is_taken = permit.is_some_and(|(permit, gives)| gives.send((row, permit)).is_ok());
        if !is_taken {
            // The lane's worker has gone in the meantime.
            ledger.release(attempt).await;
        }
    }
}

/// The attempts of claims whose answer was lost. The catalog may have made them, but nobody executes them.
#[derive(Default)]
struct Unanswered(Vec<(Instant, Vec<AttemptId>)>);

impl Unanswered {
    fn add(&mut self, attempts: Vec<AttemptId>) {
        self.0.push((Instant::now(), attempts));
    }

    /// Gives these attempts back unspent as soon as the catalog answers, and again for as long as it may still make them.
    async fn give_back(&mut self, ledger: &Ledger) {
        if self.0.is_empty() {
            return;
        }
        let attempts: Vec<AttemptId> = self.0.iter().flat_map(|(_, ids)| ids).copied().collect();
        match ledger.give_back(&attempts).await {
            Ok(given_back) => {
                self.0.retain(|(asked, _)| asked.elapsed() < MAY_COME_LATE);
                if given_back > 0 {
                    tracing::warn!(
                        runs = given_back,
                        "gave back the runs of a claim whose answer was lost"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot give back the runs that a lost claim may have taken, trying again");
            }
        }
    }
}

/// When to claim next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The last claim found runs, so there may be more. This holds even if it found fewer than there were slots: a limit may have held
    /// some runs back, and others may follow them.
    Eager,
    /// The last claim found nothing.
    Idle,
    /// Claims have failed in a row; the number is the exponent of the back-off, at most 4.
    Failing(u32),
}

impl Pace {
    fn after_error(self) -> Self {
        match self {
            Self::Failing(times) => Self::Failing((times + 1).min(4)),
            Self::Eager | Self::Idle => Self::Failing(0),
        }
    }

    fn is_failing(self) -> bool {
        match self {
            Self::Failing(_) => true,
            Self::Eager | Self::Idle => false,
        }
    }

    /// Returns the pace after a wait. Only an answer from the catalog ends a failure, not time.
    fn rested(self) -> Self {
        match self {
            Self::Failing(times) => Self::Failing(times),
            Self::Eager | Self::Idle => Self::Idle,
        }
    }

    /// Returns how long to wait, jittered by a quarter so that replicas do not poll in step.
    fn wait(self, poll: Duration) -> Duration {
        let factor = match self {
            Self::Failing(times) => 2_u32.pow(times),
            Self::Eager | Self::Idle => 1,
        };
        poll.mul_f64(0.75 + fastrand::f64() / 2.0) * factor
    }
}
