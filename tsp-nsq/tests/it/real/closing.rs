//! Closing and backing off, as nsqd sees it.

use std::time::Duration;

use peers::Nsqd;
use tokio::time::Instant;
use tsp_nsq::Producer;

use super::{channel_stats, eventually, number, ready, start_with_channel};
use crate::fake::soon;
use crate::{config, consumer, fixed, publish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_leaves_nothing_in_flight() {
    let nsqd = start_with_channel(&[]);
    let address = nsqd.tcp_address();
    let producer = Producer::start(fixed(&[&address]), config());
    for n in 0..5 {
        publish(&producer, format!("{n}")).await.unwrap();
    }
    let consumer = consumer(&[&address], 5);
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(soon(consumer.recv()).await.unwrap());
    }
    soon(consumer.ready()).await;
    let (stuck, mut running) = (taken.pop().unwrap(), taken);
    let worker = async {
        // It closes while they run: nsqd knows that this consumer takes no more.
        eventually("RDY 0", || ready(&nsqd) == [0]).await;
        while let Some(message) = running.pop() {
            message.finish().unwrap();
        }
    };
    tokio::join!(soon(consumer.close(Duration::from_secs(4))), worker);
    assert!(stuck.finish().is_err());
    eventually("the consumer is gone", || number(&channel_stats(&nsqd), "client_count") == 0).await;
    let stats = channel_stats(&nsqd);
    // One was stuck, one was never taken.
    let fields = ["in_flight_count", "deferred_count", "depth", "requeue_count", "timeout_count"];
    assert_eq!(fields.map(|field| number(&stats, field)), [0, 0, 2, 2, 0], "{stats}");
    producer.close(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backing_off_takes_rdy_away_and_gives_it_back() {
    let nsqds = [start_with_channel(&[]), start_with_channel(&[])];
    let addresses = nsqds.each_ref().map(Nsqd::tcp_address);
    let consumer = consumer(&[&addresses[0], &addresses[1]], 10);
    let ready = || nsqds.iter().flat_map(ready).collect::<Vec<u64>>();
    eventually("a full share", || ready() == [5, 5]).await;
    for seconds in [2, 4].map(Duration::from_secs) {
        let start = Instant::now();
        consumer.back_off();
        eventually("nothing", || ready() == [0, 0]).await;
        eventually("one", || ready().iter().sum::<u64>() == 1).await;
        assert!(start.elapsed() > seconds, "{:?}, not {seconds:?}", start.elapsed());
    }
    consumer.succeeded();
    eventually("one less", || ready().iter().sum::<u64>() == 0).await;
    eventually("one", || ready().iter().sum::<u64>() == 1).await;
    consumer.succeeded();
    eventually("a full share again", || ready() == [5, 5]).await;
}
