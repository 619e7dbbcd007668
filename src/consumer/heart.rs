//! A consumer's row in the catalog: what the consumer registers at start, and its heartbeat.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use lastgood_jobs::{engine::Capability, error::chain};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Settings;
use crate::{
    catalog::{Beat, Catalog, CatalogError, Registration, answered},
    metrics,
    nouns::ConsumerState,
    version::VERSION,
};

/// How often a consumer beats. After three missed beats it counts as dead.
const BEAT_EVERY: Duration = Duration::from_secs(10);

/// Returns what a consumer registers at start.
pub(super) fn registration(
    settings: &Settings,
    capabilities: Vec<Capability>,
    master_keys: Vec<i32>,
) -> anyhow::Result<Registration> {
    let mine: Vec<_> = capabilities
        .into_iter()
        .filter(|capability| settings.engines.contains(&capability.engine))
        .collect();
    for engine in &settings.engines {
        if !mine.iter().any(|capability| capability.engine == *engine) {
            tracing::error!(engine = %engine, "no client tools were found for this engine: its runs will fail; see `lastgood doctor`");
        }
    }
    let host = hostname();
    Ok(Registration {
        id: format!(
            "{host}-{}-{}",
            std::process::id(),
            &Uuid::new_v4().simple().to_string()[..8]
        ),
        host,
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        version: VERSION.to_owned(),
        queues: settings.engines.iter().map(ToString::to_string).collect(),
        slots: i32::try_from(settings.slots)?,
        capabilities: serde_json::to_value(mine)?,
        master_keys,
    })
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown-host".to_owned())
}

/// Keeps this consumer's row fresh and its readiness up to date, compares its clock with the catalog's, and receives orders to drain.
pub(super) struct Heart {
    pub(super) catalog: Catalog,
    pub(super) registration: Registration,
    pub(super) ready: watch::Sender<bool>,
    pub(super) drain_asked: Arc<Notify>,
    pub(super) drain: CancellationToken,
    /// Whether connections are sessions. A pooler that keeps none breaks this consumer's work.
    pub(super) keeps_sessions: bool,
}

impl Heart {
    pub(super) async fn beat_until(self, ended: CancellationToken) {
        let mut timer = tokio::time::interval(BEAT_EVERY);
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.drain.cancelled(), if *self.ready.borrow() => {}
                () = self.drain_asked.notified() => {}
                _ = timer.tick() => {}
            }
            self.beat(self.drain.is_cancelled()).await;
        }
    }

    /// Renews this consumer's row. If it was forgotten meanwhile, registers again: a consumer that claims must be visible.
    async fn renew(&self, state: ConsumerState) -> Result<Beat, CatalogError> {
        let beat = self.catalog.beat(&self.registration.id, state).await?;
        if beat.is_known {
            return Ok(beat);
        }
        tracing::warn!("this consumer's registration was gone: registering again");
        self.catalog.register_consumer(&self.registration).await?;
        self.catalog.beat(&self.registration.id, state).await
    }

    async fn beat(&self, is_draining: bool) {
        if is_draining {
            self.ready.send_replace(false);
        }
        let state = if is_draining {
            ConsumerState::Draining
        } else {
            ConsumerState::Running
        };
        match answered(BEAT_EVERY, self.renew(state)).await {
            Ok(beat) => {
                self.ready.send_replace(!is_draining && self.keeps_sessions);
                compare_clock(beat.now);
                if beat.is_to_drain && !is_draining {
                    tracing::info!("an operator asked this consumer to drain and end");
                    self.drain.cancel();
                }
            }
            Err(error) => {
                self.ready.send_replace(false);
                tracing::warn!(
                    error = chain(&error),
                    "cannot renew this consumer's registration"
                );
            }
        }
    }
}

/// Reports a difference between this machine's clock, which sets `consistent_at`, and the catalog's, which measures exposure.
fn compare_clock(catalog_now: DateTime<Utc>) {
    let skew = (Utc::now() - catalog_now).as_seconds_f64();
    metrics::clock_skew(skew);
    if skew.abs() > 5.0 {
        tracing::error!(
            clock.skew_seconds = skew,
            "this machine's clock disagrees with the catalog's: exposure will be wrong by that much; fix NTP"
        );
    }
}
