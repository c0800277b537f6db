//! Against nsqd and nsqlookupd themselves.

mod closing;
mod discovery;
mod http;
mod restarts;
mod secured;
mod soak;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use peers::Nsqd;
use serde_json::Value;
use tokio::time::{interval, timeout};
use tsp_nsq::Consumer;

use crate::fake::soon;

fn start(arguments: &[&str]) -> Nsqd {
    Nsqd::start_with(arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// With topic `t` and channel `c`.
fn start_with_channel(arguments: &[&str]) -> Nsqd {
    let nsqd = start(arguments);
    nsqd.create_channel("t", "c").unwrap();
    nsqd
}

/// Polls another process.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(20));
    let watch = async {
        while !condition() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(30), watch)
        .await
        .unwrap_or_else(|_| panic!("it does not come to this: {what}"));
}

/// What nsqd says of channel `c` of topic `t`.
fn channel_stats(nsqd: &Nsqd) -> Value {
    let stats = nsqd.get("/stats?format=json&include_mem=false&topic=t&channel=c").unwrap();
    let stats: Value = serde_json::from_str(&stats).unwrap();
    stats["topics"][0]["channels"][0].clone()
}

fn number(stats: &Value, field: &str) -> u64 {
    stats[field].as_u64().unwrap_or_else(|| panic!("no `{field}` in {stats}"))
}

/// RDY of the channel's consumers.
fn ready(nsqd: &Nsqd) -> Vec<u64> {
    let stats = channel_stats(nsqd);
    let clients = stats["clients"].as_array().into_iter().flatten();
    clients.map(|client| number(client, "ready_count")).collect()
}

/// Finishes the next `count` messages.
async fn finish(consumer: &Consumer, count: usize) -> BTreeSet<Bytes> {
    let mut bodies = BTreeSet::new();
    for _ in 0..count {
        let message = soon(consumer.recv()).await.expect("the consumer is open");
        bodies.insert(message.body.clone());
        message.finish().unwrap();
    }
    bodies
}
