//! The HTTP side of all nsqds: what they hold, and making topics and channels before they are needed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tsp_nsq::http::{HttpError, NsqdHttp, Stats};
use tsp_nsq::{Channel, Topic, http_addresses};

use super::options::NsqOptions;
use super::restart_detector::Sign;

/// nsqd answers in a millisecond; one that takes longer than this does not count.
const ASK_WITHIN: Duration = Duration::from_secs(1);

type NsqdList = Option<Arc<[NsqdHttp]>>;

/// What all nsqds together hold of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Messages that wait.
    pub depth: usize,
    /// Messages at workers, not yet acknowledged.
    pub in_flight: usize,
    /// Connections of workers: each has one to each nsqd.
    pub consumers: usize,
    /// All messages since the nsqds started.
    pub message_count: u64,
    /// nsqds that answered; what the others hold is not in the numbers.
    pub nsqds: usize,
    /// nsqds that did not answer.
    pub silent: usize,
}

impl QueueDepth {
    fn add(&mut self, stats: &Stats, topic: &Topic, channel: &Channel) {
        self.nsqds += 1;
        let Some(whole) = stats.topics.iter().find(|known| known.name == topic.as_str()) else { return };
        // What is not yet copied to the channel waits as well.
        self.depth += count(whole.depth);
        match stats.channel(topic.as_str(), channel.as_str()) {
            Some(part) => {
                self.depth += count(part.depth) + count(part.deferred_count);
                self.in_flight += count(part.in_flight_count);
                self.consumers += count(part.client_count);
                self.message_count += part.message_count;
            }
            None => self.message_count += whole.message_count,
        }
    }
}

fn count(figure: i64) -> usize {
    usize::try_from(figure).unwrap_or(0)
}

/// What all nsqds have answered.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) depth: QueueDepth,
    /// Why the last of those that did not answer was silent.
    pub(crate) silent: Option<String>,
    /// What each has answered, by address.
    pub(crate) signs: Vec<(String, Option<Sign>)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Nodes {
    known: watch::Receiver<NsqdList>,
}

impl Nodes {
    pub(crate) fn start(options: &NsqOptions, tracker: &TaskTracker, stop: &CancellationToken) -> Self {
        if options.lookupd_http.is_empty() {
            let fixed = options.nsqd_http.iter().map(|address| NsqdHttp::new(address)).collect();
            return Self { known: watch::channel(Some(fixed)).1 };
        }
        let (lookups, jitter) = (&options.lookupd_http, options.jitter.clone());
        let (every, known) = (options.lookup_every, &options.known_nsqds);
        let mut addresses = http_addresses(lookups, every, jitter, known, tracker, stop.clone());
        let (sender, known) = watch::channel(None);
        tracker.spawn(async move {
            // Until the search for them is stopped.
            while addresses.changed().await.is_ok() {
                let clients = addresses.borrow_and_update().as_ref().map(clients);
                sender.send_replace(clients);
            }
        });
        Self { known }
    }

    /// Asks all nsqds. With `create`, one that does not have the channel gets it.
    pub(crate) async fn survey(&self, topic: &Topic, channel: &Channel, create: bool) -> Survey {
        let nodes = self.all().await;
        let asked = nodes.iter().map(|node| async {
            match timeout(ASK_WITHIN, ask(node, topic, channel, create)).await {
                Ok(answer) => answer.map_err(|error| error.to_string()),
                Err(_) => Err(format!("`{}` takes too long to answer", node.address())),
            }
        });
        let mut survey = Survey::default();
        for (node, answer) in nodes.iter().zip(join_all(asked).await) {
            let sign = answer.as_ref().ok().map(|stats| sign(stats, topic));
            survey.signs.push((node.address().to_owned(), sign));
            match answer {
                Ok(stats) => survey.depth.add(&stats, topic, channel),
                Err(reason) => {
                    survey.depth.silent += 1;
                    survey.silent = Some(reason);
                }
            }
        }
        if nodes.is_empty() {
            survey.silent = Some("no nsqd is known".to_owned());
        }
        survey
    }

    /// None when no lookup has answered.
    async fn all(&self) -> Arc<[NsqdHttp]> {
        let mut known = self.known.clone();
        match timeout(ASK_WITHIN, known.wait_for(Option::is_some)).await {
            Ok(Ok(nodes)) => nodes.clone().unwrap_or_default(),
            _ => Arc::default(),
        }
    }
}

fn clients(addresses: &BTreeSet<String>) -> Arc<[NsqdHttp]> {
    addresses.iter().map(|address| NsqdHttp::new(address)).collect()
}

fn sign(stats: &Stats, topic: &Topic) -> Sign {
    let whole = stats.topics.iter().find(|known| known.name == topic.as_str());
    Sign { start_time: stats.start_time, message_count: whole.map_or(0, |whole| whole.message_count) }
}

async fn ask(node: &NsqdHttp, topic: &Topic, channel: &Channel, create: bool) -> Result<Stats, HttpError> {
    // Asked for one channel, nsqd leaves out a topic that does not have it.
    let stats = match node.stats(Some(topic), None).await {
        // nsqd has no such topic: it says `null` in place of an empty list.
        Err(HttpError::Unreadable(_)) => Stats::default(),
        answer => answer?,
    };
    if create && stats.channel(topic.as_str(), channel.as_str()).is_none() {
        node.create_topic(topic).await?;
        node.create_channel(topic, channel).await?;
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use tsp_nsq::http::{ChannelStats, TopicStats};

    use super::*;

    #[test]
    fn a_depth_is_the_sum_over_all_nsqds() {
        let topic = Topic::new("t").unwrap();
        let channel = Channel::new("worker").unwrap();
        let stats = |channels: Vec<ChannelStats>| Stats {
            topics: vec![TopicStats {
                name: "t".to_owned(),
                depth: 2,
                message_count: 9,
                channels,
                ..TopicStats::default()
            }],
            ..Stats::default()
        };
        let worker = ChannelStats {
            name: "worker".to_owned(),
            depth: 3,
            in_flight_count: 4,
            deferred_count: 1,
            client_count: 5,
            message_count: 7,
            ..ChannelStats::default()
        };
        let mut depth = QueueDepth::default();
        depth.add(&stats(vec![worker]), &topic, &channel);
        depth.add(&stats(vec![]), &topic, &channel);
        depth.add(&Stats::default(), &topic, &channel);
        let sum = QueueDepth { depth: 8, in_flight: 4, consumers: 5, message_count: 16, nsqds: 3, silent: 0 };
        assert_eq!(depth, sum);
    }
}
