//! What a queue means. Every back end runs this suite; a case panics with what it expected.
//!
//! A queue in another process is known only by asking it, so the room that it shows is right in the end, not
//! at once; and such a queue promises no order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tsp_core::{Name, TaskId};

use crate::message::{Delivery, Message, PublishError, Publisher, Subscriber};

/// A case that waits longer than this for something has failed.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A fresh and empty queue with its only worker.
#[derive(Debug, Clone)]
pub struct QueueUnderTest {
    pub name: Name,
    pub publisher: Arc<dyn Publisher>,
    pub subscriber: Arc<dyn Subscriber>,
}

/// Makes a queue that holds so many messages.
pub type QueueFactory<'a> = &'a dyn Fn(usize) -> Pin<Box<dyn Future<Output = QueueUnderTest> + 'a>>;

/// Runs every case.
pub async fn run_all(make: QueueFactory<'_>) {
    delivers_each_message_once(make).await;
    is_bounded_by_what_waits_and_what_is_out(make).await;
    gives_a_refused_message_back(make).await;
    requeued_messages_come_again(make).await;
    ready_wakes_on_arrival(make).await;
    ready_wakes_on_requeue(make).await;
    refuses_a_queue_that_cannot_be(make).await;
    loses_nothing_in_a_stream(make).await;
}

async fn delivers_each_message_once(make: QueueFactory<'_>) {
    let made = make(10).await;
    made.publish(1..4).await;
    let taken = made.collect(3).await;
    let mut seen: Vec<_> = taken.iter().map(|d| (d.message.id.get(), d.message.version)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(1, 2), (2, 3), (3, 4)], "all three, with their versions");
    made.ack(&taken);
    made.settles_at(10).await;
    assert!(made.subscriber.take(10).is_empty(), "a message is delivered once");
}

async fn is_bounded_by_what_waits_and_what_is_out(make: QueueFactory<'_>) {
    let made = make(3).await;
    made.publish(1..4).await;
    assert_eq!(made.publisher.room(&made.name), 0, "full");
    let taken = made.collect(2).await;
    assert!(made.subscriber.take(0).is_empty(), "no more than asked for");
    // One waits and one is out at the worker.
    made.ack(&taken[..1]);
    made.settles_at(1).await;
    made.ack(&taken[1..]);
    made.settles_at(2).await;
}

async fn gives_a_refused_message_back(make: QueueFactory<'_>) {
    let made = make(1).await;
    let results = made.publisher.publish(&made.name, messages(5..7)).await;
    assert!(results[0].is_ok(), "one fits: {results:?}");
    assert_eq!(results[1], Err((message(6), PublishError::Full(made.name.clone()))), "the other comes back");
}

async fn requeued_messages_come_again(make: QueueFactory<'_>) {
    let made = make(4).await;
    made.publish(1..3).await;
    let taken = made.collect(2).await;
    made.subscriber.requeue(taken);
    let again = made.collect(2).await;
    assert_eq!(ids(&again), [1, 2], "both again");
    assert!(made.subscriber.take(4).is_empty(), "once");
    made.ack(&again[..1]);
    // They take up room once.
    made.settles_at(3).await;
}

async fn ready_wakes_on_arrival(make: QueueFactory<'_>) {
    let made = make(4).await;
    let arrived = async { tokio::time::timeout(LIMIT, made.subscriber.ready()).await };
    let (arrived, ()) = tokio::join!(arrived, made.publish(1..2));
    arrived.expect("ready says that something came");
    assert_eq!(ids(&made.collect(1).await), [1]);
}

async fn ready_wakes_on_requeue(make: QueueFactory<'_>) {
    let made = make(4).await;
    made.publish(1..2).await;
    let taken = made.collect(1).await;
    let requeue = async { made.subscriber.requeue(taken) };
    let arrived = async { tokio::time::timeout(LIMIT, made.subscriber.ready()).await };
    let (arrived, ()) = tokio::join!(arrived, requeue);
    arrived.expect("ready says that something came back");
    assert_eq!(ids(&made.collect(1).await), [1]);
}

async fn refuses_a_queue_that_cannot_be(make: QueueFactory<'_>) {
    let made = make(4).await;
    let other = Name::new(&"q".repeat(tsp_core::name::QUEUE_NAME_MAX + 1)).expect("a good name of an app");
    let results = made.publisher.publish(&other, messages(1..2)).await;
    let refused = PublishError::NoSuchQueue(other.clone());
    assert_eq!(results[0], Err((message(1), refused)), "the message is not lost");
    assert_eq!(made.publisher.room(&other), 0);
}

/// Every third message is requeued once, and more is published than fits.
async fn loses_nothing_in_a_stream(make: QueueFactory<'_>) {
    const TOTAL: i64 = 500;
    let made = make(64).await;
    let publish = async {
        let mut left = messages(1..TOTAL + 1);
        while !left.is_empty() {
            let room = made.publisher.room(&made.name);
            if room == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            let rest = left.split_off(left.len().min(room + 1));
            let results = made.publisher.publish(&made.name, std::mem::replace(&mut left, rest)).await;
            left.extend(results.into_iter().filter_map(|result| result.err().map(|(message, _)| message)));
        }
    };
    let work = async {
        let mut times = vec![0_u32; usize::try_from(TOTAL).expect("small") + 1];
        while times.iter().enumerate().skip(1).any(|(id, times)| *times < if id % 3 == 0 { 2 } else { 1 }) {
            made.subscriber.ready().await;
            for delivery in made.subscriber.take(7) {
                let id = usize::try_from(delivery.message.id.get()).expect("an index");
                times[id] += 1;
                if id % 3 == 0 && times[id] == 1 {
                    made.subscriber.requeue(vec![delivery]);
                } else {
                    made.subscriber.ack(&[delivery.ticket]);
                }
            }
        }
    };
    let both = async { tokio::join!(publish, work) };
    tokio::time::timeout(LIMIT, both).await.expect("every message is delivered, and again when given back");
    made.settles_at(64).await;
}

impl QueueUnderTest {
    /// Publishes what must fit.
    async fn publish(&self, ids: std::ops::Range<i64>) {
        let results = self.publisher.publish(&self.name, messages(ids)).await;
        assert!(results.iter().all(Result::is_ok), "there is room: {results:?}");
    }

    /// Takes until there are so many.
    async fn collect(&self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        let all = async {
            while taken.len() < count {
                self.subscriber.ready().await;
                taken.extend(self.subscriber.take(count - taken.len()));
            }
        };
        let in_time = tokio::time::timeout(LIMIT, all).await.is_ok();
        assert!(in_time, "{count} messages are delivered, not {}", taken.len());
        assert_eq!(taken.len(), count, "no more than asked for");
        taken
    }

    fn ack(&self, deliveries: &[Delivery]) {
        let tickets: Vec<_> = deliveries.iter().map(|delivery| delivery.ticket).collect();
        self.subscriber.ack(&tickets);
    }

    async fn settles_at(&self, room: usize) {
        let settled = async {
            while self.publisher.room(&self.name) != room {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, settled).await.is_ok();
        assert!(in_time, "there is room for {room}, not for {}", self.publisher.room(&self.name));
    }
}

fn message(id: i64) -> Message {
    Message { id: TaskId::new(id), version: id + 1, row: None }
}

fn messages(ids: std::ops::Range<i64>) -> Vec<Message> {
    ids.map(message).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<i64> {
    let mut ids: Vec<_> = deliveries.iter().map(|delivery| delivery.message.id.get()).collect();
    ids.sort_unstable();
    ids
}
