//! The binary: parses the command line, runs one command, turns its end into an exit code.

use std::process::ExitCode;

use lastgood::cli::{parse, run};

fn main() -> ExitCode {
    run(parse())
}
