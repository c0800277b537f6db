//! Beside a long history, with random keys: what is inserted meets full indexes, as it does in life.

use anyhow::Result;
use serde_json::json;

use crate::load::{Burst, config_of, steady, submit_batches, submit_singly};
use crate::measure::{instant, wall_us};
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{DeploymentMode, Service};
use crate::tasks::{Keys, submit_all};

const SCENARIOS: [&str; 4] = ["burst", "steady", "single submits", "batch submits"];
const FIGURES: [&str; 4] =
    ["burst CPU / without", "steady CPU / without", "submit CPU / without", "batch CPU / without"];

pub(crate) async fn run(report: &mut Report, mode: &DeploymentMode, rows: u64) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    // The same figures without the rows, in the same run, to be compared with.
    let service = Service::start(mode).await?;
    let before = measure(report, &service, &mut receiver, "no history").await?;
    service.stop().await?;

    let mut service = Service::start(mode).await?;
    service.keys = Keys::Random;
    fill(report, &mut service, &receiver, rows).await?;
    let after = measure(report, &service, &mut receiver, "history").await?;
    for ((figure, before), after) in FIGURES.into_iter().zip(before).zip(after) {
        report.add("history", figure, "", after / before);
    }
    report.add("history", "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    service.stop().await?;
    receiver.stop().await
}

/// What each scenario takes of the CPU for a task, in ms.
async fn measure(
    report: &mut Report,
    service: &Service,
    receiver: &mut Receiver,
    beside: &str,
) -> Result<[f64; 4]> {
    let [burst, stream, single, batch] = SCENARIOS.map(|scenario| format!("{scenario}, {beside}"));
    Ok([
        Burst::new(&burst).run(report, service, receiver, None).await?,
        steady(report, service, receiver, &stream).await?,
        submit_singly(report, service, &single).await?,
        submit_batches(report, service, &batch).await?,
    ])
}

/// The configs that are measured then have so many ended tasks: one that was called, and copies of it.
async fn fill(report: &mut Report, service: &mut Service, receiver: &Receiver, rows: u64) -> Result<()> {
    let configs = SCENARIOS.map(|scenario| config_of(&format!("{scenario}, history")));
    for config in &configs {
        service.config(config, &receiver.url(config), json!({})).await?;
        submit_all(service, config, 1, |_| wall_us() / 1_000).await?;
    }
    service.drained(None).await?;
    service.halt().await?;
    let start = instant();
    service.tables().add_history(&configs, rows)?;
    report.add("history", "filled in", "s", start.elapsed().as_secs_f64());
    service.boot().await?;
    report.add("history", "start-up", "s", service.started_in.as_secs_f64());
    Ok(())
}
