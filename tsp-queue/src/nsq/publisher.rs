//! The fetcher's end: messages into nsqd, and how many more it should get.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tsp_core::Name;
use tsp_nsq::{PublishError as NsqPublishError, Topic};

use super::capacity_tracker::CapacityTracker;
use super::context::NsqContext;
use super::nodes::{QueueDepth, Survey};
use super::restart_detector::RestartDetector;
use super::{names, records};
use crate::message::{Message, PublishError, Publisher};

/// Called when there is room again for somebody who found none.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Called when an nsqd has lost what it held, or seems to be dead.
pub type OnLoss = Arc<dyn Fn() + Send + Sync>;

/// Publishes to whichever nsqd can be reached. The bound of a queue is kept by asking all nsqds for its depth
/// while it is in use, so several processes that publish into one queue may exceed it for as long as that takes.
#[derive(Clone)]
pub struct NsqPublisher {
    shared: Arc<PublisherState>,
}

struct PublisherState {
    nsq: Arc<NsqContext>,
    topics: RwLock<HashMap<Name, Arc<QueueTopic>>>,
    /// There may be something to ask nsqd for.
    in_use: Notify,
    /// Whether the last question was answered, so that a change is logged and nothing else.
    answering: AtomicBool,
    wake: Wake,
    lost: OnLoss,
}

/// One queue.
struct QueueTopic {
    topic: Topic,
    capacity: Mutex<CapacityTracker>,
    restarts: Mutex<RestartDetector>,
}

impl std::fmt::Debug for NsqPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NsqPublisher").field("nsq", &self.shared.nsq).finish_non_exhaustive()
    }
}

impl NsqPublisher {
    pub fn start(nsq: &Arc<NsqContext>, wake: Wake, lost: OnLoss) -> Self {
        let shared = Arc::new(PublisherState {
            nsq: nsq.clone(),
            topics: RwLock::default(),
            in_use: Notify::new(),
            answering: AtomicBool::new(true),
            wake,
            lost,
        });
        let (watching, stop) = (shared.clone(), nsq.stop.clone());
        nsq.tracker.spawn(async move {
            let _ = stop.run_until_cancelled(watching.watch()).await;
        });
        Self { shared }
    }

    /// As [`Nsq::depth`].
    pub async fn depth(&self, queue: &Name) -> QueueDepth {
        self.shared.nsq.depth(queue).await
    }
}

#[async_trait]
impl Publisher for NsqPublisher {
    async fn publish(
        &self,
        queue: &Name,
        messages: Vec<Message>,
    ) -> Vec<Result<(), (Message, PublishError)>> {
        let Some(queue_topic) = self.shared.topic_of(queue) else {
            let refused = PublishError::NoSuchQueue(queue.clone());
            return messages.into_iter().map(|message| Err((message, refused.clone()))).collect();
        };
        if messages.is_empty() {
            return Vec::new();
        }
        if !queue_topic.capacity.lock().is_known() {
            // The first of this queue: make it, and see what is there.
            self.shared.ask(&queue_topic).await;
        }
        let mut pending = queue_topic.reserve(messages.len());
        let left_out = queue_topic.why_left_out(queue);
        let bodies =
            messages[..pending.count].iter().map(|it| records::task_body(it.id, it.version)).collect();
        let mut outcomes = self.shared.send(&queue_topic.topic, bodies).await.into_iter();
        pending.answered(outcomes.as_slice(), self.shared.nsq.options.pause_after_failure);
        self.shared.in_use.notify_one();
        let results = messages.into_iter().map(|message| match outcomes.next() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err((message, PublishError::Away(error.to_string()))),
            None => Err((message, left_out.clone())),
        });
        results.collect()
    }

    fn room(&self, queue: &Name) -> usize {
        let Some(queue_topic) = self.shared.topic_of(queue) else { return 0 };
        let room = queue_topic.capacity.lock().room(Instant::now());
        if room == 0 {
            self.shared.in_use.notify_one();
        }
        room
    }
}

impl PublisherState {
    /// `None` for a name that no queue can have.
    fn topic_of(&self, queue: &Name) -> Option<Arc<QueueTopic>> {
        if let Some(queue_topic) = self.topics.read().get(queue) {
            return Some(queue_topic.clone());
        }
        let topic = names::queue_topic(queue).ok()?;
        let capacity = Mutex::new(CapacityTracker::new(self.nsq.options.capacity));
        let queue_topic = QueueTopic { topic, capacity, restarts: Mutex::default() };
        let mut topics = self.topics.write();
        Some(topics.entry(queue.clone()).or_insert_with(|| Arc::new(queue_topic)).clone())
    }

    async fn send(&self, topic: &Topic, bodies: Vec<Bytes>) -> Vec<Result<(), NsqPublishError>> {
        let (count, limit) = (bodies.len(), self.nsq.options.answer_within);
        if count == 0 {
            return Vec::new();
        }
        timeout(limit, self.nsq.producer.publish_all(topic, bodies)).await.unwrap_or_else(|_| {
            let why = format!("no answer within {limit:?}");
            vec![Err(NsqPublishError::Unknown { why }); count]
        })
    }

    /// Asks for depths as long as that can tell anything new.
    async fn watch(&self) {
        loop {
            self.in_use.notified().await;
            // One that is not known is asked at once, and then as often as the others.
            let mut unknown = self.busy().iter().any(|queue_topic| !queue_topic.capacity.lock().is_known());
            while !self.busy().is_empty() {
                if !std::mem::take(&mut unknown) {
                    sleep(self.nsq.options.poll_every).await;
                }
                self.step().await;
            }
        }
    }

    /// One round of questions; tells those who wait for room.
    async fn step(&self) {
        let busy = self.busy();
        join_all(busy.iter().map(|queue_topic| self.ask(queue_topic))).await;
        let now = Instant::now();
        let freed = busy.iter().filter(|queue_topic| queue_topic.capacity.lock().take_room(now)).count();
        if freed > 0 {
            (self.wake)();
        }
    }

    /// The queues of which something is not known.
    fn busy(&self) -> Vec<Arc<QueueTopic>> {
        let now = Instant::now();
        let topics = self.topics.read();
        topics.values().filter(|queue_topic| queue_topic.is_busy(now)).cloned().collect()
    }

    async fn ask(&self, queue_topic: &QueueTopic) {
        let mark = queue_topic.capacity.lock().mark();
        let asked_at = Instant::now();
        let survey = self.nsq.nodes.survey(&queue_topic.topic, &names::worker_channel(), true).await;
        let Survey { depth: found, silent, signs } = survey;
        if queue_topic.restarts.lock().round(asked_at, Instant::now(), signs) {
            tracing::warn!(topic = %queue_topic.topic, "an nsqd was lost, with the messages that it had in memory");
            (self.lost)();
        }
        if found.nsqds > 0 {
            queue_topic.capacity.lock().polled(mark, found.depth + found.in_flight);
        }
        let answering = silent.is_none();
        if self.answering.swap(answering, Ordering::Relaxed) != answering {
            if let Some(error) = silent {
                tracing::warn!(error, silent = found.silent, "an nsqd does not tell its depth");
            } else {
                tracing::info!("all nsqds tell their depth again");
            }
        }
    }
}

impl QueueTopic {
    fn is_busy(&self, now: Instant) -> bool {
        !self.capacity.lock().is_idle(now) || self.restarts.lock().in_doubt()
    }

    fn reserve(&self, wanted: usize) -> RoomReservation<'_> {
        let count = self.capacity.lock().reserve(wanted, Instant::now());
        RoomReservation { queue_topic: self, count, open: count }
    }

    fn why_left_out(&self, queue: &Name) -> PublishError {
        let capacity = self.capacity.lock();
        if !capacity.is_known() {
            PublishError::Away("no nsqd tells its depth".to_owned())
        } else if capacity.is_shut(Instant::now()) {
            PublishError::Away("the last publish failed".to_owned())
        } else {
            PublishError::Full(queue.clone())
        }
    }
}

/// Room that was taken for messages of which nothing is known yet.
struct RoomReservation<'a> {
    queue_topic: &'a QueueTopic,
    count: usize,
    open: usize,
}

impl RoomReservation<'_> {
    fn answered(&mut self, outcomes: &[Result<(), NsqPublishError>], pause: std::time::Duration) {
        let absent = |it: &&Result<(), NsqPublishError>| {
            matches!(it, Err(NsqPublishError::Refused { .. } | NsqPublishError::Unavailable { .. }))
        };
        let not_there = outcomes.iter().filter(absent).count();
        let error = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        let mut capacity = self.queue_topic.capacity.lock();
        capacity.answered(self.open - not_there, not_there);
        self.open = 0;
        match error {
            Some(error) => {
                tracing::warn!(topic = %self.queue_topic.topic, %error, "not published, will try again");
                capacity.shut(Instant::now(), pause);
            }
            None if self.count > 0 => capacity.open(),
            None => {}
        }
    }
}

impl Drop for RoomReservation<'_> {
    fn drop(&mut self) {
        // Given up before the answer came: they may be there.
        if self.open > 0 {
            self.queue_topic.capacity.lock().answered(self.open, 0);
        }
    }
}
