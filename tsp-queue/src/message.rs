//! Messages and the two ends of the pipe.

use async_trait::async_trait;
use thiserror::Error;
use tsp_core::task::Task;
use tsp_core::{Name, TaskId};

/// A task on its way to a worker: enough to find the row and to see that it still is as claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: TaskId,
    pub version: i64,
    /// The row as claimed, within one process only: a cache under (id, version), never sent elsewhere.
    pub row: Option<Box<Task>>,
}

/// Names a delivery to the queue it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A message in a worker's hands. Until it is acknowledged or requeued it takes up room.
#[derive(Debug)]
pub struct Delivery {
    pub message: Message,
    pub ticket: Ticket,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    #[error("queue `{0}` is full")]
    Full(Name),
    #[error("there is no queue `{0}`")]
    NoSuchQueue(Name),
    /// The queue did not say that it has the message. It may have it: publish it again, since a worker
    /// throws a duplicate away by its version.
    #[error("the queue is away: {0}")]
    Away(String),
}

/// The fetcher's end.
#[async_trait]
pub trait Publisher: Send + Sync + std::fmt::Debug {
    /// One result per message, in order. A message that was not taken comes back with its error; one that
    /// was is delivered, unless the queue itself is lost.
    async fn publish(&self, queue: &Name, messages: Vec<Message>)
    -> Vec<Result<(), (Message, PublishError)>>;

    /// How many more messages the queue takes now. A queue outside of this process is asked now and then,
    /// so others who publish into it may have been faster.
    fn room(&self, queue: &Name) -> usize;
}

/// A worker's end of one queue.
#[async_trait]
pub trait Subscriber: Send + Sync + std::fmt::Debug {
    /// Returns when [`Subscriber::take`] may have something; at once if it has.
    async fn ready(&self);

    /// At most `max` messages, without waiting. Their order is promised by none, and followed by most.
    fn take(&self, max: usize) -> Vec<Delivery>;

    /// The messages are dealt with.
    fn ack(&self, tickets: &[Ticket]);

    /// Somebody else, or we later, will deal with these.
    fn requeue(&self, deliveries: Vec<Delivery>);
}
