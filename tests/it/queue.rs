//! Delivery is at least once, effects are exactly once, and no bad run harms another.

mod bad_runs;
mod claims;
mod drain;
mod failures;
mod leases;
mod operators;
mod order;
mod outages;
mod proofs;
mod unknown_engines;
mod waiting;
mod wake_ups;
mod workers;
