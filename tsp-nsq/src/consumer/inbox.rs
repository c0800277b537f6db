//! Messages that nobody has taken yet.
//!
//! Their number is bounded by `RDY`. Two things could break that: messages that time out unread, for which nsqd
//! sends others, and an nsqd that sends more than it may. The first are dropped here, the second are requeued.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::message::Message;

/// Beside twice the messages in flight: what was on its way when the limit was lowered.
const SLACK: usize = 64;

pub(super) struct Inbox {
    state: Mutex<State>,
    /// One permit says that there may be something; whoever takes it and leaves something behind puts it back.
    changed: Notify,
    max_in_flight: Arc<AtomicU32>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    closed: bool,
    /// Of the highest `max_in_flight` so far.
    capacity: usize,
}

/// What became of messages that came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PushResult {
    pub(super) expired: u64,
    /// More than nsqd was allowed to send.
    pub(super) refused: u64,
}

impl Inbox {
    pub(super) fn new(max_in_flight: Arc<AtomicU32>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), max_in_flight }
    }

    pub(super) fn push(&self, batch: &mut Vec<Message>, now: Instant) -> PushResult {
        let mut pushed = PushResult::default();
        let mut state = self.state.lock();
        if state.closed {
            // Requeued by being dropped.
            batch.clear();
            return pushed;
        }
        while state.queue.front().is_some_and(|oldest| oldest.is_dead(now)) {
            state.queue.pop_front().expect("there is a front").forget();
            pushed.expired += 1;
        }
        let bound = 2 * self.max_in_flight.load(Ordering::Acquire) as usize + SLACK;
        state.capacity = state.capacity.max(bound);
        let room = state.capacity.saturating_sub(state.queue.len()).min(batch.len());
        state.queue.extend(batch.drain(..room));
        drop(state);
        pushed.refused = batch.len() as u64;
        batch.clear();
        self.changed.notify_one();
        pushed
    }

    pub(super) fn try_recv(&self) -> Option<Message> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        while let Some(message) = state.queue.pop_front() {
            if message.is_dead(now) {
                message.forget();
                continue;
            }
            let more = !state.queue.is_empty();
            drop(state);
            if more {
                self.changed.notify_one();
            }
            return Some(message);
        }
        None
    }

    pub(super) async fn recv(&self) -> Option<Message> {
        loop {
            let changed = self.changed.notified();
            let mut changed = pin!(changed);
            // Registered before looking, so that what comes in between is not missed.
            changed.as_mut().enable();
            if let Some(message) = self.try_recv() {
                return Some(message);
            }
            if self.is_closed() {
                return None;
            }
            changed.await;
        }
    }

    pub(super) async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            let mut changed = pin!(changed);
            changed.as_mut().enable();
            if self.is_closed() {
                return;
            }
            if !self.is_empty() {
                // This one may have taken the permit, and takes no message.
                self.changed.notify_one();
                return;
            }
            changed.await;
        }
    }

    fn is_empty(&self) -> bool {
        self.state.lock().queue.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Hands out nothing from now on.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// Requeues what nobody has taken.
    pub(super) fn requeue_all(&self) {
        let queue = std::mem::take(&mut self.state.lock().queue);
        drop(queue);
    }
}
