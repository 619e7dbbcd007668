//! The binary: parses the command line, runs one command and exits with its code.

use std::process::ExitCode;

use lastgood::cli::{parse, run};

fn main() -> ExitCode {
    run(parse())
}
