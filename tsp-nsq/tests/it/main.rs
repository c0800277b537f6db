//! The client against a scripted nsqd, which does what a real one seldom does, and against real ones.

mod auto;
mod consuming;
mod fake;
mod handshake;
mod http_stub;
mod lookupd;
mod measured;
mod producing;
mod real;
mod sharing;

use std::time::Duration;

use bytes::Bytes;
use tsp_nsq::{
    Backoff, Channel, ClientConfig, Consumer, ConsumerOptions, Nsqds, Producer, PublishError, Topic,
};

fn topic() -> Topic {
    Topic::new("t").unwrap()
}

fn channel() -> Channel {
    Channel::new("c").unwrap()
}

/// Reconnects fast.
fn config() -> ClientConfig {
    let reconnect = Backoff { initial: Duration::from_millis(20), max: Duration::from_millis(200) };
    ClientConfig { reconnect, ..ClientConfig::default() }
}

fn fixed(addresses: &[&str]) -> Nsqds {
    Nsqds::Fixed(addresses.iter().map(|&address| address.to_owned()).collect())
}

/// A consumer of channel `c` of topic `t`.
fn consumer(addresses: &[&str], max_in_flight: u32) -> Consumer {
    let options =
        ConsumerOptions { max_in_flight, ..ConsumerOptions::new(topic(), channel(), fixed(addresses)) };
    Consumer::start(options, config())
}

async fn publish(producer: &Producer, body: impl Into<Bytes>) -> Result<(), PublishError> {
    fake::soon(producer.publish(&topic(), body.into())).await
}

/// Publishes until it succeeds.
async fn insist(producer: &Producer, body: &'static str) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while publish(producer, body).await.is_err() {
        ticks.tick().await;
    }
}
