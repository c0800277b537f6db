//! The calls of nsqd.

use serde::Deserialize;

use super::request::{HttpError, Server, escaped};
use super::stats::Stats;
use crate::names::{Channel, Topic};

/// An nsqd by its HTTP port (4151 unless told otherwise).
#[derive(Debug, Clone)]
pub struct NsqdHttp {
    server: Server,
}

/// The answer of `/info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Info {
    pub version: String,
    pub broadcast_address: String,
    pub hostname: String,
    pub tcp_port: u16,
    pub http_port: u16,
    /// In seconds since 1970.
    pub start_time: i64,
}

impl NsqdHttp {
    /// `http://host:port` or `host:port`. Nothing is sent before the first call, each of which has 5 seconds.
    pub fn new(address: &str) -> Self {
        Self { server: Server::new(address) }
    }

    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// Fails with status 500 when the last write to disk did.
    pub async fn ping(&self) -> Result<(), HttpError> {
        self.server.ping().await
    }

    pub async fn info(&self) -> Result<Info, HttpError> {
        self.server.get("/info").await
    }

    /// Of one topic, or one channel of it, or all there are.
    pub async fn stats(&self, topic: Option<&Topic>, channel: Option<&Channel>) -> Result<Stats, HttpError> {
        let mut path = "/stats?format=json&include_clients=false&include_mem=false".to_owned();
        if let Some(topic) = topic {
            path = format!("{path}&topic={}", escaped(topic.as_str()));
        }
        if let Some(channel) = channel {
            path = format!("{path}&channel={}", escaped(channel.as_str()));
        }
        self.server.get(&path).await
    }

    /// Does nothing if it exists.
    pub async fn create_topic(&self, topic: &Topic) -> Result<(), HttpError> {
        self.topic("/topic/create", topic).await
    }

    /// With all its channels and messages.
    pub async fn delete_topic(&self, topic: &Topic) -> Result<(), HttpError> {
        self.topic("/topic/delete", topic).await
    }

    /// Drops what waits in the topic, not what its channels hold.
    pub async fn empty_topic(&self, topic: &Topic) -> Result<(), HttpError> {
        self.topic("/topic/empty", topic).await
    }

    /// The topic must exist.
    pub async fn create_channel(&self, topic: &Topic, channel: &Channel) -> Result<(), HttpError> {
        self.channel("/channel/create", topic, channel).await
    }

    pub async fn delete_channel(&self, topic: &Topic, channel: &Channel) -> Result<(), HttpError> {
        self.channel("/channel/delete", topic, channel).await
    }

    pub async fn empty_channel(&self, topic: &Topic, channel: &Channel) -> Result<(), HttpError> {
        self.channel("/channel/empty", topic, channel).await
    }

    async fn topic(&self, path: &str, topic: &Topic) -> Result<(), HttpError> {
        self.server.post(&format!("{path}?topic={}", escaped(topic.as_str()))).await
    }

    async fn channel(&self, path: &str, topic: &Topic, channel: &Channel) -> Result<(), HttpError> {
        let (topic, channel) = (escaped(topic.as_str()), escaped(channel.as_str()));
        self.server.post(&format!("{path}?topic={topic}&channel={channel}")).await
    }
}
