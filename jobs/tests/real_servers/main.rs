//! Against real servers: what a backup promises, what a restore brings back, and how both fail.
//!
//! Needs `LASTGOOD_TEST_PG18_URL` and `LASTGOOD_TEST_PG17_URL`, the URLs of superusers of private servers (the first
//! with pgvector), and `LASTGOOD_TEST_PG_CLIENT_DIRS`, the client directories, `:` between them. A variable that is
//! missing fails the tests: what was not tested must not look as if it were.

mod backups;
mod connections;
mod environment;
mod failures;
mod foresight;
mod formats;
mod grants;
mod lab;
mod mongodb;
mod proxy;
mod redis;
mod restores;
mod standbys;
mod throughput;
