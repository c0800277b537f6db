//! Submits and look-ups by business key, beside a long history of the same config.

use anyhow::Result;
use serde_json::json;

use crate::fill::{ensure_room, mariadb};
use crate::load::{Calls, SINGLE_SUBMITS, submit_keys};
use crate::measure::{instant, wall_us};
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{APP, DeploymentMode, Service};
use crate::tasks::{Keys, submit_all};

const CONFIG: &str = "keyed";
/// Of a cluster each asks the history of every shard that may have the task.
const LOOK_UPS: usize = 6_000;
/// What a row takes of a disk while the indexes are made, at most.
const BYTES: u64 = 800;

pub(crate) async fn run(report: &mut Report, mode: &DeploymentMode, rows: u64) -> Result<()> {
    ensure_room(rows, BYTES)?;
    let receiver = Receiver::start().await?;
    let service = Service::start(mode).await?;
    service.config(CONFIG, &receiver.url(CONFIG), json!({})).await?;
    submit_all(&service, CONFIG, 1, |_| wall_us() / 1_000).await?;
    service.drained(None).await?;
    // The same figure without the rows, in the same run, to be compared with.
    let keys = (Keys::Random, SINGLE_SUBMITS);
    let before = submit_keys(report, &service, "keyed, no history", CONFIG, keys).await?;
    service.stop().await?;

    let mut service = Service::start(mode).await?;
    service.config(CONFIG, &receiver.url(CONFIG), json!({})).await?;
    submit_all(&service, CONFIG, 1, |_| wall_us() / 1_000).await?;
    service.drained(None).await?;
    service.halt().await?;
    let start = instant();
    service.tables().add_history(&[CONFIG.to_owned()], rows)?;
    if let Some((servers, _)) = service.cluster() {
        mariadb::quiet(servers.database()).await?;
    }
    report.add("keyed", "filled in", "s", start.elapsed().as_secs_f64());
    service.boot().await?;
    report.add("keyed", "start-up", "s", service.started_in.as_secs_f64());
    report.add("keyed", "memory after start", "MiB", service.memory_mib("VmRSS")?);
    measure(report, &service, rows, before).await?;
    report.add("keyed", "memory, highest", "MiB", service.memory_mib("VmHWM")?);
    service.stop().await?;
    receiver.stop().await
}

async fn measure(report: &mut Report, service: &Service, rows: u64, before: f64) -> Result<()> {
    let count = SINGLE_SUBMITS.min(usize::try_from(rows)?);
    let ended = Keys::Ended { each: rows / count as u64 };
    let look_ups = LOOK_UPS.min(count);
    // First, while they are all ended.
    let path = |number: usize| format!("/api/v1/apps/{APP}/configs/{CONFIG}/keys/{}", ended.of(number));
    let call = |number: usize| (path(number), String::new());
    let calls =
        Calls { name: "look-ups by ended keys", method: "GET", count: look_ups, wanted: 200, call: &call };
    calls.run(report, service).await?;
    let new = submit_keys(report, service, "keyed, new keys", CONFIG, (Keys::Random, SINGLE_SUBMITS)).await?;
    let again = submit_keys(report, service, "keyed, ended keys", CONFIG, (ended, count)).await?;
    report.add("keyed", "submit CPU, new / none", "", new / before);
    report.add("keyed", "submit CPU, ended / none", "", again / before);
    Ok(())
}
