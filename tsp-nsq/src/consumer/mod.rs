//! Receiving.

mod connection_supervisor;
mod event;
mod in_flight_tracker;
mod inbox;
mod manager;
mod message;
mod pause;
mod shares;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::{ClientConfig, Nsqds};
use crate::discovery::{self, Source};
use crate::names::{Channel, Topic};
use event::Event;
use in_flight_tracker::{InFlightTrackers, Meters, RoomNotifier};
use inbox::Inbox;
use manager::Manager;

pub use message::Message;

/// What to receive, and how much of it at a time.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    pub topic: Topic,
    pub channel: Channel,
    pub nsqds: Nsqds,
    /// How many messages may be received and not yet finished, over all connections. 0 pauses.
    pub max_in_flight: u32,
    /// How often lookups are asked; up to 30 % is added to it. They are also asked when a connection is lost.
    pub lookup_every: Duration,
    /// Subscribe to every nsqd that the lookups know, in place of those that have the topic: each gets topic and
    /// channel before anything is published there.
    pub everywhere: bool,
}

impl ConsumerOptions {
    /// 100 in flight, lookups every minute.
    pub fn new(topic: Topic, channel: Channel, nsqds: Nsqds) -> Self {
        Self {
            topic,
            channel,
            nsqds,
            max_in_flight: 100,
            lookup_every: Duration::from_mins(1),
            everywhere: false,
        }
    }
}

/// Receives the messages of one channel from all nsqds that have its topic (or from all there are), at most
/// [`ConsumerOptions::max_in_flight`] at a time.
///
/// Cheap to clone; a message goes to one of the clones. Dropping the last clone ends the connections at once
/// and leaves the messages in flight to their timeout; [`Consumer::close`] ends in order.
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<Inner>,
}

struct Inner {
    inbox: Arc<Inbox>,
    trackers: Arc<InFlightTrackers>,
    max_in_flight: Arc<AtomicU32>,
    events: mpsc::UnboundedSender<Event>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends all tasks with the last clone.
    _guard: DropGuard,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("connections", &self.connections())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// Begins to connect. Must be called within a tokio runtime.
    pub fn start(options: ConsumerOptions, config: ClientConfig) -> Self {
        let config = Arc::new(config);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (events, inbound) = mpsc::unbounded_channel();
        let source = Source {
            nsqds: options.nsqds,
            topic: (!options.everywhere).then(|| options.topic.clone()),
            every: options.lookup_every,
            jitter: config.jitter.clone(),
            known: config.known_nsqds.clone(),
        };
        let closing = stop.child_token();
        let (addresses, poke) = discovery::start(source, &tasks, closing.clone());
        let max_in_flight = Arc::new(AtomicU32::new(options.max_in_flight));
        let inbox = Arc::new(Inbox::new(max_in_flight.clone()));
        let trackers = Arc::new(InFlightTrackers::default());
        let context = connection_supervisor::ConsumerContext {
            topic: options.topic,
            channel: options.channel,
            config,
            inbox: inbox.clone(),
            trackers: trackers.clone(),
            notifier: Arc::new(RoomNotifier::new(events.clone())),
            meters: Arc::new(Meters::new()),
            events: events.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            closing,
        };
        let manager = Manager::new(context, max_in_flight.clone(), addresses, poke);
        let until = stop.clone();
        tasks.spawn(async move {
            let _ = until.run_until_cancelled(manager.run(inbound)).await;
        });
        let guard = stop.clone().drop_guard();
        Self { inner: Arc::new(Inner { inbox, trackers, max_in_flight, events, tasks, stop, _guard: guard }) }
    }

    /// The next message; `None` after [`Consumer::close`] has begun. Nothing is lost when it is cancelled.
    pub async fn recv(&self) -> Option<Message> {
        self.inner.inbox.recv().await
    }

    /// Returns when [`Consumer::try_recv`] may have something, or the consumer is closed.
    pub async fn ready(&self) {
        self.inner.inbox.ready().await;
    }

    /// A message that is here already.
    pub fn try_recv(&self) -> Option<Message> {
        self.inner.inbox.try_recv()
    }

    /// Whether [`Consumer::close`] has begun.
    pub fn is_closed(&self) -> bool {
        self.inner.inbox.is_closed()
    }

    /// From now on at most `n` in flight; 0 pauses. Messages that are here already are not taken back.
    pub fn set_max_in_flight(&self, n: u32) {
        self.inner.max_in_flight.store(n, Ordering::Release);
        self.tell(Event::Changed);
    }

    /// The caller cannot work at the moment: nothing new is received for 2 seconds, then one message at a time
    /// is tried. Each further call after such a trial doubles the wait, up to 2 minutes. Calls during a wait
    /// do nothing.
    ///
    /// Meant for a caller that cannot work at all, not for a single message that fails: that is [`Message::requeue`].
    pub fn back_off(&self) {
        self.tell(Event::BackOff);
    }

    /// The caller can work: after [`Consumer::back_off`] each call after a trial halves the wait, and the last
    /// one ends it. Costs next to nothing when there is nothing to end.
    pub fn succeeded(&self) {
        if self.inner.trackers.is_backing_off() {
            self.tell(Event::Succeeded);
        }
    }

    /// How many connections are subscribed.
    pub fn connections(&self) -> usize {
        self.inner.trackers.count()
    }

    /// How many messages were received and neither finished nor requeued, by connections that still are.
    pub fn in_flight(&self) -> usize {
        self.inner.trackers.in_flight()
    }

    /// Returns when at least one connection is subscribed. Pends for ever once closed.
    pub async fn connected(&self) {
        self.inner.trackers.connected().await;
    }

    /// Ends in order: no more messages, those that nobody has taken are requeued, those in flight may be
    /// finished, and what is left shortly before `deadline` is requeued. Returns when all connections are
    /// closed, at the latest after `deadline`.
    pub async fn close(&self, deadline: Duration) {
        let inner = &self.inner;
        let end = Instant::now() + deadline;
        inner.tasks.close();
        inner.inbox.close();
        let (done, closed) = oneshot::channel();
        // Room to requeue what is left, and to have it written.
        let drained_by = end - (deadline / 5).min(Duration::from_secs(1));
        if inner.events.send(Event::Close { drained_by, done }).is_ok() {
            let _ = timeout_at(end, closed).await;
        }
        let _ = timeout_at(end, inner.tasks.wait()).await;
        inner.stop.cancel();
        inner.tasks.wait().await;
    }

    fn tell(&self, event: Event) {
        // Nobody listens after the end, when it no longer matters.
        let _ = self.inner.events.send(event);
    }
}
