//! A key that archives are encrypted to.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// A key that archives are encrypted to, without its secret.
#[derive(Debug, Clone, Serialize)]
pub struct Key {
    /// Its id, which manifests name.
    pub id: Uuid,
    /// The team whose archives it encrypts; null: the platform's key, for every team without one of its own.
    pub team: Option<String>,
    /// Its public half.
    pub recipient: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its successor took its place.
    pub retired_at: Option<DateTime<Utc>>,
    /// When its secret was destroyed.
    pub shredded_at: Option<DateTime<Utc>>,
}

impl Key {
    /// Returns whose archives it encrypts, in words.
    #[must_use]
    pub fn owner(&self) -> String {
        match &self.team {
            Some(team) => format!("team {team}"),
            None => "the platform".to_owned(),
        }
    }
}
