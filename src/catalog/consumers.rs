//! Consumers: who is alive, on which queues, and what they can truly do.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Catalog, CatalogError};

/// What a consumer says of itself at start.
pub struct Registration {
    /// Unique per process start.
    pub id: String,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: i32,
    /// Its version.
    pub version: String,
    /// The queues it claims from.
    pub queues: Vec<String>,
    /// How many runs it executes at once, per queue.
    pub slots: i32,
    /// Engines, operations and tools, as probed.
    pub capabilities: serde_json::Value,
}

/// A consumer as stored.
#[derive(Debug, Clone, Serialize)]
pub struct ConsumerRow {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its queues.
    pub queues: Vec<String>,
    /// Its slots per queue.
    pub slots: i32,
    /// `running` or `draining`.
    pub state: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it last renewed this row.
    pub seen_at: DateTime<Utc>,
}

impl Catalog {
    /// Registers a consumer.
    pub async fn register_consumer(&self, new: &Registration) -> Result<(), CatalogError> {
        sqlx::query!(
            "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities)
             values ($1, $2, $3, $4, $5, $6, $7)",
            new.id,
            new.host,
            new.pid,
            new.version,
            &new.queues,
            new.slots,
            new.capabilities
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Keeps a consumer's row fresh, in `state`, and returns the catalog's time.
    pub async fn beat(&self, id: &str, state: &str) -> Result<DateTime<Utc>, CatalogError> {
        let now = sqlx::query_scalar!(
            r#"with beat as (update lastgood.consumers set seen_at = now(), state = $2 where id = $1)
               select clock_timestamp() as "now!""#,
            id,
            state
        )
        .fetch_one(self.pool())
        .await?;
        Ok(now)
    }

    /// Returns the consumers seen in the last 30 seconds that have not stopped.
    pub async fn live_consumers(&self) -> Result<Vec<ConsumerRow>, CatalogError> {
        let rows = sqlx::query_as!(
            ConsumerRow,
            "select id, version, queues, slots, state, started_at, seen_at from lastgood.consumers
             where state <> 'stopped' and seen_at > now() - interval '30 seconds' order by id"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }
}
