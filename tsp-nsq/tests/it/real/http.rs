//! The HTTP calls, as nsqd and nsqlookupd understand them.

use bytes::Bytes;
use peers::{Nsqd, Nsqlookupd};
use tsp_nsq::http::{LookupdHttp, NsqdHttp};
use tsp_nsq::{Channel, Producer, Topic};

use super::{eventually, start};
use crate::fake::soon;
use crate::{channel, config, fixed, publish, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nsqd_is_set_up_counted_and_cleared() {
    let nsqd = start(&[]);
    let http = NsqdHttp::new(&nsqd.http_address());
    http.ping().await.unwrap();
    let info = http.info().await.unwrap();
    assert_eq!((info.version.as_str(), info.broadcast_address.as_str()), ("1.3.0", "127.0.0.1"));
    assert_eq!(format!("127.0.0.1:{}", info.tcp_port), nsqd.tcp_address());

    let (topic, channel) = (Topic::new("hints#ephemeral").unwrap(), Channel::new("one#ephemeral").unwrap());
    assert!(http.create_channel(&topic, &channel).await.is_err(), "there is no topic yet");
    for _ in 0..2 {
        http.create_topic(&topic).await.unwrap();
        http.create_channel(&topic, &channel).await.unwrap();
    }
    let producer = Producer::start(fixed(&[&nsqd.tcp_address()]), config());
    for body in ["one", "two", "three"] {
        soon(producer.publish(&topic, Bytes::from_static(body.as_bytes()))).await.unwrap();
    }
    let stats = http.stats(Some(&topic), Some(&channel)).await.unwrap();
    let counted = stats.channel(topic.as_str(), channel.as_str()).unwrap();
    assert_eq!((counted.backlog(), counted.message_count, counted.client_count), (3, 3, 0));
    assert_eq!((stats.health.as_str(), stats.topics[0].message_bytes), ("OK", 11));

    http.empty_channel(&topic, &channel).await.unwrap();
    http.empty_topic(&topic).await.unwrap();
    let stats = http.stats(None, None).await.unwrap();
    assert_eq!(stats.channel(topic.as_str(), channel.as_str()).unwrap().backlog(), 0);
    http.delete_topic(&topic).await.unwrap();
    assert!(http.stats(None, None).await.unwrap().topics.is_empty());
    nsqd.kill();
    assert!(http.ping().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_registered_at_a_lookupd_gives_new_topics_their_channel() {
    let lookupd = Nsqlookupd::start().unwrap();
    let http = LookupdHttp::new(&lookupd.http_address());
    http.ping().await.unwrap();
    assert!(http.lookup(&topic()).await.unwrap().producers.is_empty());
    http.create_topic(&topic()).await.unwrap();
    http.create_channel(&topic(), &channel()).await.unwrap();
    assert_eq!(http.lookup(&topic()).await.unwrap().channels, ["c"]);

    // The topic is made by the first publish, and has its channel although nobody has subscribed.
    let nsqd = Nsqd::start_with(&[&format!("--lookupd-tcp-address={}", lookupd.tcp_address())]).unwrap();
    eventually("it has registered", || lookupd.get("/nodes").unwrap().contains("tcp_port")).await;
    let producer = Producer::start(fixed(&[&nsqd.tcp_address()]), config());
    publish(&producer, "hi").await.unwrap();
    let stats = NsqdHttp::new(&nsqd.http_address()).stats(None, None).await.unwrap();
    assert_eq!(stats.channel("t", "c").unwrap().backlog(), 1);
    eventually("the topic is announced", || lookupd.get("/lookup?topic=t").unwrap().contains("tcp_port"))
        .await;
    let found = http.lookup(&topic()).await.unwrap();
    assert_eq!(found.producers[0].address(), nsqd.tcp_address());
    assert_eq!(http.nodes().await.unwrap()[0].topics, ["t"]);
}
