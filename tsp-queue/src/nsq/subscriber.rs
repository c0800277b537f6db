//! A worker's end: messages out of nsqd, held until they are dealt with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tsp_core::Name;
use tsp_nsq::{Consumer, ConsumerOptions};

use super::context::NsqContext;
use super::options::NsqError;
use super::{metric_names, names, records};
use crate::message::{Delivery, Message, Subscriber, Ticket};

/// Messages are touched when one of so many parts of their time is over, and checked as often.
const LOOKS_PER_TIMEOUT: u32 = 4;

/// How long a requeued message is delayed.
const REQUEUE_FOR: Duration = Duration::from_millis(500);

/// The only worker of this process for one queue. What it holds stays its own as long as the process lives and
/// nsqd allows (`--max-msg-timeout`); after that it may be delivered again, which a version makes harmless.
#[derive(Debug)]
pub struct NsqSubscriber {
    inner: Arc<Inner>,
    /// Ends the touching.
    touching: CancellationToken,
    _end: DropGuard,
}

#[derive(Debug)]
struct Inner {
    queue: Name,
    consumer: Consumer,
    state: Mutex<State>,
    bad: Counter,
    stale: Counter,
}

#[derive(Debug, Default)]
struct State {
    tickets: u64,
    held: HashMap<Ticket, HeldMessage>,
}

/// A message in flight.
#[derive(Debug)]
struct HeldMessage {
    message: tsp_nsq::Message,
    taken: Instant,
    touched: Instant,
}

impl NsqSubscriber {
    /// Begins to receive at most `max_in_flight` messages at a time from all nsqds together.
    pub fn start(nsq: &Arc<NsqContext>, queue: &Name, max_in_flight: u32) -> Result<Self, NsqError> {
        let (topic, channel) = (names::queue_topic(queue)?, names::worker_channel());
        let options = &nsq.options;
        let mut wanted = ConsumerOptions::new(topic.clone(), channel.clone(), options.nsqds());
        wanted.max_in_flight = max_in_flight;
        wanted.lookup_every = options.lookup_every;
        wanted.everywhere = true;
        let inner = Arc::new(Inner {
            queue: queue.clone(),
            consumer: Consumer::start(wanted, options.consumer()),
            state: Mutex::default(),
            bad: counter!(metric_names::BAD_MESSAGES, "queue" => queue.to_string()),
            stale: counter!(metric_names::STALE, "queue" => queue.to_string()),
        });
        let touching = nsq.stop.child_token();
        let (touched, until) = (inner.clone(), touching.clone());
        let look_every = options.msg_timeout / LOOKS_PER_TIMEOUT;
        let nodes = nsq.nodes.clone();
        nsq.tracker.spawn(async move {
            let work = async {
                // Lookups know a queue once it is made, so that it is found before the first message.
                nodes.survey(&topic, &channel, true).await;
                loop {
                    sleep(look_every).await;
                    touched.touch(Instant::now(), look_every);
                }
            };
            let _ = until.run_until_cancelled(work).await;
        });
        Ok(Self { inner, _end: touching.clone().drop_guard(), touching })
    }

    /// Returns when at least one nsqd is connected.
    pub async fn connected(&self) {
        self.inner.consumer.connected().await;
    }

    /// Takes nothing more, waits until all that is held is acknowledged, and gives the rest to others after
    /// `deadline`.
    pub async fn close(&self, deadline: Duration) {
        self.inner.consumer.close(deadline).await;
        self.touching.cancel();
        let left = std::mem::take(&mut self.inner.state.lock().held);
        if !left.is_empty() {
            tracing::info!(queue = %self.inner.queue, messages = left.len(), "requeued what was not done");
        }
    }
}

#[async_trait]
impl Subscriber for NsqSubscriber {
    /// Never returns once closed.
    async fn ready(&self) {
        self.inner.consumer.ready().await;
        if self.inner.consumer.is_closed() {
            std::future::pending::<()>().await;
        }
    }

    fn take(&self, max: usize) -> Vec<Delivery> {
        let mut arrived = Vec::new();
        while arrived.len() < max {
            let Some(message) = self.inner.consumer.try_recv() else { break };
            arrived.extend(self.inner.read(message));
        }
        if arrived.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let mut state = self.inner.state.lock();
        arrived.into_iter().map(|(task, message)| state.hold(task, message, now)).collect()
    }

    fn ack(&self, tickets: &[Ticket]) {
        let done: Vec<_> = {
            let mut state = self.inner.state.lock();
            tickets.iter().filter_map(|ticket| state.held.remove(ticket)).collect()
        };
        let unknown = tickets.len() - done.len();
        let late = done.into_iter().filter_map(|held| held.message.finish().err()).count();
        if unknown + late > 0 {
            self.inner.stale.increment((unknown + late) as u64);
        }
    }

    /// They go back to nsqd, which delivers them to any worker after a moment: what hinders this worker may
    /// be a fault of its own, and what it holds keeps others out.
    fn requeue(&self, deliveries: Vec<Delivery>) {
        let back: Vec<_> = {
            let mut state = self.inner.state.lock();
            deliveries.iter().filter_map(|delivery| state.held.remove(&delivery.ticket)).collect()
        };
        let late = back.into_iter().filter_map(|held| held.message.requeue(REQUEUE_FOR).err()).count();
        self.inner.stale.increment(late as u64);
    }
}

impl Inner {
    /// The task of a message; one without is thrown away.
    fn read(&self, message: tsp_nsq::Message) -> Option<(Message, tsp_nsq::Message)> {
        match records::read_task(&message.body) {
            Ok((id, version)) => Some((Message { id, version, row: None }, message)),
            Err(error) => {
                let (bytes, nsqd) = (message.body.len(), message.nsqd());
                tracing::warn!(queue = %self.queue, %error, bytes, nsqd, "a message that is no task");
                self.bad.increment(1);
                if message.finish().is_err() {
                    self.stale.increment(1);
                }
                None
            }
        }
    }

    /// Tells nsqd of each message, held for longer than `age` without a word, that somebody is at it.
    fn touch(&self, now: Instant, age: Duration) {
        let gone: Vec<_> = {
            let mut state = self.state.lock();
            state.held.extract_if(|_, held| !held.touch(now, age)).collect()
        };
        if !gone.is_empty() {
            let messages = gone.len();
            tracing::debug!(queue = %self.queue, messages, "lost with their connection, and will be delivered again");
        }
    }
}

impl State {
    fn hold(&mut self, task: Message, message: tsp_nsq::Message, now: Instant) -> Delivery {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.held.insert(ticket, HeldMessage { message, taken: now, touched: now });
        Delivery { message: task, ticket }
    }
}

impl HeldMessage {
    /// False when the connection that brought it is gone.
    fn touch(&mut self, now: Instant, age: Duration) -> bool {
        let too_old = now.duration_since(self.taken) >= self.message.max_msg_timeout();
        if too_old || now.duration_since(self.touched) < age {
            return true;
        }
        self.touched = now;
        self.message.touch().is_ok()
    }
}
