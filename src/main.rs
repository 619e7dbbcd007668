//! The binary: parses the command line, runs one command, turns its end into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use lastgood::cli::{Cli, run};

fn main() -> ExitCode {
    run(Cli::parse())
}
