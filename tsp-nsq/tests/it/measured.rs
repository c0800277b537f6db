//! What shows in the metrics, and what stays bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::time::timeout;
use tsp_nsq::metric_names;

use crate::consumer;
use crate::fake::{FakeNsqd, message, message_id, soon};

/// Keeps the counters of one thread, which is all that a test's runtime has.
#[derive(Debug, Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    /// The sum over all labels.
    fn total(&self, name: &str) -> u64 {
        let counters = self.0.lock().unwrap();
        let named = counters.iter().filter(|(key, _)| key.split('{').next() == Some(name));
        named.map(|(_, counter)| counter.load(Ordering::Relaxed)).sum()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}", key.name(), labels.join(","));
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn a_finish_that_failed_is_counted() {
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 4);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    for attempts in [1, 2] {
        peer.deliver(1, attempts, b"late").await;
        soon(consumer.recv()).await.unwrap().finish().unwrap();
        soon(peer.expect("FIN")).await;
        peer.refuse(&format!("E_FIN_FAILED FIN {} failed ID not in flight", message_id(1))).await;
    }
    peer.heartbeat().await;
    soon(peer.expect("NOP")).await;
    assert_eq!(counters.total(metric_names::ACKNOWLEDGE_ERRORS), 2);
    assert_eq!(counters.total(metric_names::RECEIVED), 2);
    assert_eq!(counters.total(metric_names::REDELIVERIES), 1);
    assert_eq!(counters.total(metric_names::RECONNECTS), 0);
    drop(peer);
    soon(nsqd.subscriber()).await;
    assert_eq!(counters.total(metric_names::RECONNECTS), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_is_bounded_and_heartbeats_are_answered() {
    const IN_FLIGHT: u64 = 100;
    const MESSAGES: u64 = 100_000;
    let counters = Counters::default();
    let _guard = metrics::set_default_local_recorder(&counters);
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], u32::try_from(IN_FLIGHT).unwrap());
    let mut peer = nsqd.accept().await;
    peer.identify(r#"{"msg_timeout": 1000}"#).await;
    soon(peer.expect("SUB t c")).await;
    peer.respond("OK").await;
    soon(peer.ready()).await;
    let body = [b'x'; 1024];
    for batch in 0..MESSAGES / IN_FLIGHT {
        let first = batch * IN_FLIGHT;
        let frames: Vec<u8> = (first..first + IN_FLIGHT).flat_map(|id| message(id, 1, &body)).collect();
        peer.send(&frames).await;
        peer.heartbeat().await;
        soon(peer.expect("NOP")).await;
        // They time out at nsqd, which then has as much room as before.
        timeout(Duration::from_millis(1100), std::future::pending::<()>()).await.unwrap_err();
    }
    assert_eq!(nsqd.seen.lock().unwrap().connections, 1);
    assert_eq!(counters.total(metric_names::RECEIVED), MESSAGES);
    let mut held = Vec::new();
    while let Some(message) = consumer.try_recv() {
        held.push(message);
    }
    assert!(held.len() <= 2 * usize::try_from(IN_FLIGHT).unwrap(), "{}", held.len());
    assert!(counters.total(metric_names::EXPIRED) >= MESSAGES - 2 * IN_FLIGHT);
}
