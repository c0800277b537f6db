//! A herd: many schedules whose slot is the same second.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::load::{Cost, check, per_second, per_task_ms};
use crate::measure::{instant, until, wall_us};
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{DeploymentMode, Service};

const NAME: &str = "herd";
/// From here to the second: for filling, and for the start of the processes.
const LEAD_MS: i64 = 20_000;
const CRONS_PER_MS: i64 = 2;
const ARRIVAL_LIMIT: Duration = Duration::from_mins(20);

pub(crate) async fn run(report: &mut Report, mode: &DeploymentMode, crons: u64) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    let mut service = Service::start(mode).await?;
    let count = usize::try_from(crons)?;
    let second = wall_us() / 1_000_000 + (LEAD_MS + i64::try_from(crons)? / CRONS_PER_MS) / 1_000;
    let slot_ms = second * 1_000;
    let schedule = json!({ "kind": "cron", "schedule": schedule(second)? });
    service.config(&format!("{NAME}-0"), &receiver.url(NAME), schedule).await?;
    service.halt().await?;
    let start = instant();
    let tables = service.tables();
    tables.add_configs(NAME, crons.saturating_sub(1))?;
    tables.add_cursors(NAME, slot_ms)?;
    report.add(NAME, "filled in", "s", start.elapsed().as_secs_f64());
    service.boot().await?;
    report.add(NAME, "start-up", "s", service.started_in.as_secs_f64());
    let left = slot_ms - 2_000 - wall_us() / 1_000;
    ensure!(left > 0, "filling and the start took {} ms too long: the slot has come", -left);
    until((slot_ms - 1_500) * 1_000).await;
    let cost = Cost::begin(&service).await?;
    until(slot_ms * 1_000).await;
    let summary = receiver.wait(NAME, count, ARRIVAL_LIMIT).await?;
    service.drained(None).await?;
    let cpu = service.cpu_seconds()? - cost.cpu;
    check(&summary, count)?;
    let took_us = summary.last_us - slot_ms * 1_000;
    report.add(NAME, "until the last", "s", f64::from(u32::try_from(took_us / 1_000)?) / 1_000.0);
    report.add(NAME, "rate", "/s", per_second(count, took_us));
    report.add(NAME, "CPU per callback", "ms", per_task_ms(cpu, count));
    report.lateness(NAME, &summary);
    report.add(NAME, "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    cost.end(report, &service, NAME, count).await?;
    service.stop().await?;
    receiver.stop().await
}

/// Once, in this second after 1970.
fn schedule(second: i64) -> Result<serde_json::Value> {
    let at = jiff::Timestamp::from_second(second).context("a time")?.to_zoned(jiff::tz::TimeZone::UTC);
    let expr = at.strftime("%-S %-M %-H %-d %-m ? %Y").to_string();
    Ok(json!({ "type": "cron", "expr": expr, "dialect": "quartz", "timezone": "UTC" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_names_the_second() {
        let schedule = schedule(1_795_257_005).unwrap();
        assert_eq!(schedule["expr"], "5 30 10 21 11 ? 2026");
    }
}
