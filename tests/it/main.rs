//! Tests lastgood against a real PostgreSQL. `LASTGOOD_TEST_CATALOG_URL` is the URL of a superuser there; without it, every test fails.
//!
//! The end-to-end tests also back up a customer's server, `LASTGOOD_TEST_PG18_URL`, with the tools of `LASTGOOD_TEST_PG_CLIENT_DIRS`.
//! `scripts/test.py` starts all of these.

mod api;
mod catalog;
mod cli;
mod copies;
mod database;
mod end_to_end;
mod eventually;
mod fleet_wide;
mod future_rows;
mod history;
mod master_keys;
mod planning;
mod poison;
mod producer;
mod promise;
mod proofs;
mod queue;
mod retention;
mod simulation;
mod standing;

use anyhow::Context as _;

/// Returns what `make test` tells in this variable.
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: run `make test`, which starts the servers"))
}
