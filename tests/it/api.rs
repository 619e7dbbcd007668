//! The HTTP API does what its document and its tokens say.

#![expect(
    clippy::indexing_slicing,
    reason = "what a JSON value does not have is null, and a test may panic"
)]

mod access;
mod backups;
mod capabilities;
mod connections;
mod document;
mod errors;
mod events;
mod lab;
mod nouns;
mod promise;
mod queue;
mod resources;
mod restores;
mod sql_function;
