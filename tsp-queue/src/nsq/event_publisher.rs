//! Hints and feedback on their way out: callers leave them here and never wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tsp_core::{ConfigId, Name, ShardId, Timestamp};
use tsp_nsq::{NameError, Topic};

use super::coalescer::{COALESCED_MAX, Coalescer, FeedbackBatch, Hints};
use super::context::NsqContext;
use super::records::Hint;
use super::{metric_names, names};
use crate::inbox::{Feedback, FeedbackSink};

/// For what is left when the process stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Tells the fetchers of a group what callers did. Lossy: they find the rest by looking.
#[derive(Debug)]
pub struct NsqHints {
    publisher: Arc<EventPublisher<Hints>>,
}

/// Says to which group a config belongs.
pub type GroupOf = Arc<dyn Fn(ConfigId) -> Name + Send + Sync>;

/// Tells the fetchers what workers say. Lossy, as hints are.
pub struct NsqFeedback {
    publisher: Arc<EventPublisher<FeedbackBatch>>,
    group_of: GroupOf,
    /// Those that were published to: one of them gets the feedback on a task whose config is not known. Empty
    /// between two reports.
    groups: Mutex<BTreeMap<Name, Vec<Feedback>>>,
}

impl NsqHints {
    pub fn start(nsq: &Arc<NsqContext>) -> Self {
        Self { publisher: EventPublisher::start(nsq, "hint", names::hint_topic) }
    }

    /// A task of `config` became due at `due_at`.
    pub fn due(&self, group: &Name, config: ConfigId, shard: ShardId, due_at: Timestamp) {
        self.publisher.add(group, [Hint::Due { config, shard, due_at }]);
    }

    /// `config` is not what it was. When it moved to another group, tell both.
    pub fn changed(&self, group: &Name, config: ConfigId) {
        self.publisher.add(group, [Hint::Changed(config)]);
    }

    /// What receivers of `config` asked for until `at` is over.
    pub fn unparked(&self, group: &Name, config: ConfigId, at: Timestamp) {
        self.publisher.add(group, [Hint::Unparked { config, at }]);
    }
}

impl NsqFeedback {
    pub fn start(nsq: &Arc<NsqContext>, group_of: GroupOf) -> Self {
        let publisher = EventPublisher::start(nsq, "feedback", names::feedback_topic);
        Self { publisher, group_of, groups: Mutex::default() }
    }
}

impl std::fmt::Debug for NsqFeedback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NsqFeedback").field("sender", &self.publisher).finish_non_exhaustive()
    }
}

impl FeedbackSink for NsqFeedback {
    fn report(&self, batch: Vec<Feedback>) {
        let (known, gone): (Vec<_>, Vec<_>) = batch.into_iter().partition(|said| said.config.is_some());
        let mut groups = self.groups.lock();
        for said in known {
            let Some(group) = said.config.map(|config| (self.group_of)(config)) else { continue };
            groups.entry(group).or_default().push(said);
        }
        for (group, batch) in &mut *groups {
            let batch = std::mem::take(batch);
            if !(batch.is_empty() && gone.is_empty()) {
                self.publisher.add(group, batch.into_iter().chain(gone.iter().cloned()));
            }
        }
    }
}

/// Gathers while a message is on its way, and for a tick after it.
struct EventPublisher<G> {
    nsq: Arc<NsqContext>,
    topic_of: fn(&Name) -> Result<Topic, NameError>,
    coalesced: Mutex<HashMap<Name, G>>,
    some: Notify,
    dropped: Counter,
    lost: Counter,
}

/// Messages that were not sent.
struct UnsentMessages {
    messages: Vec<Bytes>,
    why: String,
}

impl<G> std::fmt::Debug for EventPublisher<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<G: Coalescer> EventPublisher<G> {
    fn start(
        nsq: &Arc<NsqContext>,
        kind: &'static str,
        topic_of: fn(&Name) -> Result<Topic, NameError>,
    ) -> Arc<Self> {
        let publisher = Arc::new(Self {
            nsq: nsq.clone(),
            topic_of,
            coalesced: Mutex::default(),
            some: Notify::new(),
            dropped: counter!(metric_names::EVENTS_DROPPED, "kind" => kind),
            lost: counter!(metric_names::EVENTS_LOST, "kind" => kind),
        });
        let (running, stop) = (publisher.clone(), nsq.stop.clone());
        nsq.tracker.spawn(async move {
            let _ = stop.run_until_cancelled(running.run()).await;
            let _ = timeout(LAST_WORDS, running.step()).await;
        });
        publisher
    }

    fn add(&self, group: &Name, items: impl IntoIterator<Item = G::Item>) {
        let mut dropped = 0;
        {
            let mut coalesced = self.coalesced.lock();
            if !coalesced.contains_key(group) {
                coalesced.insert(group.clone(), G::default());
            }
            let own = coalesced.get_mut(group).expect("it is there now");
            for item in items {
                dropped += u64::from(own.add(item, COALESCED_MAX));
            }
        }
        if dropped > 0 {
            self.dropped.increment(dropped);
        }
        self.some.notify_one();
    }

    async fn run(&self) {
        loop {
            self.some.notified().await;
            self.step().await;
            sleep(self.nsq.options.event_tick).await;
        }
    }

    /// Sends what has gathered.
    async fn step(&self) {
        let coalesced = std::mem::take(&mut *self.coalesced.lock());
        for (group, events) in coalesced {
            let count = events.count();
            if let Err(error) = self.send(&group, events).await {
                tracing::debug!(%group, error, count, "events lost");
                self.lost.increment(count as u64);
            }
        }
    }

    async fn send(&self, group: &Name, events: G) -> Result<(), String> {
        let topic = (self.topic_of)(group).map_err(|error| error.to_string())?;
        let messages = events.into_messages();
        let Err(left) = self.publish(&topic, messages).await else { return Ok(()) };
        // An nsqd that was lost is skipped the second time. A repeated event does no harm.
        self.publish(&topic, left.messages).await.map_err(|left| left.why)
    }

    /// Gives back the messages that are not known to be there.
    async fn publish(&self, topic: &Topic, messages: Vec<Bytes>) -> Result<(), UnsentMessages> {
        let sent = self.nsq.producer.publish_all(topic, messages.clone());
        let Ok(outcomes) = timeout(self.nsq.options.answer_within, sent).await else {
            return Err(UnsentMessages { messages, why: "no answer in time".to_owned() });
        };
        let failed =
            messages.into_iter().zip(outcomes).filter_map(|(body, outcome)| Some((body, outcome.err()?)));
        let (messages, errors): (Vec<_>, Vec<_>) = failed.unzip();
        match errors.first() {
            None => Ok(()),
            Some(error) => Err(UnsentMessages { messages, why: error.to_string() }),
        }
    }
}
