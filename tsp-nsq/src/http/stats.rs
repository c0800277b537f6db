//! What nsqd counts.

use serde::{Deserialize, Deserializer};

/// The answer of `/stats`, as far as it is read here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub version: String,
    /// `OK`, or what the disk said.
    pub health: String,
    /// In seconds since 1970.
    pub start_time: i64,
    #[serde(deserialize_with = "null_is_none")]
    pub topics: Vec<TopicStats>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TopicStats {
    #[serde(rename = "topic_name")]
    pub name: String,
    /// Messages that wait to be copied to a channel, those on disk included.
    pub depth: i64,
    pub backend_depth: i64,
    pub message_count: u64,
    pub message_bytes: u64,
    pub paused: bool,
    #[serde(deserialize_with = "null_is_none")]
    pub channels: Vec<ChannelStats>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ChannelStats {
    #[serde(rename = "channel_name")]
    pub name: String,
    /// Messages that wait, those on disk included.
    pub depth: i64,
    pub backend_depth: i64,
    pub in_flight_count: i64,
    pub deferred_count: i64,
    pub message_count: u64,
    pub requeue_count: u64,
    pub timeout_count: u64,
    pub client_count: i64,
    pub paused: bool,
}

/// nsqd writes `null` for a list that it has never had anything in.
fn null_is_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl ChannelStats {
    /// All that is not finished: waiting, in flight, deferred.
    pub fn backlog(&self) -> i64 {
        self.depth + self.in_flight_count + self.deferred_count
    }
}

impl Stats {
    /// The counts of one channel, if nsqd has it.
    pub fn channel(&self, topic: &str, channel: &str) -> Option<&ChannelStats> {
        let topic = self.topics.iter().find(|known| known.name == topic)?;
        topic.channels.iter().find(|known| known.name == channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_all_that_is_not_finished() {
        let stats: Stats = serde_json::from_str(
            r#"{"version":"1.3.0","health":"OK","start_time":1,"topics":[{"topic_name":"t","depth":9,
                "channels":[{"channel_name":"c","depth":5,"backend_depth":2,"in_flight_count":3,
                "deferred_count":1,"clients":[],"e2e_processing_latency":{}}]}],"producers":null}"#,
        )
        .expect("as nsqd writes it");
        assert_eq!(stats.channel("t", "c").map(ChannelStats::backlog), Some(9));
        assert_eq!(stats.channel("t", "d"), None);
        assert_eq!(stats.channel("u", "c"), None);
        let empty = serde_json::from_str(r#"{"version":"1.3.0","topics":null}"#);
        let empty: Stats = empty.expect("as nsqd answers for a topic that it does not have");
        assert!(empty.topics.is_empty());
    }
}
