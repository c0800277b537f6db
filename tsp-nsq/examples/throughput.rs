//! Publishes and consumes through a running nsqd, and says how fast:
//! `cargo run --release -p tsp-nsq --example throughput -- 127.0.0.1:4150 100000 [snappy|deflate]`.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;
use tsp_nsq::{Channel, ClientConfig, Compression, Consumer, ConsumerOptions, Nsqds, Producer, Topic};

const BODY_BYTES: usize = 200;
const PUBLISHERS: usize = 64;
const ROUND_TRIPS: usize = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:4150".to_owned());
    let count: usize = args.next().map_or(Ok(100_000), |text| text.parse())?;
    let compression = match args.next().as_deref() {
        Some("snappy") => Compression::Snappy,
        Some("deflate") => Compression::Deflate(6),
        _ => Compression::None,
    };
    let config = ClientConfig { compression, ..ClientConfig::default() };
    let (topic, nsqds) = (Topic::new("throughput")?, Nsqds::Fixed(vec![address]));
    let producer = Producer::start(nsqds.clone(), config.clone());
    let options = ConsumerOptions {
        max_in_flight: 1_000,
        ..ConsumerOptions::new(topic.clone(), Channel::new("all")?, nsqds)
    };
    let consumer = Consumer::start(options, config);
    consumer.connected().await;

    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let publishing = async {
        let start = Instant::now();
        let each = (0..PUBLISHERS).map(|_| async {
            for _ in 0..count / PUBLISHERS {
                producer.publish(&topic, body.clone()).await?;
            }
            Ok::<_, tsp_nsq::PublishError>(())
        });
        join_all(each).await.into_iter().collect::<Result<(), _>>()?;
        report("published one by one", count / PUBLISHERS * PUBLISHERS, start);
        Ok::<_, tsp_nsq::PublishError>(())
    };
    let (published, ()) = tokio::join!(publishing, consume(&consumer, count / PUBLISHERS * PUBLISHERS));
    published?;

    let start = Instant::now();
    let (results, ()) =
        tokio::join!(producer.publish_all(&topic, vec![body; count]), consume(&consumer, count));
    results.into_iter().collect::<Result<(), _>>()?;
    report("published in batches", count, start);

    let (times, ()) = tokio::join!(one_after_another(&producer, &topic), consume(&consumer, ROUND_TRIPS));
    let times = times?;
    println!("one publish: p50 {:?}, p99 {:?}", times[ROUND_TRIPS / 2], times[ROUND_TRIPS * 99 / 100]);
    producer.close(Duration::from_secs(5)).await;
    consumer.close(Duration::from_secs(5)).await;
    Ok(())
}

/// How long each took, the shortest first.
async fn one_after_another(
    producer: &Producer,
    topic: &Topic,
) -> Result<Vec<Duration>, tsp_nsq::PublishError> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        producer.publish(topic, Bytes::from_static(b"x")).await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

async fn consume(consumer: &Consumer, count: usize) {
    let start = Instant::now();
    for _ in 0..count {
        let Some(message) = consumer.recv().await else { return };
        // Stale only if the connection has just been lost: the message is delivered again.
        let _ = message.finish();
    }
    report("consumed", count, start);
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn report(what: &str, count: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {count} in {seconds:.2} s, {:.0}/s", count as f64 / seconds);
}
