//! The command line: one file per command.

mod backup;
mod clock;
mod completions;
mod config;
mod config_reference;
mod connection;
mod dev;
mod doctor;
mod key;
mod migrate;
#[cfg(feature = "cluster")]
mod migrate_data;
#[cfg(not(feature = "cluster"))]
mod no_cluster;
mod openapi;
mod serve;
#[cfg(feature = "cluster")]
mod shard;
mod tasks;

use clap::{Parser, Subcommand};

use crate::environment::Environment;
use crate::failure::Result;
#[cfg(not(feature = "cluster"))]
use {no_cluster as migrate_data, no_cluster as shard};

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 wrong usage or settings, 3 not found, 4 refused";

#[derive(Debug, Parser)]
#[command(name = "tsp", version, about = "Delayed and scheduled callbacks", after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Dev(dev::Args),
    Migrate(migrate::Args),
    MigrateData(migrate_data::Args),
    Shard(shard::Args),
    Doctor(doctor::Args),
    Backup(backup::Args),
    Key(key::Args),
    Clock(clock::Args),
    Submit(tasks::SubmitArgs),
    /// Show a task, open or ended
    #[command(
        after_help = "Examples:\n  tsp get 7301120512000000001\n  tsp get trade/close-order/order-42 -o json"
    )]
    Get(tasks::ActArgs),
    Cancel(tasks::CancelArgs),
    /// Hold a task until it is resumed
    #[command(after_help = "Example:\n  tsp pause trade/close-order/order-42")]
    Pause(tasks::ActArgs),
    /// Let a paused task go on; due at once if its time has passed
    #[command(after_help = "Example:\n  tsp resume trade/close-order/order-42")]
    Resume(tasks::ActArgs),
    Postpone(tasks::PostponeArgs),
    /// Make a task due now
    #[command(after_help = "Example:\n  tsp run trade/close-order/order-42")]
    Run(tasks::ActArgs),
    /// Run an ended task again, under the same id
    #[command(after_help = "Example:\n  tsp replay 7301120512000000001")]
    Replay(tasks::ActArgs),
    Attempts(tasks::AttemptsArgs),
    List(tasks::ListArgs),
    Config(config::Args),
    ConfigReference(config_reference::Args),
    Openapi(openapi::Args),
    Completions(completions::Args),
}

impl Cli {
    #[cfg_attr(
        not(feature = "cluster"),
        expect(clippy::match_same_arms, reason = "the commands of a cluster are one there")
    )]
    pub(crate) fn run(self, environment: &Environment) -> Result {
        use tasks::Act;
        match self.command {
            Command::Serve(args) => args.run(environment),
            Command::Dev(args) => args.run(environment),
            Command::Migrate(args) => args.run(environment),
            Command::MigrateData(args) => args.run(environment),
            Command::Shard(args) => args.run(environment),
            Command::Doctor(args) => args.run(environment),
            Command::Backup(args) => args.run(environment),
            Command::Key(args) => args.run(environment),
            Command::Clock(args) => args.run(environment),
            Command::Submit(args) => args.run(environment),
            Command::Get(args) => args.run(Act::Get, environment),
            Command::Cancel(args) => args.run(environment),
            Command::Pause(args) => args.run(Act::Pause, environment),
            Command::Resume(args) => args.run(Act::Resume, environment),
            Command::Postpone(args) => args.run(environment),
            Command::Run(args) => args.run(Act::Run, environment),
            Command::Replay(args) => args.run(Act::Replay, environment),
            Command::Attempts(args) => args.run(environment),
            Command::List(args) => args.run(environment),
            Command::Config(args) => args.run(environment),
            Command::ConfigReference(args) => args.run(),
            Command::Openapi(args) => args.run(),
            Command::Completions(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn each(command: &clap::Command, visit: &mut impl FnMut(&clap::Command)) {
        visit(command);
        command.get_subcommands().for_each(|inner| each(inner, visit));
    }

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_an_example() {
        Cli::command().debug_assert();
        each(&Cli::command(), &mut |command| {
            assert!(command.get_about().is_some(), "`{}` says nothing about itself", command.get_name());
            if !command.has_subcommands() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("tsp "), "`{}` has no example", command.get_name());
            }
        });
    }
}
