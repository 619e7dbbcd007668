//! lastgood keeps a promise that platforms sell and seldom measure: you lose at most N minutes of data.
//!
//! This crate knows *when*: plans become due backups, a queue in Postgres carries them to consumers, a catalog records what
//! can be restored. How a restore point is made and read is `lastgood-jobs`'s business. ARCHITECTURE.md is the map.

pub mod api;
pub mod blocking;
pub mod capabilities;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod consumer;
pub mod http;
pub mod keys;
pub mod master;
pub mod metrics;
pub mod plan;
pub mod producer;
pub mod queue;
mod regular;
pub mod request;
pub mod retention;
pub mod schedule;
pub mod secret;
pub mod standing;
pub mod status;
pub mod stores;
pub mod token;
pub mod version;
