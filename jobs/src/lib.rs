//! lastgood-jobs knows how to make and read a restore point; when, and what is recorded, is not its business.

mod archive;
pub mod backup;
pub mod copy;
pub mod detached;
pub mod download;
pub mod engine;
pub mod error;
pub mod escrow;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod inventory;
pub mod job;
pub mod key;
pub mod manifest;
pub mod printable;
mod process;
pub mod resource;
pub mod restore;
pub mod sought;
pub mod storage;
pub mod survey;
pub mod verify;
pub mod worker;
