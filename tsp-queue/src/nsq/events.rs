//! Hints and feedback on their way in, to the fetchers of this process.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};
use tokio_util::sync::{CancellationToken, DropGuard};
use tsp_core::Name;
use tsp_nsq::{Channel, Consumer, ConsumerOptions, Topic};

use super::context::NsqContext;
use super::options::NsqError;
use super::records::{self, Hint, Record};
use super::{metric_names, names};
use crate::event_router::EventRouter;
use crate::inbox::Feedback;

/// Messages of events taken at a time; each is read at once.
const MAX_IN_FLIGHT: u32 = 256;
/// For the connections to end in order, which makes nsqd remove the channel.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// Listens to the hints and the feedback of some groups, until it is dropped.
#[derive(Debug)]
pub struct NsqEvents {
    consumers: Vec<Consumer>,
    _end: DropGuard,
}

impl NsqEvents {
    /// `node` names this process and no other: 1 to 54 letters, digits, `.`, `_` and `-`.
    pub fn start(
        nsq: &Arc<NsqContext>,
        groups: &[Name],
        node: &str,
        event_router: &Arc<EventRouter>,
    ) -> Result<Self, NsqError> {
        let channel = names::node_channel(node)?;
        let topics: Vec<_> = groups
            .iter()
            .map(|group| Ok((group.clone(), names::hint_topic(group)?, names::feedback_topic(group)?)))
            .collect::<Result<_, NsqError>>()?;
        let stop = nsq.stop.child_token();
        let mut consumers = Vec::new();
        for (group, hints, feedback) in topics {
            let router = event_router.clone();
            let of = group.clone();
            let listener = TopicListener::new(nsq, hints, &channel, "hint");
            consumers.push(listener.consumer.clone());
            let receive = move |hints| route(&router, &of, hints);
            nsq.tracker.spawn(listener.listen(stop.clone(), receive));

            let router = event_router.clone();
            let listener = TopicListener::new(nsq, feedback, &channel, "feedback");
            consumers.push(listener.consumer.clone());
            let receive = move |said: Vec<Feedback>| router.feedback(&group, said);
            nsq.tracker.spawn(listener.listen(stop.clone(), receive));
        }
        Ok(Self { consumers, _end: stop.drop_guard() })
    }

    /// Returns when each topic is subscribed to at one nsqd at least.
    pub async fn connected(&self) {
        for consumer in &self.consumers {
            consumer.connected().await;
        }
    }
}

fn route(router: &EventRouter, group: &Name, hints: Vec<Hint>) {
    for hint in hints {
        match hint {
            Hint::Due { config, shard, due_at } => router.due(group, config, shard, due_at),
            Hint::Changed(config) => router.changed(config),
            Hint::Unparked { config, at } => router.unparked(config, at),
        }
    }
}

/// Listens to one topic.
struct TopicListener {
    topic: Topic,
    consumer: Consumer,
    bad: Counter,
}

impl TopicListener {
    fn new(nsq: &Arc<NsqContext>, topic: Topic, channel: &Channel, kind: &'static str) -> Self {
        let mut wanted = ConsumerOptions::new(topic.clone(), channel.clone(), nsq.options.nsqds());
        wanted.max_in_flight = MAX_IN_FLIGHT;
        wanted.lookup_every = nsq.options.lookup_every;
        // Each hint goes to any one of the nsqds, and only to the channels that are there by then.
        wanted.everywhere = true;
        let consumer = Consumer::start(wanted, nsq.options.consumer());
        Self { topic, consumer, bad: counter!(metric_names::EVENTS_BAD, "kind" => kind) }
    }

    async fn listen<L: Record>(self, stop: CancellationToken, receive: impl Fn(Vec<L>)) {
        let listening = async {
            while let Some(message) = self.consumer.recv().await {
                let (lines, bad) = records::unpack(&message.body);
                // One that came after its time is delivered again, which does no harm.
                let _ = message.finish();
                receive(lines);
                if bad > 0 {
                    self.bad.increment(bad as u64);
                    tracing::warn!(topic = %self.topic, lines = bad, "events that cannot be read");
                }
            }
        };
        let _ = stop.run_until_cancelled(listening).await;
        self.consumer.close(CLOSE_WITHIN).await;
    }
}
