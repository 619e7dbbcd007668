//! Tests of Redis and Valkey against real servers.

mod contents;
mod drills;
mod dumps;
mod halves;
mod lab;
mod preflight;
mod refusals;
mod restores;
mod rights;
mod sentinel;
mod server;
mod shop;
