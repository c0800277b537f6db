//! One nsqd of a consumer: connected, subscribed, and again whenever the connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::event::Event;
use super::in_flight_tracker::{InFlightTracker, InFlightTrackers, Meters, RoomNotifier};
use super::inbox::Inbox;
use super::message::Message;
use crate::codec::{ErrorReply, MessageFrame};
use crate::config::ClientConfig;
use crate::metric_names;
use crate::names::{Channel, Topic};
use crate::wire::handshake::{self, ReadyConnection};
use crate::wire::link::{self, Cause, Events, Run};
use crate::wire::outbox::Outbox;

/// What all connections of a consumer share.
#[derive(Clone)]
pub(super) struct ConsumerContext {
    pub(super) topic: Topic,
    pub(super) channel: Channel,
    pub(super) config: Arc<ClientConfig>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) trackers: Arc<InFlightTrackers>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) notifier: Arc<RoomNotifier>,
    pub(super) meters: Arc<Meters>,
    pub(super) tasks: TaskTracker,
    /// Ends everything at once.
    pub(super) stop: CancellationToken,
    /// Nothing new is looked for or connected.
    pub(super) closing: CancellationToken,
}

/// Whether an nsqd is still listed. One that is not keeps its connection as long as it lasts.
pub(super) type ListedFlag = Arc<AtomicBool>;

/// Keeps one nsqd connected until it is no longer listed, or the consumer closes.
pub(super) async fn keep(context: ConsumerContext, address: String, listed: ListedFlag) {
    let mut failures = 0_u32;
    while listed.load(Ordering::Acquire) {
        let run = context.connection(&address).await;
        if context.closing.is_cancelled() || context.stop.is_cancelled() {
            return;
        }
        let worked = run.lasted >= context.config.reconnect.max;
        failures = if worked { 0 } else { failures.saturating_add(1) };
        let cause = run.cause;
        metrics::counter!(metric_names::RECONNECTS, "cause" => cause.label()).increment(1);
        let wait = context.config.reconnect.delay(failures, (context.config.jitter)());
        tracing::warn!(nsqd = %address, topic = %context.topic, %cause, ?wait, "connection of a consumer lost");
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = context.closing.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
    let _ = context.events.send(Event::Left(address));
}

impl ConsumerContext {
    /// One connection from its making to its end.
    async fn connection(&self, address: &str) -> Run {
        let connecting = handshake::connect(address, &self.config, Some((&self.topic, &self.channel)));
        let connected = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Run::failed(Cause::Closed),
            () = self.closing.cancelled() => return Run::failed(Cause::Closed),
            connected = connecting => match connected {
                Ok(connected) => connected,
                Err(cause) => return Run::failed(cause),
            },
        };
        self.subscribed(address, connected).await
    }

    async fn subscribed(&self, address: &str, connected: ReadyConnection) -> Run {
        let (outbox, orders) = Outbox::new();
        let negotiated = connected.negotiated.clone();
        tracing::debug!(nsqd = %address, version = negotiated.version, topic = %self.topic, "consumer subscribed");
        let (notifier, meters) = (self.notifier.clone(), self.meters.clone());
        let generation = self.trackers.next_generation();
        let tracker = InFlightTracker::new(generation, address, outbox, negotiated, notifier, meters);
        let tracker = Arc::new(tracker);
        self.trackers.add(&tracker);
        if self.closing.is_cancelled() {
            // The manager may have looked just before.
            tracker.outbox.shut();
        }
        let _ = self.events.send(Event::Changed);
        let open = metrics::gauge!(metric_names::CONNECTIONS, "kind" => "consumer");
        open.increment(1.0);
        let mut intake = Intake { context: self, tracker: &tracker, batch: Vec::new() };
        let channel = (&tracker.outbox, orders);
        let run = link::run(connected, channel, &self.config, &self.tasks, &self.stop, &mut intake).await;
        open.decrement(1.0);
        tracker.end();
        self.trackers.remove(&tracker);
        let _ = self.events.send(Event::Lost);
        run
    }
}

/// Puts what comes in into the inbox.
struct Intake<'a> {
    context: &'a ConsumerContext,
    tracker: &'a Arc<InFlightTracker>,
    batch: Vec<Message>,
}

impl Events for Intake<'_> {
    fn message(&mut self, message: MessageFrame, read_at: Instant) {
        if message.attempts > 1 {
            self.context.meters.redelivered.increment(1);
        }
        self.batch.push(Message::new(message, self.tracker, read_at));
    }

    fn acknowledge_error(&mut self, error: &ErrorReply) {
        metrics::counter!(metric_names::ACKNOWLEDGE_ERRORS, "code" => error.code.clone()).increment(1);
        tracing::debug!(nsqd = %self.tracker.address, %error, "nsqd no longer knows a message");
    }

    fn batch_end(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let now = Instant::now();
        self.tracker.message_came(now);
        self.context.meters.received.increment(self.batch.len() as u64);
        let pushed = self.context.inbox.push(&mut self.batch, now);
        self.context.meters.expired.increment(pushed.expired);
        if pushed.refused > 0 {
            let count = pushed.refused;
            tracing::warn!(nsqd = %self.tracker.address, count, "nsqd sent more messages than it was asked for");
        }
    }
}
