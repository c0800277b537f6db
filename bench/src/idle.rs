//! What a cluster with many configs and no work asks its databases, and what its processes take meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::Connection;
use crate::cluster::{InstalledCluster, ROLES, SHARDS, Servers, Statements};
use crate::fill::Tables;
use crate::measure::{self, instant};
use crate::process::{ReadyProcess, Setup};
use crate::report::Report;
use crate::service::{APP, KEY, private_dir};

/// How long statements are counted.
const COUNTED: Duration = Duration::from_secs(20);
/// The cluster is quiet when two spans of this length had about as many statements.
const STRETCH: Duration = Duration::from_secs(5);
const ABOUT: f64 = 0.1;
const QUIET_LIMIT: Duration = Duration::from_mins(1);
/// Statements that each process makes however many shards and configs there are: it follows changes, is alive, and
/// renews and reads leases, those of a data source at once.
const OF_PROCESSES: [&str; 4] = ["change_", "node_", "slot_", "lease_"];
const FIRST: &str = "idle-0";

pub(crate) async fn run(report: &mut Report, configs: u64) -> Result<()> {
    let servers = Servers::start()?;
    let dir = private_dir()?;
    let installed = InstalledCluster::new(&servers, dir.path(), KEY, &Setup::default()).await?;
    fill(report, &servers, &installed, configs).await?;
    let mut processes = Vec::new();
    for role in ROLES {
        let start = instant();
        processes.push((role, installed.serve(role).await?));
        report.add("idle", &format!("start-up, {role}"), "s", start.elapsed().as_secs_f64());
    }
    let idle = IdleCluster { servers: &servers, processes };
    ensure_known(&idle.processes[0].1, configs).await?;
    idle.quiet().await?;
    idle.measure(report).await?;
    for (_, process) in idle.processes.into_iter().rev() {
        process.stop().await?;
    }
    dir.close().context("the folder cannot be removed")
}

/// One config by the API, all others by the server as copies of its row, before the processes start that read them.
async fn fill(
    report: &mut Report,
    servers: &Servers,
    installed: &InstalledCluster,
    configs: u64,
) -> Result<()> {
    let web = installed.serve("web").await?;
    let mut line = Connection::open(&web.address(), KEY).await?;
    line.json("POST", "/api/v1/apps", &json!({ "name": APP }), 201).await?;
    let target = json!({ "type": "http", "url": "http://127.0.0.1:8009/none" });
    let config = json!({ "name": FIRST, "kind": "delayed", "target": target });
    line.json("POST", &format!("/api/v1/apps/{APP}/configs"), &config, 201).await?;
    web.stop().await?;
    let start = instant();
    let tables = Tables::Cluster { server: servers.database(), databases: &installed.databases };
    tables.add_configs("idle", configs.saturating_sub(1).max(1))?;
    report.add("idle", "configs filled in", "s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The last one is served: the processes have read them all.
async fn ensure_known(web: &ReadyProcess, configs: u64) -> Result<()> {
    let mut line = Connection::open(&web.address(), KEY).await?;
    let last = format!("idle-{}", configs.saturating_sub(1).max(1));
    let config = line.json("GET", &format!("/api/v1/apps/{APP}/configs/{last}"), &Value::Null, 200).await?;
    ensure!(config["name"] == last.as_str(), "`{last}` is answered as {config}");
    Ok(())
}

struct IdleCluster<'a> {
    servers: &'a Servers,
    processes: Vec<(&'static str, ReadyProcess)>,
}

impl IdleCluster<'_> {
    /// Statements of everybody else on the server in this time, a second.
    async fn statements(&self, time: Duration) -> Result<f64> {
        let read = || self.servers.status("QUESTIONS");
        let (asked, before) = (read()?, read()?);
        let start = instant();
        tokio::time::sleep(time).await;
        Ok((read()? - before - (before - asked)) / start.elapsed().as_secs_f64())
    }

    /// Waits until the shards have their owners and nobody takes or makes anything more.
    async fn quiet(&self) -> Result<()> {
        let start = instant();
        let mut last = self.statements(STRETCH).await?;
        loop {
            let next = self.statements(STRETCH).await?;
            if (next - last).abs() <= last * ABOUT {
                return Ok(());
            }
            ensure!(start.elapsed() < QUIET_LIMIT, "{last:.1}/s, {next:.1}/s: not quiet in {QUIET_LIMIT:?}");
            last = next;
        }
    }

    async fn measure(&self, report: &mut Report) -> Result<()> {
        let addresses: Vec<_> = self.processes.iter().map(|(_, process)| process.address()).collect();
        let before = Statements::read(&addresses).await?;
        let (cpu, servers_cpu) = (self.cpu()?, self.servers.cpu()?);
        let start = instant();
        let statements = self.statements(COUNTED).await?;
        let seconds = start.elapsed().as_secs_f64();
        let (cpu_after, servers_after) = (self.cpu()?, self.servers.cpu()?);
        let after = Statements::read(&addresses).await?;
        report.add("idle", "statements", "/s", statements);
        report.add("idle", "statements a shard", "/s", statements / f64::from(SHARDS));
        let mut of_shards = 0.0;
        for (name, count) in after.counts_since(&before) {
            report.add("idle", &format!("`{name}`"), "/s", count / seconds);
            if !OF_PROCESSES.iter().any(|prefix| name.starts_with(prefix)) {
                of_shards += count / seconds;
            }
        }
        report.add("idle", "its tables, a shard", "/s", of_shards / f64::from(SHARDS));
        for (number, (role, process)) in self.processes.iter().enumerate() {
            let share = (cpu_after[number] - cpu[number]) * 100.0 / seconds;
            report.add("idle", &format!("CPU, {role}"), "%", share);
            report.add(
                "idle",
                &format!("memory, {role}"),
                "MiB",
                measure::memory_mib(process.pid()?, "VmRSS")?,
            );
        }
        report.add(
            "idle",
            "CPU, database",
            "%",
            (servers_after.database - servers_cpu.database) * 100.0 / seconds,
        );
        report.add("idle", "CPU, both nsqd", "%", (servers_after.nsqd - servers_cpu.nsqd) * 100.0 / seconds);
        Ok(())
    }

    fn cpu(&self) -> Result<Vec<f64>> {
        self.processes.iter().map(|(_, process)| measure::cpu_seconds(process.pid()?)).collect()
    }
}
