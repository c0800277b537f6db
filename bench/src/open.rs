//! With many open tasks in the file: start-up, memory, and whether the fast path still is one.

use anyhow::{Context, Result, ensure};

use crate::load::{Burst, NOBODY, steady};
use crate::measure::{instant, scatter, wall_us};
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{APP, DeploymentMode, Service};
use crate::tasks::{BATCH, Load};

const CONFIGS: usize = 100;
const DAY_MS: u64 = 86_400_000;
const SPREAD_DAYS: u64 = 30;

pub(crate) async fn run(report: &mut Report, mode: &DeploymentMode, tasks: u64) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    // The same figures without the rows, in the same run, to be compared with.
    let empty = Service::start(mode).await?;
    let burst_before = Burst::new("burst, empty file").run(report, &empty, &mut receiver, None).await?;
    let steady_before = steady(report, &empty, &mut receiver, "steady, empty file").await?;
    empty.stop().await?;

    let mut service = Service::start(mode).await?;
    fill(report, &service, tasks).await?;
    service.halt().await?;
    service.boot().await?;
    report.add("open tasks", "start-up", "s", service.started_in.as_secs_f64());
    report.add("open tasks", "memory after start", "MiB", service.memory_mib("VmRSS")?);
    if let Some(file) = service.file() {
        let bytes = std::fs::metadata(file).context("the database file has a size")?.len();
        report.add("open tasks", "file", "MiB", f64::from(u32::try_from(bytes >> 20)?));
    }
    let burst_after = Burst::new("burst, open tasks").run(report, &service, &mut receiver, None).await?;
    let steady_after = steady(report, &service, &mut receiver, "steady, open tasks").await?;
    report.add("open tasks", "burst CPU / empty", "", burst_after / burst_before);
    report.add("open tasks", "steady CPU / empty", "", steady_after / steady_before);
    report.add("open tasks", "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    service.stop().await?;
    receiver.stop().await
}

/// Tasks of a hundred configs, due at scattered times of the next month.
async fn fill(report: &mut Report, service: &Service, tasks: u64) -> Result<()> {
    for config in 0..CONFIGS {
        service.config(&format!("open-{config}"), NOBODY, serde_json::json!({})).await?;
    }
    let mut line = service.connect().await?;
    let path = format!("/api/v1/apps/{APP}/tasks/batch");
    let base = wall_us() / 1_000 + i64::try_from(DAY_MS)?;
    let due = |task: usize| base + i64::try_from(scatter(task as u64) % (SPREAD_DAYS * DAY_MS)).unwrap_or(0);
    let config = |task: usize| format!("open-{}", task / BATCH % CONFIGS);
    let count = usize::try_from(tasks)?;
    let load = Load { app: APP, tasks: count, config: &config, due: &due, keys: service.keys };
    let start = instant();
    for first in (0..count).step_by(BATCH) {
        let body = load.body(first..(first + BATCH).min(count));
        let (status, answer) = line.call("POST", &path, body.as_bytes()).await?;
        ensure!(status == 200, "a batch was answered {status}: {}", String::from_utf8_lossy(answer));
    }
    let took = start.elapsed().as_secs_f64();
    service.holds(count).await?;
    println!("  {tasks} open tasks submitted in {took:.0} s");
    report.add("open tasks", "filled at", "tasks/s", f64::from(u32::try_from(tasks)?) / took);
    Ok(())
}
