//! The HTTP API holds what its document and its tokens say.

mod access;
mod backups;
mod capabilities;
mod document;
mod errors;
mod events;
mod lab;
mod queue;
mod resources;
mod restores;
mod sql_function;
