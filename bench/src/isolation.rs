//! One config's lateness, alone and beside receivers that are dead, slow, breaking off and far too
//! talkative.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::load::check;
use crate::measure::wall_us;
use crate::process::Receiver;
use crate::report::Report;
use crate::service::Service;
use crate::tasks::submit_all;

const GOOD_TASKS: usize = 2_000;
const GOOD_EVERY_MS: usize = 5;
const BAD_TASKS: usize = 2_000;

pub(crate) async fn run(report: &mut Report, service: &Service, receiver: &mut Receiver) -> Result<()> {
    // A process of their own: what is measured is the service, not how the receiver bears its own load.
    let bad_ones = Receiver::start().await?;
    let alone = good(report, service, receiver, "alone").await?;
    let memory_before = service.memory_mib("VmRSS")?;
    let retry = json!({ "retry": { "max_attempts": 3, "backoff": { "type": "list", "delays": ["1s"] } } });
    let bad = [
        ("dead", "http://127.0.0.1:1999/dead".to_owned()),
        ("slow", bad_ones.url("bad/slow")),
        ("dropping", bad_ones.url("bad/drop")),
        ("huge", bad_ones.url("bad/huge")),
    ];
    let start = wall_us() / 1_000 + 1_500;
    for (name, url) in &bad {
        service.config(name, url, retry.clone()).await?;
        // 100 MiB an answer: a few of them are plenty.
        let tasks = if *name == "huge" { BAD_TASKS / 20 } else { BAD_TASKS };
        let due = |number: usize| start + i64::try_from(number * 5).unwrap_or(0);
        submit_all(service, name, tasks, due).await?;
    }
    let beside = good(report, service, receiver, "beside").await?;
    report.add("isolation", "p99 allowed", "ms", (2.0 * alone).max(25.0));
    report.add("isolation", "p99 beside / allowed", "", beside / (2.0 * alone).max(25.0));
    report.add("isolation", "memory added", "MiB", service.memory_mib("VmHWM")? - memory_before);
    bad_ones.stop().await
}

/// The lateness p99 in ms of a well-behaved config.
async fn good(report: &mut Report, service: &Service, receiver: &mut Receiver, name: &str) -> Result<f64> {
    service.config(name, &receiver.url(name), json!({})).await?;
    let start = wall_us() / 1_000 + service.lead_ms();
    let due = |number: usize| start + i64::try_from(number * GOOD_EVERY_MS).unwrap_or(0);
    submit_all(service, name, GOOD_TASKS, due).await?;
    let summary = receiver.wait(name, GOOD_TASKS, Duration::from_mins(1)).await?;
    check(&summary, GOOD_TASKS)?;
    report.lateness(&format!("isolation, {name}"), &summary);
    Ok(f64::from(u32::try_from(summary.p99_us)?) / 1_000.0)
}
