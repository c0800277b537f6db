//! With many open tasks in the file: start-up, memory, and whether the fast path still is one.

use anyhow::{Result, ensure};

use crate::load::{batch, burst, steady};
use crate::measure::{instant, scatter, wall_us};
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{APP, Service, Shape};

const CONFIGS: u64 = 100;
const BATCH: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;
const SPREAD_DAYS: u64 = 30;

pub(crate) async fn run(report: &mut Report, shape: &Shape, tasks: u64) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    // The same figures without the rows, in the same run, to be compared with.
    let empty = Service::start(shape).await?;
    let burst_before = burst(report, &empty, &mut receiver, "burst, empty file", None).await?;
    let steady_before = steady(report, &empty, &mut receiver, "steady, empty file").await?;
    empty.stop().await?;

    let service = Service::start(shape).await?;
    fill(report, &service, tasks).await?;
    let service = service.restart().await?;
    report.add("open tasks", "start-up", "s", service.started_in.as_secs_f64());
    report.add("open tasks", "memory after start", "MiB", service.memory_mib("VmRSS")?);
    if let Shape::Embedded = shape {
        report.add("open tasks", "file", "MiB", f64::from(u32::try_from(service.file_mib()?)?));
    }
    let burst_after = burst(report, &service, &mut receiver, "burst, open tasks", None).await?;
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
        service
            .config(&format!("open-{config}"), "http://127.0.0.1:8009/none", serde_json::json!({}))
            .await?;
    }
    let mut line = service.connect().await?;
    let path = format!("/api/v1/apps/{APP}/tasks/batch");
    let base = wall_us() / 1_000 + i64::try_from(DAY_MS)?;
    let start = instant();
    for number in 0..tasks.div_ceil(BATCH) {
        let config = format!("open-{}", number % CONFIGS);
        let first = usize::try_from(number * BATCH)?;
        let end = usize::try_from(((number + 1) * BATCH).min(tasks))?;
        let due =
            |task: usize| base + i64::try_from(scatter(task as u64) % (SPREAD_DAYS * DAY_MS)).unwrap_or(0);
        let body = batch(&config, first..end, due);
        let (status, answer) = line.call("POST", &path, body.as_bytes()).await?;
        ensure!(status == 200, "a batch was answered {status}: {}", String::from_utf8_lossy(answer));
    }
    let took = start.elapsed().as_secs_f64();
    service.holds(usize::try_from(tasks)?).await?;
    println!("  {tasks} open tasks submitted in {took:.0} s");
    report.add("open tasks", "filled at", "tasks/s", f64::from(u32::try_from(tasks)?) / took);
    Ok(())
}
