//! `tsp migrate-data`

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::output::{Table, print};
use crate::settings::{Settings, SettingsFile, StoreLocation};
use crate::wiring::cluster::offline::{ImportProgress, ImportReport, import_embedded};
use crate::wiring::machine_now;

/// How often progress is printed, where nobody watches.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Carry the data of an embedded store over to a cluster: tasks, history, configs, keys
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    tsp migrate --config cluster.toml\n  \
    tsp migrate-data --from sqlite:tsp.db --to-config cluster.toml\n\n\
    Stop the embedded server first, and start the cluster's processes afterwards. Both must have the same\n\
    `store.shards`. Ids, keys, secrets, open and ended tasks stay as they are; what was being called back is\n\
    called again, as after any restart. Broken off, the same command goes on where it was. At the end rows are\n\
    counted on both sides, and the embedded store can be served no more.")]
pub(super) struct Args {
    /// The embedded store
    #[arg(long, value_name = "URL", value_parser = place)]
    from: PathBuf,
    /// The settings file of the cluster
    #[arg(long, value_name = "FILE")]
    to_config: PathBuf,
    /// The settings file of the embedded server, if its secret key stands there
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
}

fn place(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() && path != ":memory:" => Ok(path.into()),
        _ => Err("must be `sqlite:` and a path, for example `sqlite:tsp.db`".to_owned()),
    }
}

impl Args {
    pub(super) fn run(self, environment: &Environment) -> Result {
        let to = SettingsFile { config: Some(self.to_config.clone()) }.load(environment)?;
        if !matches!(to.store.location, StoreLocation::Cluster(_)) {
            return Err(Failure::usage(format!("`{}` is not of a cluster", self.to_config.display()))
                .advise("set `store.meta.url` and `store.sources` there"));
        }
        if !self.from.is_file() {
            return Err(Failure::not_found(format!("there is no database `{}`", self.from.display()))
                .advise("give the file of the embedded server, `--from sqlite:<path>`"));
        }
        let from = self.source(to.store.shards)?;
        let started = Instant::now();
        let mut told = ProgressLine::default();
        let report = import_embedded(&from, &to, machine_now(), |progress| told.page(progress))?;
        told.end();
        print(&shown(&report, &self.from, started.elapsed(), told.rows))
    }

    /// The embedded server's settings, with this database. Its environment is not this process's.
    fn source(&self, shards: u16) -> Result<Settings> {
        let none = Environment::default();
        let url = format!("sqlite:{}", self.from.display());
        let shards = shards.to_string();
        let flags = [("--from", "store.url", &*url), ("--to-config", "store.shards", &*shards)];
        Settings::load(self.from_config.as_deref(), &none, &flags)
    }
}

/// Progress, on standard error: a line that is written over, or one now and then.
#[derive(Debug, Default)]
struct ProgressLine {
    last: Option<(&'static str, i64, Instant)>,
    rows: i64,
}

impl ProgressLine {
    fn page(&mut self, ImportProgress { table, rows, of }: ImportProgress) {
        let before = self.last.filter(|(last, ..)| *last == table).map_or(0, |(_, rows, _)| rows);
        self.rows += rows - before;
        let now = Instant::now();
        let line = format!("{table}: {rows} of {of} rows");
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{line}");
        } else if self.last.is_none_or(|(last, _, at)| last != table || now - at >= TELL_EVERY) {
            eprintln!("{line}");
        } else {
            self.last = self.last.map(|(table, _, at)| (table, rows, at));
            return;
        }
        self.last = Some((table, rows, now));
    }

    fn end(&self) {
        if self.last.is_some() && std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}

fn shown(report: &ImportReport, from: &Path, took: Duration, rows: i64) -> String {
    if report.before {
        return format!("`{}` was carried over before; nothing was done\n", from.display());
    }
    let mut table = Table::new(&["table", "rows", "by shard"]);
    for of in &report.tables {
        let by_shard = if of.rows.len() > 1 {
            of.rows.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
        } else {
            "in meta".to_owned()
        };
        table.row([of.table.to_owned(), of.rows.iter().sum::<i64>().to_string(), by_shard]);
    }
    let mut text = table.render();
    let seconds = i64::try_from(took.as_millis()).unwrap_or(i64::MAX).max(1);
    let rate = rows.saturating_mul(1_000) / seconds;
    let _ = writeln!(
        text,
        "counted the same on both sides; {rows} rows in {} s, {rate} a second\n\
         the cluster may be started; `{}` is served no more",
        took.as_secs(),
        from.display()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_can_be_carried_over() {
        assert_eq!(place("sqlite:/data/tsp.db").unwrap(), Path::new("/data/tsp.db"));
        for bad in ["tsp.db", "sqlite:", "sqlite::memory:", "mysql://h/d"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
