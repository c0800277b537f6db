//! The load: a burst due at one instant, a steady stream, single and batched submits.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::cluster::{ServersCpu, Statements};
use crate::measure::{self, instant, rfc3339, wall_us};
use crate::process::Receiver;
use crate::receiver::Summary;
use crate::report::Report;
use crate::service::{APP, Service};

pub(crate) const PAYLOAD: &str = r#"{"order":42,"shop":"north","amount":1999,"currency":"EUR"}"#;

const BURST_TASKS: usize = 20_000;
const STEADY_PER_SECOND: usize = 1_000;
const STEADY_SECONDS: usize = 20;
const BATCH: usize = 1_000;
const SINGLE_CONNECTIONS: usize = 64;
const SINGLE_SUBMITS: usize = 60_000;
const BATCH_CONNECTIONS: usize = 4;
const BATCHES: usize = 200;
const CREATED: &[u8] = br#""created""#;
const ARRIVAL_LIMIT: Duration = Duration::from_mins(1);

/// The body of a batch; `due` tells each element's time in ms.
pub(crate) fn batch(config: &str, numbers: std::ops::Range<usize>, due: impl Fn(usize) -> i64) -> String {
    let mut body = String::from(r#"{"tasks":["#);
    for number in numbers.clone() {
        if number > numbers.start {
            body.push(',');
        }
        // Writing into a string does not fail.
        let _ = write!(
            body,
            r#"{{"config":"{config}","key":"order-{number}","execute_at":"{}","payload":{PAYLOAD}}}"#,
            rfc3339(due(number))
        );
    }
    body.push_str("]}");
    body
}

/// Submits `count` tasks in batches on one connection. Every one must be created.
pub(crate) async fn submit_all(
    line: &mut Connection,
    config: &str,
    count: usize,
    due: impl Fn(usize) -> i64,
) -> Result<()> {
    for first in (0..count).step_by(BATCH) {
        let body = batch(config, first..(first + BATCH).min(count), &due);
        submit_batch(line, &body, (count - first).min(BATCH)).await?;
    }
    Ok(())
}

async fn submit_batch(line: &mut Connection, body: &str, tasks: usize) -> Result<()> {
    let path = format!("/api/v1/apps/{APP}/tasks/batch");
    let (status, answer) = line.call("POST", &path, body.as_bytes()).await?;
    // Counting the word costs less than reading the answer, and there is no other way to `created`.
    let created = answer.windows(CREATED.len()).filter(|part| *part == CREATED).count();
    let start = || String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
    ensure!(status == 200 && created == tasks, "{created} of {tasks} created, {status}: {}", start());
    Ok(())
}

/// A name for a scenario's config: `steady, open tasks` as `steady-open-tasks`.
fn config_of(scenario: &str) -> String {
    scenario.replace(", ", "-").replace(' ', "-")
}

/// 20,000 due at one instant, submitted ahead.
pub(crate) async fn burst(
    report: &mut Report,
    service: &Service,
    receiver: &mut Receiver,
    name: &str,
    raw: Option<f64>,
) -> Result<f64> {
    receiver.reset().await?;
    let config = &config_of(name);
    service.config(config, &receiver.url(config), serde_json::json!({})).await?;
    let due_ms = wall_us() / 1_000 + service.lead_ms();
    submit_all(&mut service.connect().await?, config, BURST_TASKS, |_| due_ms).await?;
    ensure!(wall_us() / 1_000 + 500 < due_ms, "the submits took too long: the burst would not be one");
    // The look-ahead claims up to a second before: that work belongs to the burst.
    measure::until((due_ms - 1_100) * 1_000).await;
    let cost = Cost::begin(service).await?;
    let summary = receiver.wait(config, BURST_TASKS, ARRIVAL_LIMIT).await?;
    service.drained(config).await?;
    let cpu = service.cpu_seconds()? - cost.cpu;
    check(&summary, BURST_TASKS)?;
    let rate = per_second(BURST_TASKS, summary.last_us - due_ms * 1_000);
    report.add(name, "drain", "/s", rate);
    if let Some(raw) = raw {
        report.add(name, "drain / raw loop", "", rate / raw);
    }
    let cpu_ms = per_task_ms(cpu, BURST_TASKS);
    report.add(name, "CPU per callback", "ms", cpu_ms);
    report.lateness(name, &summary);
    report.add(name, "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    cost.end(report, service, name, BURST_TASKS).await?;
    Ok(cpu_ms)
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
    submit_all(&mut service.connect().await?, config, tasks, due).await?;
    ensure!(wall_us() / 1_000 + 500 < start_ms, "the submits took too long: the first ones would be late");
    measure::until((start_ms - 1_100) * 1_000).await;
    let cost = Cost::begin(service).await?;
    let summary = receiver.wait(config, tasks, ARRIVAL_LIMIT).await?;
    service.drained(config).await?;
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
struct Cost {
    cpu: f64,
    servers: Option<(ServersCpu, f64, Statements)>,
}

impl Cost {
    async fn begin(service: &Service) -> Result<Self> {
        let servers = match service.servers() {
            None => None,
            Some(servers) => {
                let statements = Statements::read(&service.addresses()).await?;
                Some((servers.cpu()?, servers.rows_written()?, statements))
            }
        };
        Ok(Self { cpu: service.cpu_seconds()?, servers })
    }

    /// Tells what the servers of a cluster took.
    async fn end(&self, report: &mut Report, service: &Service, name: &str, tasks: usize) -> Result<()> {
        let Some(((before, rows, statements), servers)) = self.servers.as_ref().zip(service.servers()) else {
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

/// One task a call, 64 connections, each durable before its 201.
pub(crate) async fn submit_singly(report: &mut Report, service: &Service) -> Result<()> {
    service.config("single", "http://127.0.0.1:8009/none", serde_json::json!({})).await?;
    let due = rfc3339(wall_us() / 1_000 + 86_400_000);
    let before = service.cpu_seconds()?;
    let mut lines = Vec::new();
    for _ in 0..SINGLE_CONNECTIONS {
        lines.push(service.connect().await?);
    }
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let start = instant();
    let mut callers = JoinSet::new();
    for mut line in lines {
        let (due, next) = (due.clone(), std::sync::Arc::clone(&next));
        callers.spawn(async move {
            let path = format!("/api/v1/apps/{APP}/tasks");
            let mut slowest = Duration::ZERO;
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= SINGLE_SUBMITS {
                    return anyhow::Ok(slowest);
                }
                let body = format!(
                    r#"{{"config":"single","key":"order-{number}","execute_at":"{due}","payload":{PAYLOAD}}}"#
                );
                let sent = instant();
                let (status, answer) = line.call("POST", &path, body.as_bytes()).await?;
                ensure!(status == 201, "a submit was answered {status}: {}", String::from_utf8_lossy(answer));
                slowest = slowest.max(sent.elapsed());
            }
        });
    }
    let mut slowest = Duration::ZERO;
    while let Some(caller) = callers.join_next().await {
        slowest = slowest.max(caller??);
    }
    let took = i64::try_from(start.elapsed().as_micros())?;
    let cpu = service.cpu_seconds()? - before;
    service.holds(SINGLE_SUBMITS).await?;
    report.add("single submits", "rate", "/s", per_second(SINGLE_SUBMITS, took));
    report.add("single submits", "CPU per task", "ms", per_task_ms(cpu, SINGLE_SUBMITS));
    report.add("single submits", "slowest", "ms", slowest.as_secs_f64() * 1_000.0);
    Ok(())
}

/// 1,000 tasks a call.
pub(crate) async fn submit_batches(report: &mut Report, service: &Service) -> Result<()> {
    service.config("batch", "http://127.0.0.1:8009/none", serde_json::json!({})).await?;
    let due = wall_us() / 1_000 + 86_400_000;
    // Made ahead: what it costs to write JSON is not what is measured.
    let bodies: Vec<_> =
        (0..BATCHES).map(|number| batch("batch", number * BATCH..(number + 1) * BATCH, |_| due)).collect();
    let before = service.cpu_seconds()?;
    let mut callers = JoinSet::new();
    let mut shares: Vec<Vec<String>> = vec![Vec::new(); BATCH_CONNECTIONS];
    for (number, body) in bodies.into_iter().enumerate() {
        shares[number % BATCH_CONNECTIONS].push(body);
    }
    let start = instant();
    for share in shares {
        let mut line = service.connect().await?;
        callers.spawn(async move {
            for body in share {
                submit_batch(&mut line, &body, BATCH).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller??;
    }
    let took = i64::try_from(start.elapsed().as_micros())?;
    let tasks = BATCHES * BATCH;
    let cpu = service.cpu_seconds()? - before;
    service.holds(tasks).await?;
    report.add("batch submits", "rate", "tasks/s", per_second(tasks, took));
    report.add("batch submits", "CPU per task", "ms", per_task_ms(cpu, tasks));
    report.add("batch submits", "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    Ok(())
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
fn per_second(count: usize, us: i64) -> f64 {
    count as f64 * 1e6 / us.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn per_task_ms(cpu_seconds: f64, tasks: usize) -> f64 {
    cpu_seconds * 1_000.0 / tasks as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_json_with_every_element() {
        let body = batch("c", 3..5, |number| i64::try_from(number).unwrap());
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["tasks"].as_array().map(Vec::len), Some(2));
        assert_eq!(value["tasks"][1]["key"], "order-4");
        assert_eq!(value["tasks"][1]["execute_at"], "1970-01-01T00:00:00.004Z");
    }
}
