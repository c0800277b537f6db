//! The calls of nsqlookupd.

use serde::Deserialize;

use super::request::{HttpError, Server, escaped};
use crate::names::{Channel, Topic};

/// An nsqlookupd by its HTTP port (4161 unless told otherwise).
#[derive(Debug, Clone)]
pub struct LookupdHttp {
    server: Server,
}

/// Where a topic is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Lookup {
    pub channels: Vec<String>,
    pub producers: Vec<Node>,
}

/// An nsqd, as an nsqlookupd knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    pub remote_address: String,
    pub hostname: String,
    pub broadcast_address: String,
    pub tcp_port: u16,
    pub http_port: u16,
    pub version: String,
    /// Only in the answer of [`LookupdHttp::nodes`].
    pub topics: Vec<String>,
}

impl Node {
    /// `host:port` for TCP, as the nsqd itself announces it.
    pub fn address(&self) -> String {
        with_port(&self.broadcast_address, self.tcp_port)
    }

    /// `host:port` for HTTP.
    pub fn http_address(&self) -> String {
        with_port(&self.broadcast_address, self.http_port)
    }
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl LookupdHttp {
    /// `http://host:port` or `host:port`. Nothing is sent before the first call, each of which has 5 seconds.
    pub fn new(address: &str) -> Self {
        Self { server: Server::new(address) }
    }

    pub fn address(&self) -> &str {
        self.server.address()
    }

    pub async fn ping(&self) -> Result<(), HttpError> {
        self.server.ping().await
    }

    /// Where `topic` is; nowhere if nobody has announced it.
    pub async fn lookup(&self, topic: &Topic) -> Result<Lookup, HttpError> {
        match self.server.get(&format!("/lookup?topic={}", escaped(topic.as_str()))).await {
            Err(error) if error.is_missing() => Ok(Lookup::default()),
            answer => answer,
        }
    }

    /// All nsqds.
    pub async fn nodes(&self) -> Result<Vec<Node>, HttpError> {
        #[derive(Deserialize)]
        struct Nodes {
            producers: Vec<Node>,
        }
        self.server.get::<Nodes>("/nodes").await.map(|nodes| nodes.producers)
    }

    /// Registers the name here; it makes no nsqd have the topic.
    pub async fn create_topic(&self, topic: &Topic) -> Result<(), HttpError> {
        self.server.post(&format!("/topic/create?topic={}", escaped(topic.as_str()))).await
    }

    pub async fn delete_topic(&self, topic: &Topic) -> Result<(), HttpError> {
        self.server.post(&format!("/topic/delete?topic={}", escaped(topic.as_str()))).await
    }

    /// Registers the names here; an nsqd that gets the topic later makes the channel too.
    pub async fn create_channel(&self, topic: &Topic, channel: &Channel) -> Result<(), HttpError> {
        let (topic, channel) = (escaped(topic.as_str()), escaped(channel.as_str()));
        self.server.post(&format!("/channel/create?topic={topic}&channel={channel}")).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_the_node_announces() {
        let node = |host: &str| Node {
            broadcast_address: host.to_owned(),
            tcp_port: 4150,
            http_port: 4151,
            ..Node::default()
        };
        assert_eq!(node("nsqd").address(), "nsqd:4150");
        assert_eq!(node("nsqd").http_address(), "nsqd:4151");
        assert_eq!(node("fe80::1").address(), "[fe80::1]:4150");
    }
}
