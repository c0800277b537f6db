//! The commands of a cluster in a build without it.

use crate::environment::Environment;
use crate::failure::{Failure, Result};

/// Of a cluster, which this build does not have
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, with the executable that `make build` makes:\n  \
    target/release/tsp migrate --config cluster.toml")]
pub(super) struct Args {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Args {
    pub(super) fn run(self, _environment: &Environment) -> Result {
        drop(self.arguments);
        Err(Failure::no_cluster())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::Cli;

    #[test]
    fn what_needs_a_cluster_says_which_command_builds_it() {
        let databases = Environment::of(&[("TSP__STORE__META__URL", "mysql://u:p@db/tsp")]);
        let queue = Environment::of(&[("TSP__QUEUE__URL", "nsq:")]);
        let none = Environment::default();
        for (line, environment, said) in [
            ("tsp serve", &databases, "`store.meta.url`: this executable was built without the cluster"),
            ("tsp serve", &queue, "`queue.url`: this executable was built without the cluster"),
            ("tsp migrate", &databases, "`store.meta.url`: "),
            ("tsp shard move 7 --to db2 --config cluster.toml", &none, "built without the cluster"),
            ("tsp migrate-data --from sqlite:a.db --to-config b.toml", &none, "built without the cluster"),
        ] {
            let failure = Cli::parse_from(line.split(' ')).run(environment).expect_err(line).to_string();
            assert!(failure.contains(said) && failure.contains("`make build`"), "{line}: {failure}");
        }
    }
}
