//! One worker's end of a queue as several branches, so that what holds up one of them holds up no other.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tsp_core::TaskId;

use crate::message::{Delivery, Subscriber, Ticket};

/// Which branch a task belongs to; it never changes.
pub type BranchOf = Arc<dyn Fn(TaskId) -> usize + Send + Sync>;

/// Shares `whole` out among `branches`. What one of them takes for another waits there, up to `bound`
/// messages; what is more is requeued, or a branch that stands still would in the end hold all that may be in
/// flight.
pub fn demultiplex(
    whole: Arc<dyn Subscriber>,
    branches: usize,
    bound: usize,
    branch_of: BranchOf,
) -> Vec<Arc<dyn Subscriber>> {
    let queues = (0..branches).map(|_| BranchQueue::default()).collect();
    let shared = Arc::new(DemultiplexerState { whole, queues, bound, branch_of });
    (0..branches).map(|at| Arc::new(Branch { shared: shared.clone(), at }) as Arc<dyn Subscriber>).collect()
}

struct DemultiplexerState {
    whole: Arc<dyn Subscriber>,
    queues: Vec<BranchQueue>,
    bound: usize,
    branch_of: BranchOf,
}

#[derive(Debug, Default)]
struct BranchQueue {
    waiting: Mutex<VecDeque<Delivery>>,
    came: Notify,
}

struct Branch {
    shared: Arc<DemultiplexerState>,
    at: usize,
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Branch")
            .field("whole", &self.shared.whole)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl DemultiplexerState {
    /// Puts each where it belongs. What `taker` took for itself it gets.
    fn sort(&self, taker: usize, deliveries: Vec<Delivery>) {
        let mut sorted: Vec<Vec<Delivery>> = self.queues.iter().map(|_| Vec::new()).collect();
        for delivery in deliveries {
            let branch = (self.branch_of)(delivery.message.id).min(self.queues.len() - 1);
            sorted[branch].push(delivery);
        }
        for (branch, (branch_queue, mut fresh)) in self.queues.iter().zip(sorted).enumerate() {
            if fresh.is_empty() {
                continue;
            }
            let too_many = {
                let mut waiting = branch_queue.waiting.lock();
                let bound = if branch == taker { usize::MAX } else { self.bound };
                let room = bound.saturating_sub(waiting.len());
                let too_many = fresh.split_off(room.min(fresh.len()));
                waiting.extend(fresh);
                too_many
            };
            branch_queue.came.notify_one();
            if !too_many.is_empty() {
                self.whole.requeue(too_many);
            }
        }
    }
}

#[async_trait]
impl Subscriber for Branch {
    async fn ready(&self) {
        let branch_queue = &self.shared.queues[self.at];
        loop {
            // Armed before taking, so that nothing in between is missed.
            let came = branch_queue.came.notified();
            if !branch_queue.waiting.lock().is_empty() {
                return;
            }
            tokio::select! {
                () = came => {}
                // It may be all for others, who are woken.
                () = self.shared.whole.ready() => return,
            }
        }
    }

    fn take(&self, max: usize) -> Vec<Delivery> {
        let branch_queue = &self.shared.queues[self.at];
        let waiting = branch_queue.waiting.lock().len();
        if waiting < max {
            self.shared.sort(self.at, self.shared.whole.take(max - waiting));
        }
        let mut waiting = branch_queue.waiting.lock();
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
    use crate::conformance::{self, QueueUnderTest};
    use crate::memory::MemoryQueue;
    use crate::message::{Message, Publisher};

    struct Fixture {
        name: Name,
        queue: MemoryQueue,
        even: Arc<dyn Subscriber>,
        odd: Arc<dyn Subscriber>,
    }

    impl Fixture {
        fn new(bound: usize) -> Self {
            let name = Name::new("default").expect("a good name");
            let queue = MemoryQueue::new([name.clone()], 100);
            let whole = Arc::new(queue.subscribe(&name).expect("it is there"));
            let branch_of = Arc::new(|task: TaskId| usize::from(task.get() % 2 != 0));
            let branches: [_; 2] = demultiplex(whole, 2, bound, branch_of).try_into().expect("two");
            let [even, odd] = branches;
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
            let mut branches = demultiplex(whole, 2, 100, Arc::new(|_| 1));
            QueueUnderTest { name, publisher: Arc::new(queue), subscriber: branches.remove(1) }
        };
        conformance::run_all(&|capacity| Box::pin(async move { make(capacity) })).await;
    }

    #[tokio::test]
    async fn each_part_gets_its_own_also_when_another_took_it() {
        let fixture = Fixture::new(100);
        fixture.publish(1..=6).await;
        assert_eq!(ids(&fixture.even.take(10)), [2, 4, 6]);
        let soon = Duration::from_secs(10);
        timeout(soon, fixture.odd.ready()).await.expect("what the other has put there");
        assert_eq!(ids(&fixture.odd.take(2)), [1, 3]);
        timeout(soon, fixture.odd.ready()).await.expect("there is one more");
        assert_eq!(ids(&fixture.odd.take(2)), [5]);
        assert!(fixture.even.take(10).is_empty() && fixture.odd.take(10).is_empty());
    }

    #[tokio::test]
    async fn a_part_that_waits_is_woken_by_another_that_takes() {
        let fixture = Fixture::new(100);
        let waits = timeout(Duration::from_secs(10), async {
            loop {
                fixture.odd.ready().await;
                let taken = fixture.odd.take(1);
                if !taken.is_empty() {
                    return ids(&taken);
                }
            }
        });
        let takes = async {
            fixture.publish([1]).await;
            fixture.even.take(10)
        };
        let (came, taken) = tokio::join!(waits, takes);
        assert_eq!((came.expect("woken"), taken.len()), (vec![1], 0));
    }

    #[tokio::test]
    async fn a_part_that_stands_still_holds_no_more_than_its_bound() {
        let fixture = Fixture::new(3);
        fixture.publish((0..20).map(|n| 2 * n + 1)).await;
        for round in 0..3 {
            assert!(fixture.even.take(5).is_empty());
            assert_eq!(fixture.queue.depth(&fixture.name), Some((17, 3)), "round {round}");
        }
        assert_eq!(fixture.odd.take(100).len(), 20, "and none is lost");
    }
}
