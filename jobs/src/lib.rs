//! Makes and reads restore points. This crate does not know when to do so, and keeps no records.

mod archive;
pub mod attempt;
pub mod backup;
pub mod clients;
pub mod contents;
pub mod copy;
pub mod detached;
pub mod download;
pub mod drill;
pub mod engine;
pub mod error;
pub mod escrow;
pub mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod inventory;
pub mod job;
pub mod key;
pub mod manifest;
pub mod names;
pub mod object_key;
mod percent;
pub mod printable;
mod process;
pub mod resource;
pub mod restore;
pub mod scratch;
pub mod sought;
pub mod storage;
pub mod survey;
pub mod verify;
pub mod worker;
