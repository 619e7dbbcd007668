//! Consumers: which are alive, on which queues, and what they can do.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{Audit, Catalog, CatalogError, Order, audit::record_by};
use crate::nouns::{Consumer, ConsumerState};

/// What a consumer reports about itself at start.
pub struct Registration {
    /// Its id, unique per process start.
    pub id: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process id.
    pub pid: i32,
    /// The version of lastgood that it runs.
    pub version: String,
    /// The queues it claims from.
    pub queues: Vec<String>,
    /// How many runs it executes at once, per queue.
    pub slots: i32,
    /// Engines, operations and tools, as probed.
    pub capabilities: serde_json::Value,
    /// The numbers of the master keys that it holds.
    pub master_keys: Vec<i32>,
}

/// What a consumer learns from its heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// The catalog's time.
    pub now: DateTime<Utc>,
    /// Whether an operator asked it to drain and end.
    pub is_to_drain: bool,
    /// Whether its row still exists: a consumer that was away for long is forgotten.
    pub is_known: bool,
}

impl Catalog {
    /// Registers a consumer.
    pub async fn register_consumer(&self, new: &Registration) -> Result<(), CatalogError> {
        sqlx::query!(
            "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities, master_keys)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            new.id,
            new.host,
            new.pid,
            new.version,
            &new.queues,
            new.slots,
            new.capabilities,
            &new.master_keys
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Refreshes a consumer's row, stores `state`, and returns what it must know.
    pub async fn beat(&self, id: &str, state: ConsumerState) -> Result<Beat, CatalogError> {
        let beat = sqlx::query_as!(
            Beat,
            r#"with beat as (
                   update lastgood.consumers set seen_at = now(), state = $2 where id = $1 returning drain_requested_at
               )
               select clock_timestamp() as "now!", 
                   exists (select from beat where drain_requested_at is not null) as "is_to_drain!",
                   exists (select from beat) as "is_known!""#,
            id,
            state.as_str()
        )
        .fetch_one(self.pool())
        .await?;
        Ok(beat)
    }

    /// Returns the consumers seen in the last 30 seconds that have not stopped.
    pub async fn live_consumers(&self) -> Result<Vec<Consumer>, CatalogError> {
        let rows = sqlx::query_as!(
            Consumer,
            // The consumer itself reports `draining` only with its next heartbeat.
            r#"select id, version, queues as engines, slots,
                 case when state = 'running' and drain_requested_at is not null then 'draining' else state end
                     as "state!: ConsumerState",
                 started_at, seen_at, drain_requested_at
               from lastgood.consumers where state <> 'stopped' and seen_at > now() - interval '30 seconds' order by id"#
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Asks a live consumer to drain and end, as SIGTERM does, and returns it. It learns this at once by notification, or else with its
    /// next heartbeat.
    pub async fn drain_consumer(&self, id: &str, order: &Order) -> Result<Consumer, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let asked = sqlx::query_as!(
            Consumer,
            r#"update lastgood.consumers set drain_requested_at = coalesce(drain_requested_at, now())
               where id = $1 and state <> 'stopped' and seen_at > now() - interval '30 seconds'
               returning id, version, queues as engines, slots, 'draining' as "state!: ConsumerState", started_at, seen_at,
                   drain_requested_at"#,
            id
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| CatalogError::not_found("live consumer", id, "consumer list"))?;
        sqlx::query_scalar!("select pg_notify('lastgood_orders', $1)::text", id)
            .fetch_one(&mut *transaction)
            .await?;
        let entry = Audit::new(
            "drain_consumer",
            json!({ "consumer": id, "reason": order.reason() }),
        );
        record_by(&mut transaction, order.by(), &entry).await?;
        transaction.commit().await?;
        Ok(asked)
    }

    /// Returns the queues and capabilities of the consumers that take new runs and were seen in the last 30 seconds.
    pub async fn live_capabilities(
        &self,
    ) -> Result<Vec<(Vec<String>, serde_json::Value)>, CatalogError> {
        let rows = sqlx::query!(
            "select queues, capabilities from lastgood.consumers
             where state = 'running' and seen_at > now() - interval '30 seconds' order by id"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.queues, row.capabilities))
            .collect())
    }
}
