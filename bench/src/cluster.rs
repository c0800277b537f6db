//! The cluster under measurement: MariaDB with two data sources, two nsqd, and two processes of each role, all on
//! this machine. The servers stay from scenario to scenario; each scenario gets databases of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use peers::{MariaDb, MariaDbOptions, Nsqd};
use tokio::process::Command;

use crate::client::Connection;
use crate::measure;
use crate::process::{Ready, beside};
use crate::report::Report;

const SHARDS: u16 = 16;
/// Two processes of each.
const ROLES: [&str; 6] = ["web", "fetcher", "worker", "web", "fetcher", "worker"];
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

    fn settings(&self) -> Vec<(&'static str, String)> {
        let [meta, a, b] =
            ["meta", "a", "b"].map(|name| self.database.url(&self.database.create_database(name)));
        let half = SHARDS / 2;
        let both = |address: fn(&Nsqd) -> String| self.nsqd.each_ref().map(address).join(",");
        vec![
            ("TSP__STORE__META__URL", meta),
            ("TSP__STORE__SOURCES", format!("a:0-{} {a},b:{half}-{} {b}", half - 1, SHARDS - 1)),
            ("TSP__STORE__SHARDS", SHARDS.to_string()),
            ("TSP__STORE__SECRET_KEY", "5a".repeat(32)),
            ("TSP__QUEUE__URL", "nsq:".to_owned()),
            ("TSP__QUEUE__NSQ__NSQD_TCP", both(Nsqd::tcp_address)),
            ("TSP__QUEUE__NSQ__NSQD_HTTP", both(Nsqd::http_address)),
        ]
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ServersCpu {
    pub(crate) database: f64,
    pub(crate) nsqd: f64,
}

/// Makes the tables, and starts two processes of each role. The first is the one that is called.
pub(crate) async fn start(servers: &Servers, dir: &Path, key: &str) -> Result<Vec<Ready>> {
    let mut settings = servers.settings();
    settings.extend([
        ("TSP__WEB__LISTEN", "127.0.0.1:0".to_owned()),
        ("TSP__AUTH__BOOTSTRAP_KEY", key.to_owned()),
        ("TSP__WORKER__HTTP__ALLOW_NETWORKS", "127.0.0.0/8".to_owned()),
        ("TSP__WEB__METRICS_OPEN", "true".to_owned()),
        ("TSP__LOG__FILTER", "warn".to_owned()),
    ]);
    let command = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(beside("tsp")?);
        command.args(arguments).envs(settings.iter().cloned()).current_dir(dir);
        Ok(command)
    };
    let migrated = command(&["migrate"])?.stdout(std::process::Stdio::null()).status().await?;
    ensure!(migrated.success(), "`tsp migrate` failed: {migrated}");
    let mut processes = Vec::new();
    for role in ROLES {
        processes.push(Ready::start(&mut command(&["serve", "--roles", role])?).await?);
    }
    Ok(processes)
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
