//! The cluster under measurement: MariaDB with two data sources, two nsqd, and two processes of each role, all on
//! this machine. The servers stay from scenario to scenario; each scenario gets databases of its own.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use peers::{MariaDb, MariaDbOptions, Nsqd};
use tokio::process::Command;

use crate::client::Connection;
use crate::measure;
use crate::process::{ReadyProcess, Setup};
use crate::report::Report;

pub(crate) const SHARDS: u16 = 16;
/// Two processes of each.
pub(crate) const ROLES: [&str; 6] = ["web", "fetcher", "worker", "web", "fetcher", "worker"];
/// Statements shown, by the time they took.
const STATEMENTS_SHOWN: usize = 8;

/// What the processes of TSP stand on.
#[derive(Debug)]
pub(crate) struct Servers {
    database: MariaDb,
    nsqd: [Nsqd; 2],
}

impl Servers {
    pub(crate) fn start() -> Result<Arc<Self>> {
        // As durable as the embedded store is measured: each commit is on the disk.
        let options = MariaDbOptions { flush_log_at_commit: 1, buffer_pool_mib: 1_024, ..Default::default() };
        let database = MariaDb::start_with(&options)?;
        Ok(Arc::new(Self { database, nsqd: [Nsqd::start()?, Nsqd::start()?] }))
    }

    pub(crate) fn cpu(&self) -> Result<ServersCpu> {
        let nsqd = measure::cpu_seconds(self.nsqd[0].pid())? + measure::cpu_seconds(self.nsqd[1].pid())?;
        Ok(ServersCpu { database: measure::cpu_seconds(self.database.pid())?, nsqd })
    }

    /// Rows that the database has inserted, updated and deleted so far.
    pub(crate) fn rows_written(&self) -> Result<f64> {
        let said = self.database.sql(
            "SELECT SUM(variable_value) FROM information_schema.global_status WHERE variable_name IN \
             ('HANDLER_WRITE', 'HANDLER_UPDATE', 'HANDLER_DELETE')",
        )?;
        said.trim().parse().with_context(|| format!("rows written: `{said}`"))
    }

    /// A value of the server's own status, summed over the names that are `LIKE` this.
    pub(crate) fn status(&self, like: &str) -> Result<f64> {
        status(&self.database, like)
    }

    pub(crate) fn database(&self) -> &MariaDb {
        &self.database
    }

    pub(crate) fn sql(&self, text: &str) -> Result<String> {
        Ok(self.database.sql(text)?)
    }
}

/// See [`Servers::status`].
pub(crate) fn status(database: &MariaDb, like: &str) -> Result<f64> {
    let said = database.sql(&format!(
        "SELECT SUM(variable_value) FROM information_schema.global_status WHERE variable_name LIKE '{like}'"
    ))?;
    said.trim().parse().with_context(|| format!("status `{like}`: `{said}`"))
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ServersCpu {
    pub(crate) database: f64,
    pub(crate) nsqd: f64,
}

/// The names of one cluster's databases.
#[derive(Debug)]
pub(crate) struct Databases {
    pub(crate) meta: String,
    /// Each with its share of the shards.
    sources: [String; 2],
}

impl Databases {
    /// Makes empty ones.
    pub(crate) fn create(server: &MariaDb) -> Self {
        let [meta, a, b] = ["meta", "a", "b"].map(|name| server.create_database(name));
        Self { meta, sources: [a, b] }
    }

    /// The names, shards and addresses of the data sources.
    pub(crate) fn sources(&self, server: &MariaDb) -> [(&'static str, RangeInclusive<u16>, String); 2] {
        let half = SHARDS / 2;
        let [a, b] = self.sources.each_ref().map(|name| server.url(name));
        [("a", 0..=half - 1, a), ("b", half..=SHARDS - 1, b)]
    }

    fn source_of(shard: u16) -> usize {
        usize::from(shard / (SHARDS / 2))
    }

    /// Whether both shards lie in one database.
    pub(crate) fn same_source(a: u16, b: u16) -> bool {
        Self::source_of(a) == Self::source_of(b)
    }

    /// A table of a shard, as `task`, with its database.
    pub(crate) fn table(&self, name: &str, shard: u16) -> String {
        format!("{}.{name}_{shard:03}", self.sources[Self::source_of(shard)])
    }
}

/// The databases of one cluster, with tables, and the settings of its processes.
#[derive(Debug)]
pub(crate) struct InstalledCluster {
    pub(crate) setup: Setup,
    dir: PathBuf,
    pub(crate) databases: Databases,
}

impl InstalledCluster {
    /// Makes databases of its own and their tables.
    pub(crate) async fn new(servers: &Servers, dir: &Path, key: &str, setup: &Setup) -> Result<Self> {
        let databases = Databases::create(&servers.database);
        let sources = databases
            .sources(&servers.database)
            .map(|(name, shards, url)| format!("{name}:{}-{} {url}", shards.start(), shards.end()));
        let both = |address: fn(&Nsqd) -> String| servers.nsqd.each_ref().map(address).join(",");
        let mut setup = setup.clone();
        setup.settings.extend([
            ("TSP__STORE__META__URL", servers.database.url(&databases.meta)),
            ("TSP__STORE__SOURCES", sources.join(",")),
            ("TSP__STORE__SHARDS", SHARDS.to_string()),
            ("TSP__STORE__SECRET_KEY", "5a".repeat(32)),
            ("TSP__QUEUE__URL", "nsq:".to_owned()),
            ("TSP__QUEUE__NSQ__NSQD_TCP", both(Nsqd::tcp_address)),
            ("TSP__QUEUE__NSQ__NSQD_HTTP", both(Nsqd::http_address)),
            ("TSP__WEB__LISTEN", "127.0.0.1:0".to_owned()),
            ("TSP__AUTH__BOOTSTRAP_KEY", key.to_owned()),
            ("TSP__WORKER__HTTP__ALLOW_NETWORKS", "127.0.0.0/8".to_owned()),
            ("TSP__WEB__METRICS_OPEN", "true".to_owned()),
            ("TSP__LOG__FILTER", "warn".to_owned()),
        ]);
        let this = Self { setup, dir: dir.to_owned(), databases };
        let migrated = this.command(&["migrate"])?.stdout(std::process::Stdio::null()).status().await?;
        ensure!(migrated.success(), "`tsp migrate` failed: {migrated}");
        Ok(this)
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.setup.tsp()?;
        command.args(arguments).envs(self.setup.settings.iter().cloned()).current_dir(&self.dir);
        Ok(command)
    }

    /// Starts a process and waits until it is ready.
    pub(crate) async fn serve(&self, role: &str) -> Result<ReadyProcess> {
        ReadyProcess::start(&mut self.command(&["serve", "--roles", role])?).await
    }

    /// Starts two processes of each role. The first is the one that is called.
    pub(crate) async fn serve_all(&self) -> Result<Vec<ReadyProcess>> {
        let mut processes = Vec::new();
        for role in ROLES {
            processes.push(self.serve(role).await?);
        }
        Ok(processes)
    }
}

/// Time and number of each statement so far, over all processes.
#[derive(Debug, Default)]
pub(crate) struct Statements(BTreeMap<String, (f64, f64)>);

impl Statements {
    pub(crate) async fn read(addresses: &[String]) -> Result<Self> {
        let mut all = Self::default();
        for address in addresses {
            let mut line = Connection::open(address, "").await?;
            let (status, text) = line.call("GET", "/metrics", b"").await?;
            ensure!(status == 200, "the metrics were answered {status}");
            all.add(&String::from_utf8_lossy(text));
        }
        Ok(all)
    }

    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let value: f64 = value.parse().unwrap_or(0.0);
            let statement = |prefix: &str| {
                name.strip_prefix(prefix)?.strip_prefix("{statement=\"")?.split('"').next().map(str::to_owned)
            };
            if let Some(statement) = statement("tsp_db_seconds_sum") {
                self.0.entry(statement).or_default().0 += value;
            } else if let Some(statement) = statement("tsp_db_seconds_count") {
                self.0.entry(statement).or_default().1 += value;
            }
        }
    }

    /// How many of each there were since `before`, the most frequent first.
    pub(crate) fn counts_since(&self, before: &Self) -> Vec<(&str, f64)> {
        let mut counts: Vec<_> = self
            .0
            .iter()
            .map(|(name, (_, count))| (name.as_str(), count - before.0.get(name).map_or(0.0, |old| old.1)))
            .filter(|(_, count)| *count > 0.0)
            .collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1));
        counts
    }

    /// What was added since `before`: the statements that took the most time, and all of them together.
    pub(crate) fn report(&self, before: &Self, report: &mut Report, scenario: &str, tasks: f64) {
        let mut spent: Vec<(&str, f64, f64)> = self
            .0
            .iter()
            .map(|(name, (seconds, count))| {
                let (old_seconds, old_count) = before.0.get(name).copied().unwrap_or_default();
                (name.as_str(), seconds - old_seconds, count - old_count)
            })
            .filter(|(_, _, count)| *count > 0.0)
            .collect();
        spent.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total: f64 = spent.iter().map(|(_, seconds, _)| seconds).sum();
        let count: f64 = spent.iter().map(|(_, _, count)| count).sum();
        report.add(scenario, "database time per task", "ms", total * 1_000.0 / tasks);
        report.add(scenario, "statements per task", "", count / tasks);
        for (name, seconds, count) in spent.into_iter().take(STATEMENTS_SHOWN) {
            report.add(scenario, &format!("`{name}` each"), "ms", seconds * 1_000.0 / count);
            report.add(scenario, &format!("`{name}` per task"), "ms", seconds * 1_000.0 / tasks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_summed_over_processes() {
        let mut all = Statements::default();
        let text = "tsp_db_seconds{statement=\"claim\",quantile=\"0.5\"} 9\n\
            tsp_db_seconds_sum{statement=\"claim\"} 0.5\ntsp_db_seconds_count{statement=\"claim\"} 4\nother 1\n";
        all.add(text);
        all.add(text);
        assert_eq!(all.0["claim"], (1.0, 8.0));
        assert_eq!(all.0.len(), 1);
    }
}
