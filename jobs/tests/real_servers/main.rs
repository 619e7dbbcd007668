//! Against real servers: what a backup promises, what a restore brings back, and how both fail.
//!
//! Needs `LASTGOOD_TEST_PG18_URL` and `LASTGOOD_TEST_PG17_URL`, the URLs of superusers of private servers (the first
//! with pgvector), `LASTGOOD_TEST_PG17_NARROW_URL`, that of one with a small lock table and a template of its own,
//! `LASTGOOD_TEST_PG15_POSTGIS_URL`, that of one with `PostGIS` or why there is none, and `LASTGOOD_TEST_PG_CLIENT_DIRS`, the client
//! directories, `:` between them. A variable that is missing fails the tests: what was not tested must not look as if it were.

mod backups;
mod connections;
mod doors;
mod environment;
mod extensions;
mod failures;
mod foresight;
mod formats;
mod grants;
mod guards;
mod lab;
mod mongodb;
mod proxy;
mod redis;
mod regression;
mod restores;
mod standbys;
mod throughput;
