//! The whole promise with the real program: producers, consumers and commands as processes of their own, which may be killed.

mod by_hand;
mod cache;
mod customer;
mod disaster;
mod drains;
mod encryption;
mod faults;
mod fleet;
mod gate;
mod lab;
mod lost_workers;
mod mirrors;
mod native;
mod native_faults;
mod operators;
mod orders;
mod program;
mod requests;
mod retention;
mod round_trip;
mod secrets;
mod store;
mod store_names;
mod stores;
mod vault;
mod verifications;
