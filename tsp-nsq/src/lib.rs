//! A client for [NSQ](https://nsq.io): producer, consumer, and the HTTP calls of nsqd and nsqlookupd.
//!
//! ```no_run
//! use std::time::Duration;
//! use tsp_nsq::{Channel, ClientConfig, Consumer, ConsumerOptions, Nsqds, Producer, Topic};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let nsqds = Nsqds::Fixed(vec!["127.0.0.1:4150".to_owned()]);
//! let topic = Topic::new("orders")?;
//!
//! let producer = Producer::start(nsqds.clone(), ClientConfig::default());
//! producer.publish(&topic, "order 42".into()).await?; // nsqd has it
//!
//! let options = ConsumerOptions::new(topic, Channel::new("billing")?, nsqds);
//! let consumer = Consumer::start(options, ClientConfig::default());
//! while let Some(message) = consumer.recv().await {
//!     println!("{:?}, attempt {}", message.body, message.attempts);
//!     message.finish()?;
//! }
//! consumer.close(Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! What it promises (`docs/reference/nsq.md` gives the reasons):
//!
//! * [`Producer::publish`] returns when nsqd has answered *this* publish. A connection that breaks before gives
//!   [`PublishError::Unknown`], and nothing is sent a second time behind the caller's back.
//! * Heartbeats are answered by the task that reads, so neither a slow handler nor an idle producer loses its
//!   connection.
//! * A connection that ends, for whatever reason, is made again, for ever, with growing and jittered waits.
//!   Only closing ends that.
//! * A [`Message`] belongs to the connection that brought it; to finish it after that is [`Stale`], not a
//!   command on the wrong connection. A message that is dropped is requeued.
//! * A [`Consumer`] has one limit on messages in flight, shared out over all its connections.
//! * Frames are checked against a limit before room is made for them, and what nobody takes is bounded.
//!
//! There is no deferred publishing, since nsqd loses the delay in a crash. Metrics go to the `metrics` crate;
//! their names are in [`metric_names`]. Everything runs in tasks of the tokio runtime in which a producer or
//! consumer is started.

mod backoff;
pub mod codec;
mod config;
mod consumer;
mod discovery;
mod error;
pub mod http;
pub mod metric_names;
mod names;
mod producer;
mod wire;

pub use backoff::Backoff;
pub use codec::MessageId;
pub use config::{ClientConfig, Compression, Jitter, Nsqds, OutputBuffer, Secret};
pub use consumer::{Consumer, ConsumerOptions, Message};
pub use discovery::{Addresses, KnownNsqds, http_addresses};
pub use error::{PublishError, Stale};
pub use names::{Channel, NameError, Topic};
pub use producer::Producer;
pub use wire::tls::{ClientCert, TlsConfig, TlsConfigError, TlsOptions, TlsRoots};

#[cfg(test)]
mod tests {
    use super::*;

    fn sent<T: Send>(_: &T) {}
    fn shared<T: Send + Sync>() {}

    #[tokio::test]
    async fn all_of_it_may_be_used_from_any_task() {
        shared::<(Producer, Consumer, Message, http::NsqdHttp, http::LookupdHttp)>();
        let nsqds = Nsqds::Fixed(Vec::new());
        let (topic, channel) = (Topic::new("t").expect("valid"), Channel::new("c").expect("valid"));
        let producer = Producer::start(nsqds.clone(), ClientConfig::default());
        let options = ConsumerOptions::new(topic.clone(), channel, nsqds);
        let consumer = Consumer::start(options, ClientConfig::default());
        sent(&producer.publish_all(&topic, Vec::new()));
        sent(&producer.close(std::time::Duration::ZERO));
        sent(&consumer.recv());
        sent(&consumer.ready());
        sent(&consumer.connected());
        sent(&consumer.close(std::time::Duration::ZERO));
        let nowhere = producer.publish(&topic, "hi".into());
        sent(&nowhere);
        assert_eq!(nowhere.await, Err(PublishError::Unavailable { why: "no nsqd is known".to_owned() }));
    }
}
