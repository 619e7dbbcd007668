//! What scripts can rely on: exit codes, messages that say what to do next, JSON, and no secret in the output.

mod health;
mod order_commands;
mod plan_simulation;
mod plans_commands;
pub(crate) mod process;
mod producer_process;
mod resource_commands;
mod usage;
