//! What the binary promises to scripts: exit codes, messages that say what to do next, JSON, and secrets never repeated.

mod health;
mod order_commands;
mod plans_commands;
mod process;
mod producer_process;
mod resource_commands;
mod usage;
