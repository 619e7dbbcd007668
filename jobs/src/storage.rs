//! Where objects live: the one room that knows which store it is.

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, Utc};

use crate::{error::JobError, manifest::Manifest};

/// A store's address: `file:///path`, or a bare directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageUrl {}

impl std::fmt::Display for StorageUrl {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

/// Why a text is no store's address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageUrlError(String);

impl FromStr for StorageUrl {
    type Err = StorageUrlError;

    fn from_str(_text: &str) -> Result<Self, StorageUrlError> {
        todo!()
    }
}

/// A store, open.
#[derive(Debug, Clone)]
pub struct Storage {}

/// What the janitor removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished uploads.
    pub partial: u64,
    /// Archives that no manifest describes.
    pub orphans: u64,
}

impl Storage {
    /// Opens a store and makes its directories.
    pub async fn open(_url: &StorageUrl) -> Result<Self, JobError> {
        todo!()
    }

    /// Writes, reads back and removes a small object: what `doctor` shows.
    pub async fn check(&self) -> Result<(), JobError> {
        todo!()
    }

    /// Reads a restore point's manifest. `None` if there is none.
    pub async fn manifest(&self, _key: &str) -> Result<Option<Manifest>, JobError> {
        todo!()
    }

    /// Removes what dead attempts left behind before `before`: unfinished uploads and archives without a manifest.
    pub async fn sweep(&self, _before: DateTime<Utc>) -> Result<Swept, JobError> {
        todo!()
    }
}

/// What is older than this was left by a dead attempt: no lease lives so long without renewal.
pub const JANITOR_AGE: Duration = Duration::from_secs(24 * 60 * 60);
