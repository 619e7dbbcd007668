//! Redis and Valkey: what this worker knows of them.

#[allow(
    dead_code,
    unused_imports,
    reason = "the engine that reads and writes dumps comes next"
)]
pub(crate) mod rdb;
