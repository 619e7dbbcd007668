//! Tests of MongoDB against a real server.
//!
//! Required: `LASTGOOD_TEST_MONGODB_URL`, root's URL of a replica set with passwords;
//! `LASTGOOD_TEST_MONGODB_STANDALONE_URL`, the same for a standalone server; and `LASTGOOD_TEST_MONGODB_PROGRAM`, the
//! argv and env in JSON that start another server.

mod archive;
mod contents;
mod drills;
mod dump_failures;
mod dumps;
mod forge;
mod gate;
mod grants;
mod lab;
mod oplog;
mod restore_failures;
mod restores;
mod restores_in_place;
mod restoring;
mod round_trips;
mod sharded;
mod transports;
mod versions;
