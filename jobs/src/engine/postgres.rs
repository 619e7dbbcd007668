//! PostgreSQL and pgvector: dumped by the `pg_dump` of the server's own major version, restored by the `pg_restore` of
//! the target's.

pub(crate) mod drilled;
pub(crate) mod dump;
mod dumped_facts;
mod fill;
mod foresight;
mod likeness;
mod mark;
pub(crate) mod names;
mod pooler;
pub(crate) mod properties;
mod replication;
pub(crate) mod restore;
pub(crate) mod session;
mod swap;
mod tablespaces;
mod wire;
