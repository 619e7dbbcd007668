//! lastgood keeps a promise that platforms sell and seldom measure: you lose at most N minutes of data.
//!
//! This crate knows *when*: it turns plans into due backups, queues them in Postgres for consumers, and records in the catalog what
//! can be restored. The crate `lastgood-jobs` knows how to make and read a restore point. ARCHITECTURE.md is the map.

pub mod api;
pub mod attained;
pub mod blocking;
pub mod capabilities;
pub mod catalog;
pub mod cli;
mod closed_set;
pub mod config;
pub mod consumer;
pub mod http;
pub mod keys;
pub mod master;
pub mod metrics;
pub mod nouns;
pub mod plan;
pub mod planner;
pub mod producer;
pub mod promise;
pub mod proof;
pub mod queue;
mod regular;
pub mod request;
pub mod retention;
pub mod rto;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod signing;
pub mod standing;
pub mod status;
pub mod stores;
pub mod token;
pub mod version;
