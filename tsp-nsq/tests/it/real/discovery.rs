//! nsqds that are found by nsqlookupds.

use std::collections::BTreeSet;
use std::time::Duration;

use peers::{Nsqd, Nsqlookupd};
use tsp_nsq::{Consumer, ConsumerOptions, Nsqds, Producer};

use super::{eventually, finish, start_with_channel};
use crate::fake::soon;
use crate::{channel, config, publish, topic};

fn nsqd_that_tells(lookupds: &[Nsqlookupd]) -> Nsqd {
    let told: Vec<_> =
        lookupds.iter().map(|l| format!("--lookupd-tcp-address={}", l.tcp_address())).collect();
    start_with_channel(&told.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_found_lost_and_found_again() {
    let lookupds = [Nsqlookupd::start().unwrap(), Nsqlookupd::start().unwrap()];
    let nsqds = [nsqd_that_tells(&lookupds), nsqd_that_tells(&lookupds), nsqd_that_tells(&lookupds[1..])];
    let found = Nsqds::Lookup(lookupds.iter().map(Nsqlookupd::http_address).collect());
    let lookup_every = Duration::from_secs(1);
    let options = ConsumerOptions {
        lookup_every,
        max_in_flight: 30,
        ..ConsumerOptions::new(topic(), channel(), found.clone())
    };
    let consumer = Consumer::start(options, config());
    soon(consumer.connected()).await;
    eventually("all are found", || consumer.connections() == 3).await;

    lookupds[0].kill();
    nsqds[0].kill();
    eventually("one is lost", || consumer.connections() == 2).await;
    let producer = Producer::start(found, config());
    let mut published = BTreeSet::new();
    for n in 0..10 {
        let body = bytes::Bytes::from(format!("{n}"));
        publish(&producer, body.clone()).await.unwrap();
        published.insert(body);
    }
    assert_eq!(finish(&consumer, published.len()).await, published);

    nsqds[0].restart().unwrap();
    eventually("it is found again", || consumer.connections() == 3).await;
    nsqds[0].post("/pub?topic=t", b"from the one that returned").unwrap();
    finish(&consumer, 1).await;

    lookupds[0].restart().unwrap();
    lookupds[1].kill();
    nsqds[2].restart().unwrap();
    // The one that knew it is down; it is called where it was.
    eventually("it is taken again", || consumer.connections() == 3).await;
}
