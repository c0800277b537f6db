//! The queue within one process: bounded, exact permits, nothing to lose that the database does not have.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tsp_core::Name;

use crate::message::{Delivery, Message, PublishError, Publisher, Subscriber, Ticket};

/// All queues of a process, by name.
#[derive(Debug)]
pub struct MemoryQueue {
    queues: HashMap<Name, Arc<NamedQueue>>,
}

/// One queue. `capacity` bounds what waits and what is out at workers together.
#[derive(Debug)]
struct NamedQueue {
    capacity: usize,
    state: Mutex<NamedQueueState>,
    arrived: Notify,
    tickets: AtomicU64,
}

#[derive(Debug, Default)]
struct NamedQueueState {
    waiting: VecDeque<Message>,
    /// Delivered and not yet acknowledged.
    out: usize,
}

impl MemoryQueue {
    pub fn new(names: impl IntoIterator<Item = Name>, capacity: usize) -> Self {
        let named_queue = || {
            Arc::new(NamedQueue {
                capacity,
                state: Mutex::default(),
                arrived: Notify::new(),
                tickets: AtomicU64::new(1),
            })
        };
        Self { queues: names.into_iter().map(|name| (name, named_queue())).collect() }
    }

    /// A worker's end of `queue`; `None` when there is no such queue.
    pub fn subscribe(&self, queue: &Name) -> Option<MemorySubscriber> {
        self.queues.get(queue).map(|named_queue| MemorySubscriber { named_queue: named_queue.clone() })
    }

    /// Messages that wait and messages out at workers.
    pub fn depth(&self, queue: &Name) -> Option<(usize, usize)> {
        let state = self.queues.get(queue)?.state.lock();
        Some((state.waiting.len(), state.out))
    }
}

#[async_trait]
impl Publisher for MemoryQueue {
    async fn publish(
        &self,
        queue: &Name,
        messages: Vec<Message>,
    ) -> Vec<Result<(), (Message, PublishError)>> {
        let Some(named_queue) = self.queues.get(queue) else {
            let refused = PublishError::NoSuchQueue(queue.clone());
            return messages.into_iter().map(|message| Err((message, refused.clone()))).collect();
        };
        let mut state = named_queue.state.lock();
        let room = named_queue.capacity.saturating_sub(state.waiting.len() + state.out);
        let mut results = Vec::with_capacity(messages.len());
        for (at, message) in messages.into_iter().enumerate() {
            if at < room {
                state.waiting.push_back(message);
                results.push(Ok(()));
            } else {
                results.push(Err((message, PublishError::Full(queue.clone()))));
            }
        }
        drop(state);
        named_queue.arrived.notify_one();
        results
    }

    fn room(&self, queue: &Name) -> usize {
        self.queues.get(queue).map_or(0, |named_queue| {
            let state = named_queue.state.lock();
            named_queue.capacity.saturating_sub(state.waiting.len() + state.out)
        })
    }
}

/// A worker's end of one in-process queue.
#[derive(Debug, Clone)]
pub struct MemorySubscriber {
    named_queue: Arc<NamedQueue>,
}

#[async_trait]
impl Subscriber for MemorySubscriber {
    async fn ready(&self) {
        loop {
            // Armed before taking, so that no arrival in between is missed.
            let arrived = self.named_queue.arrived.notified();
            if !self.named_queue.state.lock().waiting.is_empty() {
                return;
            }
            arrived.await;
        }
    }

    fn take(&self, max: usize) -> Vec<Delivery> {
        let mut state = self.named_queue.state.lock();
        let count = max.min(state.waiting.len());
        state.out += count;
        let first = self.named_queue.tickets.fetch_add(count as u64, Ordering::Relaxed);
        let taken = state.waiting.drain(..count);
        taken.zip(first..).map(|(message, number)| Delivery { message, ticket: Ticket(number) }).collect()
    }

    fn ack(&self, tickets: &[Ticket]) {
        let mut state = self.named_queue.state.lock();
        state.out = state.out.saturating_sub(tickets.len());
    }

    fn requeue(&self, deliveries: Vec<Delivery>) {
        let mut state = self.named_queue.state.lock();
        state.out = state.out.saturating_sub(deliveries.len());
        for delivery in deliveries.into_iter().rev() {
            state.waiting.push_front(delivery.message);
        }
        drop(state);
        self.named_queue.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::TaskId;

    use super::*;
    use crate::conformance::{self, QueueUnderTest};

    fn make(capacity: usize) -> QueueUnderTest {
        let name = Name::new("default").unwrap();
        let queue = MemoryQueue::new([name.clone()], capacity);
        let subscriber = queue.subscribe(&name).unwrap();
        QueueUnderTest { name, publisher: Arc::new(queue), subscriber: Arc::new(subscriber) }
    }

    #[tokio::test]
    async fn conforms() {
        conformance::run_all(&|capacity| Box::pin(async move { make(capacity) })).await;
    }

    #[tokio::test]
    async fn keeps_the_order_also_of_what_comes_back() {
        let QueueUnderTest { name, publisher, subscriber } = make(4);
        let messages = [1, 2, 3].map(|id| Message { id: TaskId::new(id), version: 1, row: None });
        publisher.publish(&name, messages.to_vec()).await;
        let taken = subscriber.take(2);
        assert_eq!(publisher.room(&name), 1, "what is out at workers takes up room, at once");
        subscriber.requeue(taken);
        let ids: Vec<_> = subscriber.take(4).iter().map(|delivery| delivery.message.id.get()).collect();
        assert_eq!(ids, [1, 2, 3]);
    }
}
