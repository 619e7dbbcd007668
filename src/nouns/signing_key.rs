//! A key that signs exports of the ledger of proofs.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// A key that signs exports of the ledger of proofs, without its secret.
#[derive(Debug, Clone, Serialize)]
pub struct SigningKey {
    /// Its id.
    pub id: Uuid,
    /// What signatures call it: the SHA-256 of its public half as DER, in lowercase hex.
    pub fingerprint: String,
    /// Its public half, as PEM.
    pub public_key: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its successor took its place, and its private half was destroyed.
    pub retired_at: Option<DateTime<Utc>>,
}
