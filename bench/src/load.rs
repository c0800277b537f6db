//! The load: a burst due at one instant, a steady stream, single and batched submits.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::cluster::{ServersCpu, Statements};
use crate::measure::{self, instant, rfc3339, wall_us};
use crate::process::Receiver;
use crate::receiver::Summary;
use crate::report::Report;
use crate::rows;
use crate::service::{APP, Service};
use crate::tasks::{BATCH, Keys, Load, PAYLOAD, submit_all};

const BURST_TASKS: usize = 20_000;
const WIDE_TASKS: usize = 100_000;
const WIDE_CONFIGS: usize = 200;
const STEADY_PER_SECOND: usize = 1_000;
const STEADY_SECONDS: usize = 20;
const SINGLE_CONNECTIONS: usize = 64;
pub(crate) const SINGLE_SUBMITS: usize = 60_000;
const BATCH_CONNECTIONS: usize = 4;
const BATCHES: usize = 200;
const ARRIVAL_LIMIT: Duration = Duration::from_mins(1);
const DAY_MS: i64 = 86_400_000;
/// Where the tasks would call that are not due.
pub(crate) const NOBODY: &str = "http://127.0.0.1:8009/none";

/// A name for a scenario's config: `steady, open tasks` as `steady-open-tasks`.
pub(crate) fn config_of(scenario: &str) -> String {
    scenario.replace(", ", "-").replace(' ', "-")
}

/// Tasks that are due at one instant, submitted ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst<'a> {
    pub(crate) name: &'a str,
    tasks: usize,
    configs: usize,
}

impl<'a> Burst<'a> {
    /// 20,000 of one config.
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, tasks: BURST_TASKS, configs: 1 }
    }

    /// 100,000 of 200 configs, which lie on all shards.
    pub(crate) fn wide(name: &'a str) -> Self {
        Self { name, tasks: WIDE_TASKS, configs: WIDE_CONFIGS }
    }

    fn config(&self, number: usize) -> String {
        let name = config_of(self.name);
        if self.configs == 1 { name } else { format!("{name}-{}", number % self.configs) }
    }

    /// Returns the CPU in ms that a callback took.
    pub(crate) async fn run(
        &self,
        report: &mut Report,
        service: &Service,
        receiver: &mut Receiver,
        raw: Option<f64>,
    ) -> Result<f64> {
        let (name, label) = (self.name, &config_of(self.name));
        receiver.reset().await?;
        for number in 0..self.configs {
            service.config(&self.config(number), &receiver.url(label), serde_json::json!({})).await?;
        }
        let due_ms = self.submit(service).await?;
        // The look-ahead claims up to a second before: that CPU belongs to the burst.
        measure::until((due_ms - 1_100) * 1_000).await;
        let cost = Cost::begin(service).await?;
        measure::until(due_ms * 1_000).await;
        let claimed = rows::claimed(service)?;
        let summary = receiver.wait(label, self.tasks, ARRIVAL_LIMIT).await?;
        service.drained((self.configs == 1).then_some(label)).await?;
        let cpu = service.cpu_seconds()? - cost.cpu;
        check(&summary, self.tasks)?;
        let took = summary.last_us - due_ms * 1_000;
        report.add(name, "drain", "/s", per_second(self.tasks, took));
        // What was claimed before is no work of this time.
        report.add(name, "claimed before", "tasks", per_second(claimed, 1_000_000));
        report.add(name, "drain of the others", "/s", per_second(self.tasks.saturating_sub(claimed), took));
        if let Some(raw) = raw {
            report.add(name, "drain / raw loop", "", per_second(self.tasks, took) / raw);
        }
        let cpu_ms = per_task_ms(cpu, self.tasks);
        report.add(name, "CPU per callback", "ms", cpu_ms);
        report.lateness(name, &summary);
        report.add(name, "memory, highest", "MiB", service.memory_mib("VmHWM")?);
        cost.end(report, service, name, self.tasks).await?;
        Ok(cpu_ms)
    }

    /// When they are due, in ms.
    async fn submit(&self, service: &Service) -> Result<i64> {
        // Each batch of the wide one has tasks of all configs, and takes longer.
        let (connections, leads) = if self.configs == 1 { (1, 1) } else { (BATCH_CONNECTIONS, 2) };
        let due_ms = wall_us() / 1_000 + leads * service.lead_ms();
        let load = Load {
            app: APP,
            tasks: self.tasks,
            config: &|number| self.config(number),
            due: &|_| due_ms,
            keys: service.keys,
        };
        load.submit(service, connections).await?;
        ensure!(wall_us() / 1_000 + 1_100 < due_ms, "the submits took too long: the burst would not be one");
        Ok(due_ms)
    }
}

/// 1,000/s for 20 s, submitted ahead.
pub(crate) async fn steady(
    report: &mut Report,
    service: &Service,
    receiver: &mut Receiver,
    name: &str,
) -> Result<f64> {
    let tasks = STEADY_PER_SECOND * STEADY_SECONDS;
    receiver.reset().await?;
    let config = &config_of(name);
    service.config(config, &receiver.url(config), serde_json::json!({})).await?;
    let start_ms = wall_us() / 1_000 + service.lead_ms();
    let due = |number: usize| start_ms + i64::try_from(number * 1_000 / STEADY_PER_SECOND).unwrap_or(0);
    submit_all(service, config, tasks, due).await?;
    ensure!(wall_us() / 1_000 + 500 < start_ms, "the submits took too long: the first ones would be late");
    measure::until((start_ms - 1_100) * 1_000).await;
    let cost = Cost::begin(service).await?;
    let summary = receiver.wait(config, tasks, ARRIVAL_LIMIT).await?;
    service.drained(Some(config)).await?;
    let cpu = service.cpu_seconds()? - cost.cpu;
    check(&summary, tasks)?;
    report.add(name, "rate", "/s", per_second(tasks, summary.last_us - start_ms * 1_000));
    let cpu_ms = per_task_ms(cpu, tasks);
    report.add(name, "CPU per callback", "ms", cpu_ms);
    report.lateness(name, &summary);
    report.add(name, "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    cost.end(report, service, name, tasks).await?;
    Ok(cpu_ms)
}

/// What was spent before the load, to be told from what it takes.
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    servers: Option<(ServersCpu, f64, Statements)>,
}

impl Cost {
    pub(crate) async fn begin(service: &Service) -> Result<Self> {
        let servers = match service.cluster() {
            None => None,
            Some((servers, _)) => {
                let statements = Statements::read(&service.addresses()).await?;
                Some((servers.cpu()?, servers.rows_written()?, statements))
            }
        };
        Ok(Self { cpu: service.cpu_seconds()?, servers })
    }

    /// Tells what the servers of a cluster took.
    pub(crate) async fn end(
        &self,
        report: &mut Report,
        service: &Service,
        name: &str,
        tasks: usize,
    ) -> Result<()> {
        let Some(((before, rows, statements), (servers, _))) = self.servers.as_ref().zip(service.cluster())
        else {
            return Ok(());
        };
        let (after, written) = (servers.cpu()?, servers.rows_written()?);
        report.add(name, "database CPU per task", "ms", per_task_ms(after.database - before.database, tasks));
        report.add(name, "nsqd CPU per task", "ms", per_task_ms(after.nsqd - before.nsqd, tasks));
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let count = tasks as f64;
        report.add(name, "rows written per task", "", (written - rows) / count);
        Statements::read(&service.addresses()).await?.report(statements, report, name, count);
        Ok(())
    }
}

/// One call after the other on each of 64 connections.
#[derive(Clone, Copy)]
pub(crate) struct Calls<'a> {
    pub(crate) name: &'a str,
    pub(crate) method: &'static str,
    pub(crate) count: usize,
    pub(crate) wanted: u16,
    /// The path and the body of each.
    pub(crate) call: &'a dyn Fn(usize) -> (String, String),
}

impl Calls<'_> {
    /// Returns the CPU in ms that a call took.
    pub(crate) async fn run(&self, report: &mut Report, service: &Service) -> Result<f64> {
        let before = service.cpu_seconds()?;
        let mut lines = Vec::new();
        for first in 0..SINGLE_CONNECTIONS {
            // Made ahead: what it costs to write them is then no part of the calls.
            let calls: Vec<_> = (first..self.count).step_by(SINGLE_CONNECTIONS).map(self.call).collect();
            lines.push((service.connect().await?, calls));
        }
        let Self { name, method, wanted, count, .. } = *self;
        let start = instant();
        let mut callers = JoinSet::new();
        for (mut line, calls) in lines {
            callers.spawn(async move {
                let mut took = Vec::with_capacity(calls.len());
                for (path, body) in calls {
                    let sent = instant();
                    let (status, answer) = line.call(method, &path, body.as_bytes()).await?;
                    took.push(sent.elapsed().as_secs_f64() * 1_000.0);
                    ensure!(
                        status == wanted,
                        "{method} {path} was answered {status}: {}",
                        String::from_utf8_lossy(answer)
                    );
                }
                anyhow::Ok(took)
            });
        }
        let mut took = Vec::with_capacity(count);
        while let Some(caller) = callers.join_next().await {
            took.extend(caller??);
        }
        let us = i64::try_from(start.elapsed().as_micros())?;
        let cpu_ms = per_task_ms(service.cpu_seconds()? - before, count);
        report.add(name, "rate", "/s", per_second(count, us));
        report.add(name, "CPU per task", "ms", cpu_ms);
        for (figure, part) in [("p50", 0.5), ("p99", 0.99), ("slowest", 1.0)] {
            report.add(name, figure, "ms", measure::quantile(&took, part));
        }
        Ok(cpu_ms)
    }
}

/// One task a call, 64 connections, each durable before its 201. Returns the CPU in ms that a task took.
pub(crate) async fn submit_singly(report: &mut Report, service: &Service, name: &str) -> Result<f64> {
    let config = config_of(name);
    service.config(&config, NOBODY, serde_json::json!({})).await?;
    submit_keys(report, service, name, &config, (service.keys, SINGLE_SUBMITS)).await
}

/// So many tasks of a config, with these keys.
pub(crate) async fn submit_keys(
    report: &mut Report,
    service: &Service,
    name: &str,
    config: &str,
    (keys, submits): (Keys, usize),
) -> Result<f64> {
    let due = rfc3339(wall_us() / 1_000 + DAY_MS);
    let call = |number: usize| {
        let key = keys.of(number);
        let body =
            format!(r#"{{"config":"{config}","key":"{key}","execute_at":"{due}","payload":{PAYLOAD}}}"#);
        (format!("/api/v1/apps/{APP}/tasks"), body)
    };
    let calls = Calls { name, method: "POST", count: submits, wanted: 201, call: &call };
    let cpu_ms = calls.run(report, service).await?;
    service.holds(submits).await?;
    Ok(cpu_ms)
}

/// 1,000 tasks a call. Returns the CPU in ms that a task took.
pub(crate) async fn submit_batches(report: &mut Report, service: &Service, name: &str) -> Result<f64> {
    let config = config_of(name);
    service.config(&config, NOBODY, serde_json::json!({})).await?;
    let due = wall_us() / 1_000 + DAY_MS;
    let tasks = BATCHES * BATCH;
    let load = Load { app: APP, tasks, config: &|_| config.clone(), due: &|_| due, keys: service.keys };
    let ready = load.ready(service, BATCH_CONNECTIONS).await?;
    let before = service.cpu_seconds()?;
    let start = instant();
    ready.submit().await?;
    let took = i64::try_from(start.elapsed().as_micros())?;
    let cpu_ms = per_task_ms(service.cpu_seconds()? - before, tasks);
    service.holds(tasks).await?;
    report.add(name, "rate", "tasks/s", per_second(tasks, took));
    report.add(name, "CPU per task", "ms", cpu_ms);
    report.add(name, "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    Ok(cpu_ms)
}

/// A run that stopped early would still print a rate.
pub(crate) fn check(summary: &Summary, sent: usize) -> Result<()> {
    let Summary { received, tasks, early, .. } = summary;
    ensure!(
        *received == sent && *tasks == sent,
        "{received} callbacks of {tasks} tasks came, {sent} were sent"
    );
    ensure!(*early == 0, "{early} callbacks were early");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn per_second(count: usize, us: i64) -> f64 {
    count as f64 * 1e6 / us.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn per_task_ms(cpu_seconds: f64, tasks: usize) -> f64 {
    cpu_seconds * 1_000.0 / tasks as f64
}
