//! An nsqd that is stopped and started while it is used.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tsp_nsq::{Producer, PublishError};

use super::{channel_stats, eventually, finish, number, start_with_channel};
use crate::fake::soon;
use crate::{config, consumer, fixed, insist, publish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_was_answered_is_stored_over_clean_restarts() {
    const PUBLISHERS: u64 = 8;
    let nsqd = start_with_channel(&[]);
    let producer = Producer::start(fixed(&[&nsqd.tcp_address()]), config());
    let (ok, unknown, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let publisher = async |publisher: u64| {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let body = Bytes::from(format!("{publisher} {n}"));
            match publish(&producer, body).await {
                Ok(()) => ok.fetch_add(1, Ordering::Relaxed),
                Err(PublishError::Unknown { .. }) => unknown.fetch_add(1, Ordering::Relaxed),
                Err(PublishError::Unavailable { .. }) => 0,
                Err(refused) => panic!("{refused}"),
            };
        }
    };
    let restarts = async {
        for _ in 0..3 {
            let before = ok.load(Ordering::Relaxed);
            eventually("it publishes", || ok.load(Ordering::Relaxed) > before + 500).await;
            tokio::task::block_in_place(|| nsqd.restart()).unwrap();
        }
        let before = ok.load(Ordering::Relaxed);
        eventually("it publishes again", || ok.load(Ordering::Relaxed) > before + 500).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..PUBLISHERS).map(publisher)), restarts);
    let (ok, unknown) = (ok.into_inner(), unknown.into_inner());
    let depth = || number(&channel_stats(&nsqd), "depth");
    // nsqd hands what it has stored on to the channel.
    eventually("all of them in the channel", || depth() >= ok).await;
    let stored = depth();
    assert!(stored <= ok + unknown, "{ok} answered, {unknown} unknown, {stored} stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_nsqd_is_given_up_and_taken_again() {
    let nsqd = start_with_channel(&[]);
    let mut config = config();
    config.heartbeat_interval = Duration::from_secs(1);
    let producer = Producer::start(fixed(&[&nsqd.tcp_address()]), config);
    publish(&producer, "before").await.unwrap();
    nsqd.pause();
    // The connection stands, and no answer comes on it.
    let outcome = publish(&producer, "during").await;
    assert!(matches!(outcome, Err(PublishError::Unknown { .. })), "{outcome:?}");
    nsqd.resume();
    soon(insist(&producer, "after")).await;
    let consumer = consumer(&[&nsqd.tcp_address()], 10);
    let mut bodies = BTreeSet::new();
    while !(bodies.contains(&b"before"[..]) && bodies.contains(&b"after"[..])) {
        bodies.extend(finish(&consumer, 1).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_requeued_dropped_or_late_comes_again() {
    let nsqd = start_with_channel(&["--msg-timeout=4s"]);
    let producer = Producer::start(fixed(&[&nsqd.tcp_address()]), config());
    publish(&producer, "again").await.unwrap();
    let consumer = consumer(&[&nsqd.tcp_address()], 10);
    let first = soon(consumer.recv()).await.unwrap();
    let id = first.id;
    first.requeue(Duration::ZERO).unwrap();
    drop(soon(consumer.recv()).await.unwrap());
    let late = soon(consumer.recv()).await.unwrap();
    // Three touches, each after half of its time, keep it for longer than its time.
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_secs(2), consumer.recv()).await.is_err());
        late.touch().unwrap();
    }
    let again = soon(consumer.recv()).await.unwrap();
    assert_eq!((again.attempts, again.id), (4, id));
    // nsqd refuses this one, and that is all that happens; it may already be known to be too late.
    let _ = late.finish();
    again.finish().unwrap();
    eventually("it is finished", || {
        let stats = channel_stats(&nsqd);
        ["depth", "in_flight_count", "deferred_count"].iter().all(|field| number(&stats, field) == 0)
    })
    .await;
    assert_eq!(consumer.connections(), 1);
}
