//! `tsp shard`

use clap::Subcommand;
use serde_json::json;

use crate::environment::Environment;
use crate::failure::Result;
use crate::output::{Format, Table, print};
use crate::settings::SettingsFile;
use crate::wiring::cluster::offline::{move_shard, shard_sources};

/// See where the shards of a cluster are, and move them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Move(Move),
}

/// Where each shard is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tsp shard list --config cluster.toml")]
struct List {
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    file: SettingsFile,
}

/// Move a shard to another data source while the cluster runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tsp shard move 7 --to db2:3306/tsp --config cluster.toml\n  \
    tsp shard move 7 --undo --config cluster.toml\n\n\
    First give every process settings that name the new data source (`shards = \"none\"`), run `tsp migrate`,\n\
    and restart them one by one. The shard is in use while its rows are copied, and stands still for the last of\n\
    them. Broken off, the same command goes on where it was.")]
struct Move {
    /// Its number, as `tsp shard list` shows it
    shard: u16,
    /// The name of a data source, as `tsp shard list` and `store.sources` have it
    #[arg(long, value_name = "SOURCE", required_unless_present = "undo")]
    to: Option<String>,
    /// Take back a move that was broken off
    #[arg(long, conflicts_with = "to")]
    undo: bool,
    #[command(flatten)]
    file: SettingsFile,
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        match self.command {
            Command::List(list) => list.run(environment),
            Command::Move(shard) => shard.run(environment),
        }
    }
}

impl List {
    fn run(self, environment: &Environment) -> Result {
        let places = shard_sources(&self.file.load(environment)?)?;
        if self.output == Format::Json {
            let items = places.iter().map(
                |place| json!({"shard": place.shard, "source": place.source, "moving_to": place.moving_to}),
            );
            let items = json!({"items": items.collect::<Vec<_>>()});
            return self.output.print(&items, |_| String::new());
        }
        let mut table = Table::new(&["shard", "source", "moving to"]);
        for place in places {
            table.row([place.shard.to_string(), place.source, place.moving_to.unwrap_or_default()]);
        }
        print(&table.render())
    }
}

impl Move {
    fn run(self, environment: &Environment) -> Result {
        let settings = self.file.load(environment)?;
        let shard = self.shard;
        move_shard(&settings, shard, self.to.as_deref(), |step| {
            // Progress is for operators; what follows from it is the exit code.
            let _ = print(&format!("{step}\n"));
        })?;
        match &self.to {
            Some(to) => print(&format!("shard {shard} is on `{to}`\n")),
            None => print(&format!("shard {shard} is where it was\n")),
        }
    }
}
