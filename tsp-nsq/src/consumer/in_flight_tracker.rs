//! The messages in flight of each connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::event::Event;
use super::shares::Load;
use crate::codec::{Command, MessageId};
use crate::error::Stale;
use crate::metric_names;
use crate::wire::identify::NegotiatedOptions;
use crate::wire::outbox::Outbox;

/// What is counted for all connections of one consumer.
pub(super) struct Meters {
    pub(super) received: Counter,
    pub(super) redelivered: Counter,
    pub(super) expired: Counter,
    in_flight: Gauge,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            received: metrics::counter!(metric_names::RECEIVED),
            redelivered: metrics::counter!(metric_names::REDELIVERIES),
            expired: metrics::counter!(metric_names::EXPIRED),
            in_flight: metrics::gauge!(metric_names::IN_FLIGHT),
        }
    }
}

/// Asks to be notified when a message is done. Notifies once, then to be asked again.
pub(super) struct RoomNotifier {
    asked: AtomicBool,
    events: mpsc::UnboundedSender<Event>,
}

impl RoomNotifier {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self { asked: AtomicBool::new(false), events }
    }

    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    pub(super) fn unask(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }

    fn ring(&self) {
        if self.asked.load(Ordering::SeqCst) && self.asked.swap(false, Ordering::SeqCst) {
            let _ = self.events.send(Event::Freed);
        }
    }
}

/// One subscribed connection, from its subscription to its end.
pub(super) struct InFlightTracker {
    pub(super) generation: u64,
    pub(super) address: String,
    pub(super) outbox: Outbox,
    pub(super) negotiated: NegotiatedOptions,
    /// Those neither finished nor requeued, each under a key of its own: after a timeout the same id may come
    /// a second time.
    held: Mutex<HashMap<u64, MessageId>>,
    next_key: AtomicU64,
    began: Instant,
    /// In milliseconds after `began`; zero before the first.
    last_message_ms: AtomicU64,
    notifier: Arc<RoomNotifier>,
    meters: Arc<Meters>,
}

impl InFlightTracker {
    pub(super) fn new(
        generation: u64,
        address: &str,
        outbox: Outbox,
        negotiated: NegotiatedOptions,
        notifier: Arc<RoomNotifier>,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            generation,
            address: address.to_owned(),
            outbox,
            negotiated,
            held: Mutex::default(),
            next_key: AtomicU64::new(0),
            began: Instant::now(),
            last_message_ms: AtomicU64::new(0),
            notifier,
            meters,
        }
    }

    /// The key of a message that has come.
    pub(super) fn hold(&self, id: MessageId) -> u64 {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.held.lock().insert(key, id);
        self.meters.in_flight.increment(1.0);
        key
    }

    pub(super) fn acknowledge(&self, key: u64, command: Command) -> Result<(), Stale> {
        if self.forget(key) && self.outbox.tell(command) { Ok(()) } else { Err(Stale) }
    }

    pub(super) fn touch(&self, key: u64, id: MessageId) -> Result<(), Stale> {
        let ours = self.held.lock().contains_key(&key);
        if ours && self.outbox.tell(Command::Touch(id)) { Ok(()) } else { Err(Stale) }
    }

    /// False if the message was acknowledged before.
    pub(super) fn forget(&self, key: u64) -> bool {
        let ours = self.held.lock().remove(&key).is_some();
        if ours {
            self.meters.in_flight.decrement(1.0);
            self.notifier.ring();
        }
        ours
    }

    /// Requeues all that is held.
    pub(super) fn requeue_all(&self) {
        for id in self.take_all() {
            self.outbox.tell(Command::Req(id, Duration::ZERO));
        }
    }

    /// The connection is over: nsqd requeues what is held.
    pub(super) fn end(&self) {
        self.outbox.close();
        self.take_all();
        self.notifier.ring();
    }

    fn take_all(&self) -> Vec<MessageId> {
        let all: Vec<MessageId> = std::mem::take(&mut *self.held.lock()).into_values().collect();
        for _ in &all {
            self.meters.in_flight.decrement(1.0);
        }
        all
    }

    pub(super) fn in_flight(&self) -> usize {
        self.held.lock().len()
    }

    pub(super) fn message_came(&self, at: Instant) {
        let ms = u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        self.last_message_ms.store(ms.max(1), Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> Load {
        let last = self.last_message_ms.load(Ordering::Relaxed);
        Load {
            in_flight: u32::try_from(self.in_flight()).unwrap_or(u32::MAX),
            last_message: (last > 0).then(|| self.began + Duration::from_millis(last)),
        }
    }
}

/// All connections that are subscribed.
#[derive(Default)]
pub(super) struct InFlightTrackers {
    /// Of the last connection; each has its own.
    generation: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<InFlightTracker>>>,
    count: watch::Sender<usize>,
    backing_off: AtomicBool,
}

impl InFlightTrackers {
    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn add(&self, tracker: &Arc<InFlightTracker>) {
        let mut live = self.live.lock();
        live.insert(tracker.generation, tracker.clone());
        self.count.send_replace(live.len());
    }

    pub(super) fn remove(&self, tracker: &InFlightTracker) {
        let mut live = self.live.lock();
        live.remove(&tracker.generation);
        self.count.send_replace(live.len());
    }

    pub(super) fn all(&self) -> BTreeMap<u64, Arc<InFlightTracker>> {
        self.live.lock().clone()
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.live.lock().values().map(|tracker| tracker.in_flight()).sum()
    }

    pub(super) async fn connected(&self) {
        let mut count = self.count.subscribe();
        // The sender is ours, so this ends only with a connection.
        let _ = count.wait_for(|count| *count > 0).await;
    }

    pub(super) fn is_backing_off(&self) -> bool {
        self.backing_off.load(Ordering::Acquire)
    }

    pub(super) fn set_backing_off(&self, backing_off: bool) {
        self.backing_off.store(backing_off, Ordering::Release);
    }
}
