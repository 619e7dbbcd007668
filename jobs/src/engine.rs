//! Which tools speak to which engine, and what this worker can truly do.

use std::path::PathBuf;

use crate::resource::Engine;

/// The client tools found on this machine.
#[derive(Debug, Clone)]
pub struct Toolbox {}

/// One thing this worker can do, as its consumer registers it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Capability {
    /// For which engine.
    pub engine: Engine,
    /// `backup`, `restore`.
    pub operations: Vec<String>,
    /// The tools behind it, e.g. `pg_dump (PostgreSQL) 18.6 in /usr/lib/postgresql/18/bin`.
    pub tools: Vec<String>,
}

impl Toolbox {
    /// Looks for client tools in `configured` directories first, then in the usual places; runs each once for its version.
    pub async fn discover(_configured: &[PathBuf]) -> Self {
        todo!()
    }

    /// Returns what can truly be done; an engine without tools has no entry.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        todo!()
    }
}

/// Checks that `url` is one that the engine can be reached by, without reaching it; the error never repeats it.
pub fn check_url(
    _engine: Engine,
    _url: &secrecy::SecretString,
) -> Result<(), crate::error::JobError> {
    todo!()
}
