//! Delivery is at least once, effects are exactly once, and a bad run harms no other.

mod attempts;
mod bad_runs;
mod cancels;
mod claims;
mod claims_by_hand;
mod consequences;
mod drain;
mod drills;
mod failures;
mod fences;
mod held_back;
mod idle;
mod lanes;
mod late;
mod leases;
mod nothing_to_claim;
mod operators;
mod order;
mod outages;
mod payloads;
mod proof_ledger;
mod proofs;
mod retries;
mod rollbacks;
mod scopes;
mod shares;
mod suspects;
mod unknown_engines;
mod waiting;
mod wake_ups;
mod workers;

pub(crate) use workers::restore_point_of;
