//! A message, and the right to say what becomes of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::in_flight_tracker::InFlightTracker;
use crate::codec::{Command, MessageFrame, MessageId};
use crate::error::Stale;

/// A message. Exactly one of [`Message::finish`] and [`Message::requeue`] ends it; one that is dropped is
/// requeued without delay.
///
/// Both, and [`Message::touch`], return when the command is with the connection. nsqd does not confirm them: a
/// finish that comes too late is only counted ([`crate::metric_names::ACKNOWLEDGE_ERRORS`]), and the message comes
/// again.
pub struct Message {
    pub body: Bytes,
    /// 1 on the first delivery. It wraps after 65,535.
    pub attempts: u16,
    /// When it was published, in nanoseconds since 1970, by the clock of nsqd.
    pub timestamp_ns: i64,
    pub id: MessageId,
    receipt: Receipt,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("attempts", &self.attempts)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Message {
    pub(super) fn new(frame: MessageFrame, tracker: &Arc<InFlightTracker>, received: Instant) -> Self {
        let key = tracker.hold(frame.id);
        Self {
            body: frame.body,
            attempts: frame.attempts,
            timestamp_ns: frame.timestamp_ns,
            id: frame.id,
            receipt: Receipt { tracker: tracker.clone(), key, id: frame.id, received },
        }
    }

    /// It is done.
    pub fn finish(self) -> Result<(), Stale> {
        self.receipt.acknowledge(Command::Fin(self.id))
    }

    /// It is to be delivered again, to anyone, after `delay` (whole milliseconds, cut by nsqd at its own
    /// limit, and lost when nsqd stops).
    pub fn requeue(self, delay: Duration) -> Result<(), Stale> {
        self.receipt.acknowledge(Command::Req(self.id, delay))
    }

    /// It is still being worked on: nsqd waits for another [`Message::msg_timeout`] from now, in all at most
    /// [`Message::max_msg_timeout`] from its delivery.
    pub fn touch(&self) -> Result<(), Stale> {
        self.receipt.tracker.touch(self.receipt.key, self.id)
    }

    /// How long nsqd waits before it delivers the message again.
    pub fn msg_timeout(&self) -> Duration {
        self.receipt.tracker.negotiated.msg_timeout
    }

    /// How long nsqd waits, however often the message is touched.
    pub fn max_msg_timeout(&self) -> Duration {
        self.receipt.tracker.negotiated.max_msg_timeout
    }

    /// `host:port` of the nsqd that sent it.
    pub fn nsqd(&self) -> &str {
        &self.receipt.tracker.address
    }

    /// To be delivered again by nsqd's own doing, so there is no use in handing it out.
    pub(super) fn is_dead(&self, now: Instant) -> bool {
        !self.receipt.tracker.outbox.is_open() || now >= self.receipt.received + self.msg_timeout()
    }

    /// Drops it without a word to nsqd.
    pub(super) fn forget(self) {
        self.receipt.tracker.forget(self.receipt.key);
    }
}

/// Requeues when it is dropped, unless the message was acknowledged before.
struct Receipt {
    tracker: Arc<InFlightTracker>,
    key: u64,
    id: MessageId,
    received: Instant,
}

impl Receipt {
    fn acknowledge(&self, command: Command) -> Result<(), Stale> {
        self.tracker.acknowledge(self.key, command)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // Stale if it was acknowledged before, or nsqd does it by itself.
        let _ = self.acknowledge(Command::Req(self.id, Duration::ZERO));
    }
}
