//! lastgood knows when each database is backed up, and keeps the records that prove it.

pub mod plan;
pub mod schedule;
