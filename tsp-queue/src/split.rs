//! One worker's end of a queue as several, so that what holds up one part of the tasks holds up no other.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tsp_core::TaskId;

use crate::message::{Delivery, Subscriber, Ticket};

/// Which part a task belongs to; the same for ever.
pub type PartOf = Arc<dyn Fn(TaskId) -> usize + Send + Sync>;

/// Shares `whole` out among `parts`. What one of them takes for another waits there, up to `bound` messages; what
/// is more is given back, or a part that stands still would in the end hold all that may be in flight.
pub fn split(
    whole: Arc<dyn Subscriber>,
    parts: usize,
    bound: usize,
    part_of: PartOf,
) -> Vec<Arc<dyn Subscriber>> {
    let heaps = (0..parts).map(|_| Heap::default()).collect();
    let shared = Arc::new(Shared { whole, heaps, bound, part_of });
    (0..parts).map(|at| Arc::new(Part { shared: shared.clone(), at }) as Arc<dyn Subscriber>).collect()
}

struct Shared {
    whole: Arc<dyn Subscriber>,
    heaps: Vec<Heap>,
    bound: usize,
    part_of: PartOf,
}

#[derive(Debug, Default)]
struct Heap {
    waiting: Mutex<VecDeque<Delivery>>,
    came: Notify,
}

struct Part {
    shared: Arc<Shared>,
    at: usize,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part")
            .field("whole", &self.shared.whole)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Puts each where it belongs. What `taker` took for itself it gets.
    fn sort(&self, taker: usize, deliveries: Vec<Delivery>) {
        let mut sorted: Vec<Vec<Delivery>> = self.heaps.iter().map(|_| Vec::new()).collect();
        for delivery in deliveries {
            let part = (self.part_of)(delivery.message.id).min(self.heaps.len() - 1);
            sorted[part].push(delivery);
        }
        for (part, (heap, mut news)) in self.heaps.iter().zip(sorted).enumerate() {
            if news.is_empty() {
                continue;
            }
            let too_many = {
                let mut waiting = heap.waiting.lock();
                let bound = if part == taker { usize::MAX } else { self.bound };
                let room = bound.saturating_sub(waiting.len());
                let too_many = news.split_off(room.min(news.len()));
                waiting.extend(news);
                too_many
            };
            heap.came.notify_one();
            if !too_many.is_empty() {
                self.whole.requeue(too_many);
            }
        }
    }
}

#[async_trait]
impl Subscriber for Part {
    async fn ready(&self) {
        let heap = &self.shared.heaps[self.at];
        loop {
            // Armed before the look, so that nothing in between is missed.
            let came = heap.came.notified();
            if !heap.waiting.lock().is_empty() {
                return;
            }
            tokio::select! {
                () = came => {}
                // It may be all for others, who are told of it.
                () = self.shared.whole.ready() => return,
            }
        }
    }

    fn take(&self, max: usize) -> Vec<Delivery> {
        let heap = &self.shared.heaps[self.at];
        let waiting = heap.waiting.lock().len();
        if waiting < max {
            self.shared.sort(self.at, self.shared.whole.take(max - waiting));
        }
        let mut waiting = heap.waiting.lock();
        let count = max.min(waiting.len());
        waiting.drain(..count).collect()
    }

    fn ack(&self, tickets: &[Ticket]) {
        self.shared.whole.ack(tickets);
    }

    fn requeue(&self, deliveries: Vec<Delivery>) {
        self.shared.whole.requeue(deliveries);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use tsp_core::Name;

    use super::*;
    use crate::conformance::{self, Made};
    use crate::memory::MemoryQueue;
    use crate::message::{Message, Publisher};

    struct Bed {
        name: Name,
        queue: MemoryQueue,
        even: Arc<dyn Subscriber>,
        odd: Arc<dyn Subscriber>,
    }

    impl Bed {
        fn new(bound: usize) -> Self {
            let name = Name::new("default").expect("a good name");
            let queue = MemoryQueue::new([name.clone()], 100);
            let whole = Arc::new(queue.subscribe(&name).expect("it is there"));
            let part_of = Arc::new(|task: TaskId| usize::from(task.get() % 2 != 0));
            let parts: [_; 2] = split(whole, 2, bound, part_of).try_into().expect("two");
            let [even, odd] = parts;
            Self { name, queue, even, odd }
        }

        async fn publish(&self, ids: impl IntoIterator<Item = i64>) {
            let message = |id| Message { id: TaskId::new(id), version: 1, row: None };
            let messages = ids.into_iter().map(message).collect();
            let refused = self.queue.publish(&self.name, messages).await;
            assert!(refused.iter().all(Result::is_ok));
        }
    }

    fn ids(deliveries: &[Delivery]) -> Vec<i64> {
        deliveries.iter().map(|delivery| delivery.message.id.get()).collect()
    }

    #[tokio::test]
    async fn conforms() {
        let make = |capacity| {
            let name = Name::new("default").expect("a good name");
            let queue = MemoryQueue::new([name.clone()], capacity);
            let whole = Arc::new(queue.subscribe(&name).expect("it is there"));
            let mut parts = split(whole, 2, 100, Arc::new(|_| 1));
            Made { name, publisher: Arc::new(queue), subscriber: parts.remove(1) }
        };
        conformance::run_all(&|capacity| Box::pin(async move { make(capacity) })).await;
    }

    #[tokio::test]
    async fn each_part_gets_its_own_also_when_another_took_it() {
        let bed = Bed::new(100);
        bed.publish(1..=6).await;
        assert_eq!(ids(&bed.even.take(10)), [2, 4, 6]);
        let soon = Duration::from_secs(10);
        timeout(soon, bed.odd.ready()).await.expect("what the other has put there");
        assert_eq!(ids(&bed.odd.take(2)), [1, 3]);
        timeout(soon, bed.odd.ready()).await.expect("there is one more");
        assert_eq!(ids(&bed.odd.take(2)), [5]);
        assert!(bed.even.take(10).is_empty() && bed.odd.take(10).is_empty());
    }

    #[tokio::test]
    async fn a_part_that_waits_is_woken_by_another_that_takes() {
        let bed = Bed::new(100);
        let waits = timeout(Duration::from_secs(10), async {
            loop {
                bed.odd.ready().await;
                let taken = bed.odd.take(1);
                if !taken.is_empty() {
                    return ids(&taken);
                }
            }
        });
        let takes = async {
            bed.publish([1]).await;
            bed.even.take(10)
        };
        let (came, taken) = tokio::join!(waits, takes);
        assert_eq!((came.expect("woken"), taken.len()), (vec![1], 0));
    }

    #[tokio::test]
    async fn a_part_that_stands_still_holds_no_more_than_its_bound() {
        let bed = Bed::new(3);
        bed.publish((0..20).map(|n| 2 * n + 1)).await;
        for round in 0..3 {
            assert!(bed.even.take(5).is_empty());
            assert_eq!(bed.queue.depth(&bed.name), Some((17, 3)), "round {round}");
        }
        assert_eq!(bed.odd.take(100).len(), 20, "and none is lost");
    }
}
