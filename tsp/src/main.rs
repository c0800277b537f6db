//! The one executable: roles, command line, settings, wiring.

#![cfg_attr(
    not(feature = "cluster"),
    expect(
        dead_code,
        reason = "every build reads all settings, and has the variants of both deployment modes"
    )
)]

mod apply;
mod commands;
mod environment;
mod failure;
mod output;
mod settings;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;
use environment::Environment;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run(&Environment::of_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}
