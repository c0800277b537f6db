//! Hints and feedback on their way in, to the fetchers of this process.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};
use tokio_util::sync::{CancellationToken, DropGuard};
use tsp_core::Name;
use tsp_nsq::{Channel, Consumer, ConsumerOptions, Topic};

use super::hub::Nsq;
use super::options::NsqError;
use super::text::{self, Hint, Line};
use super::{metric_names, names};
use crate::inbox::Feedback;
use crate::switchboard::Switchboard;

/// Messages of news taken at a time; each is read at once.
const MAX_IN_FLIGHT: u32 = 256;
/// For the connections to end in order, which makes nsqd remove the channel.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// Listens to the hints and the feedback of some groups, until it is dropped.
#[derive(Debug)]
pub struct NsqNews {
    consumers: Vec<Consumer>,
    _end: DropGuard,
}

impl NsqNews {
    /// `node` names this process and no other: 1 to 54 letters, digits, `.`, `_` and `-`.
    pub fn start(
        nsq: &Arc<Nsq>,
        groups: &[Name],
        node: &str,
        switchboard: &Arc<Switchboard>,
    ) -> Result<Self, NsqError> {
        let channel = names::node_channel(node)?;
        let topics: Vec<_> = groups
            .iter()
            .map(|group| Ok((group.clone(), names::hint_topic(group)?, names::feedback_topic(group)?)))
            .collect::<Result<_, NsqError>>()?;
        let stop = nsq.stop.child_token();
        let mut consumers = Vec::new();
        for (group, hints, feedback) in topics {
            let board = switchboard.clone();
            let of = group.clone();
            let ear = Ear::new(nsq, hints, &channel, "hint");
            consumers.push(ear.consumer.clone());
            let hear = move |hints| route(&board, &of, hints);
            nsq.tracker.spawn(ear.listen(stop.clone(), hear));

            let board = switchboard.clone();
            let ear = Ear::new(nsq, feedback, &channel, "feedback");
            consumers.push(ear.consumer.clone());
            let hear = move |said: Vec<Feedback>| board.feedback(&group, said);
            nsq.tracker.spawn(ear.listen(stop.clone(), hear));
        }
        Ok(Self { consumers, _end: stop.drop_guard() })
    }

    /// Returns when each topic is heard from at least one nsqd.
    pub async fn connected(&self) {
        for consumer in &self.consumers {
            consumer.connected().await;
        }
    }
}

fn route(board: &Switchboard, group: &Name, hints: Vec<Hint>) {
    for hint in hints {
        match hint {
            Hint::Due { config, shard, due_at } => board.due(group, config, shard, due_at),
            Hint::Changed(config) => board.changed(config),
            Hint::Unparked { config, at } => board.unparked(config, at),
        }
    }
}

/// Listens to one topic.
struct Ear {
    topic: Topic,
    consumer: Consumer,
    bad: Counter,
}

impl Ear {
    fn new(nsq: &Arc<Nsq>, topic: Topic, channel: &Channel, kind: &'static str) -> Self {
        let mut wanted = ConsumerOptions::new(topic.clone(), channel.clone(), nsq.options.nsqds());
        wanted.max_in_flight = MAX_IN_FLIGHT;
        wanted.lookup_every = nsq.options.lookup_every;
        // Each hint goes to any one of the nsqds, and only to the channels that are there by then.
        wanted.everywhere = true;
        let consumer = Consumer::start(wanted, nsq.options.consumer());
        Self { topic, consumer, bad: counter!(metric_names::NEWS_BAD, "kind" => kind) }
    }

    async fn listen<L: Line>(self, stop: CancellationToken, hear: impl Fn(Vec<L>)) {
        let listening = async {
            while let Some(message) = self.consumer.recv().await {
                let (lines, bad) = text::unpack(&message.body);
                // One that came after its time comes again, which does no harm.
                let _ = message.finish();
                hear(lines);
                if bad > 0 {
                    self.bad.increment(bad as u64);
                    tracing::warn!(topic = %self.topic, lines = bad, "news that cannot be read");
                }
            }
        };
        let _ = stop.run_until_cancelled(listening).await;
        self.consumer.close(CLOSE_WITHIN).await;
    }
}
