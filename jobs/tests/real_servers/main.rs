//! Tests against real servers: what a backup promises, what a restore brings back, and how both fail.
//!
//! These variables are required:
//!
//! * `LASTGOOD_TEST_PG18_URL` and `LASTGOOD_TEST_PG17_URL`: URLs of superusers of private servers, the first with
//!   pgvector.
//! * `LASTGOOD_TEST_PG17_NARROW_URL`: the same for a server with a small lock table and its own template.
//! * `LASTGOOD_TEST_PG15_POSTGIS_URL`: the same for a server with `PostGIS`, or why there is none.
//! * `LASTGOOD_TEST_PG_CLIENT_DIRS`: the client directories, separated by `:`.
//!
//! A missing variable fails the tests, so that an untested feature never looks tested.

mod backups;
mod connections;
mod doors;
mod drills;
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
mod scratch;
mod standbys;
mod subject;
mod throughput;
