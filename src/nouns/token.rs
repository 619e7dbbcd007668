//! A token of the HTTP API.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// A token of the HTTP API, without its secret.
#[derive(Debug, Clone, Serialize)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// Its name in the audit log.
    pub name: String,
    /// What its holder may do.
    pub scopes: Vec<String>,
    /// The only team whose resources it may see and change; null: all teams.
    pub team: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it expires; null: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A token that was just made, with its secret, which is shown this once.
#[derive(Serialize)]
pub struct TokenAndSecret<'a> {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// The text to send as `Authorization: Bearer …`.
    pub secret: &'a str,
}
