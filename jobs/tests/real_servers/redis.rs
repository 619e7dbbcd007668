//! Redis and Valkey.

mod dumps;
mod halves;
mod lab;
mod refusals;
mod restores;
mod rights;
mod server;
mod shop;
