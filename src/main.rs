//! The `tidelock` program: the process beside an app, and the commands for it.

#![allow(clippy::print_stdout, reason = "a command's output is its purpose")]

use std::process::ExitCode;

mod command;

fn main() -> ExitCode {
    command::main()
}
