//! Which keys sign the next request, and when are they read or requested again?

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use reqsign_aws_v4::Credential;
use secrecy::ExposeSecret as _;
use tokio::sync::Mutex;

use super::{
    lend::Lending,
    source::{Credentials, KeySource, ReadKeys},
};
use crate::error::JobError;

/// How often keys without an expiry are read again.
const READ_EVERY: Duration = Duration::from_mins(5);
/// Lent keys are replaced this long before they expire, or after half of their life, whichever is later.
const BEFORE_THE_END: Duration = Duration::from_mins(5);
/// No request is signed with keys that expire within this time.
const HEADROOM: Duration = Duration::from_secs(15);
/// Lent keys are requested again within this time, however long they are lent for.
const LONGEST: Duration = Duration::from_hours(24);
/// The pause after a failure while the old keys are still valid.
const AFTER_A_FAILURE: Duration = Duration::from_secs(30);
/// How often keys are read again at most, if the service refuses all keys.
const AFTER_A_REFUSAL: Duration = Duration::from_secs(2);
/// Lent keys younger than this are not to blame for a refusal without a reason.
const YOUNG: Duration = Duration::from_mins(1);

/// Why there are no keys to sign a request with. Holds no secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("there are no keys to sign a request with: {why}")]
pub(in crate::storage) struct NoKeys {
    pub(in crate::storage) why: String,
    /// Whether asking again may help.
    pub(in crate::storage) may_pass: bool,
}

/// What a service refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The keys, according to its error code.
    OfTheKeys,
    /// The request, without a reason, or for a reason that may not be the keys.
    OfTheRequest,
}

/// The current keys of one bucket.
pub(super) struct HeldKeys {
    bucket: String,
    source: Source,
    held: RwLock<Option<Held>>,
    /// The holder of this lock asks the source. The value is when a refusal last caused that.
    turn: Mutex<Option<Instant>>,
}

enum Source {
    Fixed,
    Read(Arc<dyn ReadKeys>),
    Lent(Lending),
}

#[derive(Clone)]
struct Held {
    keys: Arc<Credential>,
    since: Instant,
    /// When to read or ask again; `None` means never.
    again: Option<Instant>,
    /// When they expire; `None` means never.
    end: Option<Instant>,
}

impl HeldKeys {
    pub(super) fn new(bucket: &str, source: &KeySource, region: &str) -> Result<Self, JobError> {
        let now = Instant::now();
        let (source, held) = match source {
            KeySource::Fixed(keys) => {
                let mut held = Held::new(signing(keys), now, None);
                held.again = None;
                (Source::Fixed, Some(held))
            }
            KeySource::Read { first, again } => (
                Source::Read(Arc::clone(again)),
                Some(Held::new(signing(first), now, None)),
            ),
            KeySource::Lent(lender) => (Source::Lent(Lending::new(lender, region)?), None),
        };
        Ok(Self {
            bucket: bucket.to_owned(),
            source,
            held: RwLock::new(held),
            turn: Mutex::default(),
        })
    }

    /// Returns the keys that sign the next request.
    pub(super) async fn current(&self) -> Result<Arc<Credential>, NoKeys> {
        self.at(Instant::now()).await
    }

    async fn at(&self, now: Instant) -> Result<Arc<Credential>, NoKeys> {
        if let Some(held) = self.held().filter(|held| !held.has_ended(now)) {
            if held.is_due(now)
                && let Ok(_turn) = self.turn.try_lock()
            {
                return Ok(self.replaced(held, now).await);
            }
            return Ok(held.keys);
        }
        let _turn = self.turn.lock().await;
        // The previous holder of the lock may have asked already.
        match self.held().filter(|held| !held.has_ended(now)) {
            Some(held) => Ok(held.keys),
            None => self.ask(now).await,
        }
    }

    /// Returns the next keys, or the held ones if no others are available yet.
    async fn replaced(&self, held: Held, now: Instant) -> Arc<Credential> {
        match self.ask(now).await {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!(
                    bucket = self.bucket,
                    %error,
                    "cannot get new keys: the current ones still sign requests"
                );
                let keys = Arc::clone(&held.keys);
                self.hold(Held {
                    again: Some(now + AFTER_A_FAILURE),
                    ..held
                });
                keys
            }
        }
    }

    /// Returns keys that outlast `ttl` if there are any, and the current keys otherwise.
    pub(super) async fn lasting(&self, ttl: Duration) -> Result<Arc<Credential>, NoKeys> {
        let now = Instant::now();
        let keys = self.at(now).await?;
        let lasts = |held: &Held| held.end.is_none_or(|end| end > now + ttl);
        if self.held().as_ref().is_none_or(lasts) {
            return Ok(keys);
        }
        let _turn = self.turn.lock().await;
        // The held keys are still valid, for a shorter time or just as long: the signer compares that.
        Ok(self.ask(now).await.unwrap_or(keys))
    }

    /// Returns other keys than the ones that the service refused, if there are any.
    pub(super) async fn other_than(
        &self,
        refused: &Credential,
        refusal: Refusal,
    ) -> Option<Arc<Credential>> {
        self.other_at(refused, refusal, Instant::now()).await
    }

    async fn other_at(
        &self,
        refused: &Credential,
        refusal: Refusal,
        now: Instant,
    ) -> Option<Arc<Credential>> {
        let mut asked_at = self.turn.lock().await;
        let held = self.held()?;
        if !is_same(&held.keys, refused) {
            return Some(held.keys);
        }
        let is_young = now.saturating_duration_since(held.since) < YOUNG;
        match &self.source {
            Source::Fixed => return None,
            Source::Lent(_) if refusal == Refusal::OfTheRequest && is_young => return None,
            Source::Read(_) | Source::Lent(_) => {}
        }
        if asked_at.is_some_and(|at| now.saturating_duration_since(at) < AFTER_A_REFUSAL) {
            return None;
        }
        *asked_at = Some(now);
        match self.ask(now).await {
            Ok(keys) => Some(keys).filter(|keys| !is_same(keys, refused)),
            Err(error) => {
                tracing::warn!(
                    bucket = self.bucket,
                    %error,
                    "the service refused the keys, and no others are available"
                );
                None
            }
        }
    }

    /// Asks the source, and holds the keys that it returns.
    async fn ask(&self, now: Instant) -> Result<Arc<Credential>, NoKeys> {
        let keys = match &self.source {
            Source::Fixed => {
                let held = self.held().map(|held| held.keys);
                return held.ok_or_else(|| NoKeys {
                    why: "none are configured".to_owned(),
                    may_pass: false,
                });
            }
            Source::Read(again) => {
                let read = again.read().await;
                signing(&read.map_err(|why| NoKeys {
                    why,
                    may_pass: true,
                })?)
            }
            Source::Lent(lending) => lending.lend().await?,
        };
        let life = keys.expires_in.map(|end| {
            let end = end.as_system_time();
            end.duration_since(SystemTime::now()).unwrap_or_default()
        });
        let next = Held::new(keys, now, life);
        if next.has_ended(now) {
            return Err(NoKeys {
                why: "the lent ones have already expired: check this machine's clock".to_owned(),
                may_pass: true,
            });
        }
        let keys = Arc::clone(&next.keys);
        let before = self.held();
        if before.is_some_and(|before| !is_same(&before.keys, &keys)) {
            tracing::info!(
                bucket = self.bucket,
                "new keys sign requests to the bucket from now on"
            );
        }
        self.hold(next);
        Ok(keys)
    }

    fn held(&self) -> Option<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    fn hold(&self, held: Held) {
        let mut place = self.held.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(held);
    }
}

impl fmt::Debug for HeldKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match &self.source {
            Source::Fixed => "given".to_owned(),
            Source::Read(_) => "read".to_owned(),
            Source::Lent(lending) => format!("lent by {}", lending.by()),
        };
        f.debug_struct("HeldKeys")
            .field("bucket", &self.bucket)
            .field("keys", &by)
            .finish_non_exhaustive()
    }
}

impl Held {
    fn new(keys: Credential, now: Instant, life: Option<Duration>) -> Self {
        let life = life.map(|life| life.min(LONGEST));
        let until_next = life.map_or(READ_EVERY, |life| {
            life.saturating_sub(BEFORE_THE_END).max(life / 2)
        });
        Self {
            keys: Arc::new(keys),
            since: now,
            again: Some(now + until_next),
            end: life.map(|life| now + life.saturating_sub(HEADROOM)),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.again.is_some_and(|again| now >= again)
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }
}

fn is_same(one: &Credential, other: &Credential) -> bool {
    one.access_key_id == other.access_key_id
        && one.secret_access_key == other.secret_access_key
        && one.session_token == other.session_token
}

fn signing(keys: &Credentials) -> Credential {
    let token = keys.session_token.as_ref();
    Credential {
        access_key_id: keys.access_key_id.clone(),
        secret_access_key: keys.secret_access_key.expose_secret().to_owned(),
        session_token: token.map(|token| token.expose_secret().to_owned()),
        expires_in: None,
    }
}

#[cfg(test)]
mod tests;
