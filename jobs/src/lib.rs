//! lastgood-jobs knows how to make and read a restore point; when, and what is recorded, is not its business.

mod archive;
pub mod backup;
pub mod copy;
pub mod detached;
pub mod engine;
pub mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod job;
pub mod manifest;
mod process;
pub mod resource;
pub mod restore;
pub mod storage;
pub mod worker;
