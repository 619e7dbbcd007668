//! `PostgreSQL` and pgvector: `pg_dump` of the server's own major version out, `pg_restore` of the target's back in.

pub(crate) mod address;
pub mod custom_format;
pub(crate) mod dump;
mod dumped_facts;
mod fill;
mod foresight;
mod likeness;
mod mark;
mod names;
mod pooler;
mod properties;
mod replication;
pub(crate) mod restore;
mod session;
mod swap;
mod tablespaces;
pub(crate) mod verdict;
mod wire;
