//! With many configs: start-up, memory, and whether the fast path still is one.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::load::{Burst, NOBODY, steady};
use crate::measure::instant;
use crate::process::Receiver;
use crate::report::Report;
use crate::service::{APP, DeploymentMode, Service};

pub(crate) async fn run(report: &mut Report, mode: &DeploymentMode, configs: u64) -> Result<()> {
    let mut receiver = Receiver::start().await?;
    // The same figures without them, in the same run, to be compared with.
    let empty = Service::start(mode).await?;
    let burst_before = Burst::new("burst, few configs").run(report, &empty, &mut receiver, None).await?;
    let steady_before = steady(report, &empty, &mut receiver, "steady, few configs").await?;
    empty.stop().await?;

    let mut service = Service::start(mode).await?;
    service.config("many-0", NOBODY, json!({})).await?;
    service.halt().await?;
    let start = instant();
    service.tables().add_configs("many", configs.saturating_sub(1))?;
    report.add("configs", "filled in", "s", start.elapsed().as_secs_f64());
    service.boot().await?;
    report.add("configs", "start-up", "s", service.started_in.as_secs_f64());
    let processes = f64::from(u32::try_from(service.addresses().len())?);
    report.add("configs", "memory of a process", "MiB", service.memory_mib("VmRSS")? / processes);
    // The last one is served: they have all been read.
    let last = format!("many-{}", configs.saturating_sub(1));
    let path = format!("/api/v1/apps/{APP}/configs/{last}");
    let config = service.connect().await?.json("GET", &path, &Value::Null, 200).await?;
    ensure!(config["name"] == last.as_str(), "`{last}` is answered as {config}");
    let burst_after = Burst::new("burst, many configs").run(report, &service, &mut receiver, None).await?;
    let steady_after = steady(report, &service, &mut receiver, "steady, many configs").await?;
    report.add("configs", "burst CPU / few", "", burst_after / burst_before);
    report.add("configs", "steady CPU / few", "", steady_after / steady_before);
    report.add("configs", "memory, highest", "MiB", service.memory_mib("VmHWM")? / processes);
    service.stop().await?;
    receiver.stop().await
}
