//! Killing nsqds under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use peers::Nsqd;
use tokio::time::{Instant, timeout};
use tsp_nsq::{Consumer, Producer, PublishError};

use super::{eventually, start_with_channel};
use crate::fake::soon;
use crate::{config, consumer, fixed, publish};

/// What is known of all publishes and deliveries.
#[derive(Debug, Default)]
struct Ledger {
    /// When the OK came.
    stored: Mutex<BTreeMap<Bytes, Instant>>,
    delivered: Mutex<BTreeSet<Bytes>>,
    /// What was stored before may have died with its nsqd.
    last_kill: Mutex<Option<Instant>>,
    stop: AtomicBool,
}

impl Ledger {
    fn stored(&self) -> usize {
        self.stored.lock().unwrap().len()
    }

    /// What was stored and not delivered, and no kill explains it.
    fn unexplained(&self) -> Vec<Bytes> {
        let (delivered, stored) = (self.delivered.lock().unwrap(), self.stored.lock().unwrap());
        let last_kill = *self.last_kill.lock().unwrap();
        let missing = stored.iter().filter(|(body, _)| !delivered.contains(*body));
        let unexplained = missing.filter(|(body, at)| body.starts_with(b"safe") || Some(**at) > last_kill);
        unexplained.map(|(body, _)| body.clone()).collect()
    }

    async fn publish(&self, producer: &Producer, who: &str) {
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let body = Bytes::from(format!("{who} {n}"));
            match publish(producer, body.clone()).await {
                Ok(()) => {
                    self.stored.lock().unwrap().insert(body, Instant::now());
                }
                Err(PublishError::Unknown { .. } | PublishError::Unavailable { .. }) => {}
                Err(refused) => panic!("{refused}"),
            }
        }
    }

    /// Until nothing is missing but what a kill explains, and the publishers have stopped; or nothing comes any more.
    async fn consume(&self, consumer: &Consumer) {
        let mut last = Instant::now();
        loop {
            match timeout(Duration::from_millis(500), consumer.recv()).await {
                Ok(message) => {
                    let message = message.expect("the consumer is open");
                    last = Instant::now();
                    self.delivered.lock().unwrap().insert(message.body.clone());
                    // Of a connection that has ended since: it is delivered again or was lost with its nsqd.
                    let _ = message.finish();
                }
                Err(_) if self.stop.load(Ordering::Relaxed) => {
                    if self.unexplained().is_empty() || last.elapsed() > Duration::from_secs(20) {
                        return;
                    }
                }
                Err(_) => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_nsqd_loses_only_its_own_messages_and_the_clients_recover() {
    let options = ["--msg-timeout=3s"];
    let nsqds = [start_with_channel(&options), start_with_channel(&options), start_with_channel(&options)];
    let addresses = nsqds.each_ref().map(Nsqd::tcp_address);
    let all = addresses.each_ref().map(String::as_str);
    let pool = Producer::start(fixed(&all), config());
    // This one is never killed.
    let safe = Producer::start(fixed(&all[2..]), config());
    let consumer = consumer(&all, 300);
    let ledger = Ledger::default();

    let kills = async {
        eventually("all are consumed from", || consumer.connections() == 3).await;
        for victim in [&nsqds[0], &nsqds[1], &nsqds[0]] {
            let stored = ledger.stored();
            eventually("it publishes", || ledger.stored() > stored + 500).await;
            tokio::task::block_in_place(|| victim.kill());
            eventually("its loss is noticed", || consumer.connections() == 2).await;
            let stored = ledger.stored();
            eventually("it publishes to the others", || ledger.stored() > stored + 500).await;
            // By now each OK that came from it has been counted.
            *ledger.last_kill.lock().unwrap() = Some(Instant::now());
            tokio::task::block_in_place(|| victim.restart()).unwrap();
            eventually("it is consumed from again", || consumer.connections() == 3).await;
        }
        ledger.stop.store(true, Ordering::Relaxed);
    };
    let names: Vec<String> = (0..4).map(|n| format!("pool-{n}")).collect();
    let pooled = join_all(names.iter().map(|name| ledger.publish(&pool, name)));
    tokio::join!(kills, pooled, ledger.publish(&safe, "safe"), ledger.consume(&consumer));

    let unexplained = ledger.unexplained();
    assert!(unexplained.is_empty(), "{} of {} are lost: {unexplained:?}", unexplained.len(), ledger.stored());
    assert!(ledger.delivered.lock().unwrap().len() > 1000);
    soon(consumer.close(Duration::from_secs(1))).await;
}
