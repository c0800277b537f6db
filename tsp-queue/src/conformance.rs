//! What a queue means. Every back end runs this suite; a case panics with what it expected.

use std::sync::Arc;

use tsp_core::{Name, TaskId};

use crate::message::{Message, PublishError, Publisher, Subscriber};

/// Makes a fresh queue that holds `capacity` messages, and its only worker's end.
pub type Make<'a> = &'a dyn Fn(usize) -> (Arc<dyn Publisher>, Arc<dyn Subscriber>);

/// Runs every case for the queue called `name`.
pub async fn run_all(name: &Name, make: Make<'_>) {
    delivers_in_order(name, make).await;
    is_bounded_by_what_waits_and_what_is_out(name, make).await;
    gives_a_refused_message_back(name, make).await;
    requeued_messages_come_again(name, make).await;
    ready_wakes_on_arrival(name, make).await;
    refuses_an_unknown_queue(make).await;
}

fn message(id: i64) -> Message {
    Message { id: TaskId::new(id), version: id + 1, row: None }
}

fn messages(ids: std::ops::Range<i64>) -> Vec<Message> {
    ids.map(message).collect()
}

async fn delivers_in_order(name: &Name, make: Make<'_>) {
    let (publisher, subscriber) = make(10);
    let results = publisher.publish(name, messages(1..4)).await;
    assert!(results.iter().all(Result::is_ok), "three messages fit into a queue of ten: {results:?}");
    let taken = subscriber.take(2);
    let ids: Vec<_> = taken.iter().map(|d| (d.message.id.get(), d.message.version)).collect();
    assert_eq!(ids, [(1, 2), (2, 3)], "the first two, with their versions");
    assert_eq!(subscriber.take(10).len(), 1, "the third");
    assert!(subscriber.take(10).is_empty(), "a message is delivered once");
}

async fn is_bounded_by_what_waits_and_what_is_out(name: &Name, make: Make<'_>) {
    let (publisher, subscriber) = make(3);
    publisher.publish(name, messages(0..3)).await;
    assert_eq!(publisher.room(name), 0, "full");
    let taken = subscriber.take(2);
    assert_eq!(publisher.room(name), 0, "what is out at workers takes up room");
    let tickets: Vec<_> = taken.iter().map(|delivery| delivery.ticket).collect();
    subscriber.ack(&tickets);
    assert_eq!(publisher.room(name), 2, "what is acknowledged does not");
}

async fn gives_a_refused_message_back(name: &Name, make: Make<'_>) {
    let (publisher, _subscriber) = make(1);
    let results = publisher.publish(name, messages(5..7)).await;
    assert!(results[0].is_ok(), "one fits");
    assert_eq!(results[1], Err((message(6), PublishError::Full(name.clone()))), "the other comes back");
}

async fn requeued_messages_come_again(name: &Name, make: Make<'_>) {
    let (publisher, subscriber) = make(4);
    publisher.publish(name, messages(0..2)).await;
    let taken = subscriber.take(2);
    subscriber.requeue(taken);
    let mut ids: Vec<_> = subscriber.take(4).iter().map(|d| d.message.id.get()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1], "both again, once");
    assert_eq!(publisher.room(name), 2, "they take up room once");
}

async fn ready_wakes_on_arrival(name: &Name, make: Make<'_>) {
    let (publisher, subscriber) = make(4);
    let ((), results) = tokio::join!(subscriber.ready(), publisher.publish(name, messages(0..1)));
    assert!(results[0].is_ok());
    subscriber.ready().await;
    assert_eq!(subscriber.take(1).len(), 1, "ready means that there is something");
}

async fn refuses_an_unknown_queue(make: Make<'_>) {
    let (publisher, _subscriber) = make(4);
    let other = Name::new("no-such-queue").expect("a good name");
    let results = publisher.publish(&other, messages(0..1)).await;
    let refused = PublishError::NoSuchQueue(other.clone());
    assert_eq!(results[0], Err((message(0), refused)), "the message is not lost");
    assert_eq!(publisher.room(&other), 0);
}
