//! Redis and Valkey.

mod lab;
mod refusals;
mod restores;
mod server;
