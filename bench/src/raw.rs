//! The limit: the worker's own client sending the worker's own requests to the same receiver, with no
//! service around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;
use tsp_core::config::{ConfigSpec, HttpTarget, TaskConfig};
use tsp_core::egress::EgressPolicy;
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::{AppId, ConfigId, Entropy, Name, TaskId, TaskKey, Timestamp};
use tsp_worker::http::{ClientSettings, HttpHandler};
use tsp_worker::{Fence, TaskContext};

use crate::measure;
use crate::process::Receiver;
use crate::report::Report;

const REQUESTS: i64 = 40_000;
const IN_FLIGHT: usize = 128;
const LABEL: &str = "raw";

/// Enough for trace ids and pauses; nothing here needs to be hard to guess.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let next = measure::scatter(self.0.fetch_add(1, Ordering::Relaxed) + 1);
            chunk.copy_from_slice(&next.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Requests per second with one worker thread and with two; the better one is the limit.
pub(crate) async fn measure(report: &mut Report, receiver: &mut Receiver) -> Result<f64> {
    let mut best: f64 = 0.0;
    for workers in [1, 2] {
        receiver.reset().await?;
        let url = receiver.url(LABEL);
        // A thread of its own: a runtime cannot be started within another.
        let (send, done) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let rate = measure::runtime(workers).and_then(|runtime| runtime.block_on(run(&url)));
            // Only a benchmark that was given up does not wait for it.
            drop(send.send(rate));
        });
        let rate = done.await.context("the loop's thread ended early")??;
        let sent = usize::try_from(REQUESTS)?;
        let summary = receiver.wait(LABEL, sent, Duration::from_secs(5)).await?;
        ensure!(summary.received == sent, "{} of {sent} requests arrived", summary.received);
        println!("  raw loop, {workers} worker thread(s): {rate:.0}/s");
        best = best.max(rate);
    }
    report.add("raw loop", "rate", "/s", best);
    receiver.reset().await?;
    Ok(best)
}

async fn run(url: &str) -> Result<f64> {
    let policy = EgressPolicy::new(vec!["127.0.0.0/8".parse().context("a network")?]);
    let settings = ClientSettings { policy, ..ClientSettings::default() };
    let handler = Arc::new(HttpHandler::new(&settings, Arc::new(Counter::default()))?);
    let config = Arc::new(config(url)?);
    let left = Arc::new(AtomicI64::new(REQUESTS));
    let start = measure::instant();
    let mut senders = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        senders.spawn(sender(Arc::clone(&handler), Arc::clone(&config), Arc::clone(&left)));
    }
    while let Some(ended) = senders.join_next().await {
        ended.context("a lane failed")??;
    }
    let took = start.elapsed().as_secs_f64();
    Ok(f64::from(i32::try_from(REQUESTS)?) / took)
}

async fn sender(handler: Arc<HttpHandler>, config: Arc<TaskConfig>, left: Arc<AtomicI64>) -> Result<()> {
    let target = handler.prepare(&config)?;
    loop {
        let number = left.fetch_sub(1, Ordering::Relaxed);
        if number <= 0 {
            return Ok(());
        }
        let now = Timestamp::from_ms(measure::wall_us() / 1_000);
        let mut task = Box::new(Task::new(new_task(&config, number, now)?, now));
        task.attempt = 1;
        let (config, fence) = (Arc::clone(&config), Fence::open());
        let call = TaskContext { task, config, completion_token: None, now, fence };
        let request = handler.request(&target, &call)?;
        let answer = handler.send(&target, &call, request).await?;
        ensure!(answer.status.as_u16() == 200, "the receiver answered {}", answer.status);
    }
}

fn new_task(config: &TaskConfig, number: i64, now: Timestamp) -> Result<NewTask> {
    Ok(NewTask {
        id: TaskId::new(number),
        config: config.id,
        key: Some(TaskKey::new(&format!("order-{number}"))?),
        execute_at: now,
        payload: Some(Bytes::from_static(crate::tasks::PAYLOAD.as_bytes())),
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    })
}

/// A config as it is without any settings.
fn config(url: &str) -> Result<TaskConfig> {
    Ok(TaskConfig {
        id: ConfigId::new(1),
        app_id: AppId::new(1),
        app: Name::new(crate::service::APP)?,
        spec: ConfigSpec::new(Name::new("raw")?, HttpTarget::post(url)),
        paused: None,
        version: 1,
        created_at: Timestamp::ZERO,
        updated_at: Timestamp::ZERO,
    })
}
