//! What waits to be written to one connection, and who waits for an answer to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::codec::{Command, ErrorReply};

/// Why a command has no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It never went out.
    NotSent,
    /// The connection ended before the answer.
    Lost(String),
    Refused(ErrorReply),
}

type Answer = Result<Bytes, NoAnswer>;

/// Who waits for the answer. Dropping it reads as [`NoAnswer::Lost`].
pub(crate) struct Waiter {
    answer: oneshot::Sender<Answer>,
    /// Gives its room in the sending window back with the answer.
    _room: Option<OwnedSemaphorePermit>,
}

impl Waiter {
    pub(crate) fn tell(self, answer: Answer) {
        // A caller that gave up is no fault of the connection's.
        let _ = self.answer.send(answer);
    }
}

pub(crate) enum Order {
    /// A command that has no answer.
    Tell(Command),
    /// A command that has one.
    Ask(Command, Waiter),
    /// Write all that came before, then end the sending half.
    Shut,
}

/// The way to a connection's writer. It never blocks: what goes in is bounded by the messages in flight, or by
/// the sending window of a producer.
pub(crate) struct Outbox {
    orders: UnboundedSender<Order>,
    open: AtomicBool,
}

impl Outbox {
    pub(crate) fn new() -> (Self, UnboundedReceiver<Order>) {
        let (orders, queue) = mpsc::unbounded_channel();
        (Self { orders, open: AtomicBool::new(true) }, queue)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// From now on nothing is taken.
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }

    /// False when the connection is over.
    pub(crate) fn tell(&self, command: Command) -> bool {
        self.is_open() && self.orders.send(Order::Tell(command)).is_ok()
    }

    pub(crate) fn shut(&self) {
        let _ = self.orders.send(Order::Shut);
    }

    /// The answer to `command`.
    pub(crate) async fn ask(&self, command: Command, room: Option<OwnedSemaphorePermit>) -> Answer {
        if !self.is_open() {
            return Err(NoAnswer::NotSent);
        }
        let (answer, heard) = oneshot::channel();
        if self.orders.send(Order::Ask(command, Waiter { answer, _room: room })).is_err() {
            return Err(NoAnswer::NotSent);
        }
        heard.await.unwrap_or_else(|_| Err(NoAnswer::Lost("the connection ended".to_owned())))
    }
}

/// Those who wait for an answer, in the order of their commands, which is the order of the answers.
#[derive(Clone, Default)]
pub(crate) struct Waiters(Arc<Mutex<VecDeque<Waiter>>>);

impl Waiters {
    pub(super) fn extend(&self, waiters: impl IntoIterator<Item = Waiter>) {
        self.0.lock().extend(waiters);
    }

    /// Gives the answer to the one who has waited longest; false if nobody waits.
    pub(super) fn answer(&self, answer: Answer) -> bool {
        let waiter = self.0.lock().pop_front();
        waiter.map(|waiter| waiter.tell(answer)).is_some()
    }

    pub(super) fn lose(&self, why: &str) {
        for waiter in std::mem::take(&mut *self.0.lock()) {
            waiter.tell(Err(NoAnswer::Lost(why.to_owned())));
        }
    }
}
