//! MongoDB, against a server that speaks its protocol.
//!
//! Needs `LASTGOOD_TEST_MONGODB_URL`, root's URL of a server that says it is a replica set,
//! `LASTGOOD_TEST_MONGODB_STANDALONE_URL`, the same of one that says it is none, and `LASTGOOD_TEST_MONGODB_PROGRAM`, the
//! argv and env, in JSON, that start another one.

mod archive;
mod dump_failures;
mod dumps;
mod forge;
mod grants;
mod lab;
mod restore_failures;
mod restores;
mod restores_in_place;
mod restoring;
mod round_trips;
