//! Scratch servers are private, bounded, and gone when they are no longer needed.

mod configured;
mod drills;
mod lab;
mod privacy;
mod restores;
mod sweeps;
