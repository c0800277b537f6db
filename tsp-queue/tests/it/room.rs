use std::time::Duration;

use tokio::time::timeout;
use tsp_queue::{PublishError, Publisher, Subscriber};

use crate::fixture::{Fixture, collect, queue, soon, tickets, until};

#[tokio::test(flavor = "multi_thread")]
async fn who_found_no_room_is_called_when_there_is_some() {
    let mut fixture = Fixture::new(1);
    fixture.options.capacity = 2;
    let (woken, subscriber) = (fixture.publisher(), fixture.subscriber().await);
    let results = woken.publish(1..=3).await;
    assert_eq!(results, [Ok(()), Ok(()), Err(PublishError::Full(queue()))]);
    let taken = collect(&subscriber, 2).await;
    let early = timeout(Duration::from_millis(300), woken.calls.notified()).await;
    assert!(early.is_err(), "what is out at a worker takes up room");
    subscriber.ack(&tickets(&taken));
    soon(woken.calls.notified()).await;
    assert_eq!(woken.publisher.room(&queue()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_starts_later_sees_what_is_there() {
    let mut fixture = Fixture::new(2);
    fixture.options.capacity = 10;
    fixture.publisher().insist(1..=4).await;
    fixture.publisher().insist(5..=7).await;
    let woken = fixture.publisher();
    assert_eq!(woken.publisher.room(&queue()), 0, "nothing is known yet");
    soon(woken.calls.notified()).await;
    assert_eq!(woken.publisher.room(&queue()), 3);
    let depth = woken.publisher.depth(&queue()).await;
    assert_eq!((depth.depth, depth.in_flight, depth.consumers, depth.message_count), (7, 0, 0, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_queue_asks_nothing() {
    let fixture = Fixture::new(1);
    let (woken, subscriber) = (fixture.publisher(), fixture.subscriber().await);
    let questions = || fixture.nsqds[0].log().matches("GET /stats").count();
    woken.insist([1]).await;
    let taken = collect(&subscriber, 1).await;
    let before = questions();
    // A message is out: it is asked when it will be back.
    until(|| questions() > before).await;
    subscriber.ack(&tickets(&taken));
    woken.settles_at(100).await;
    // One question may be on its way.
    let rest = async {
        let mut before = None;
        while before != Some(questions()) {
            before = Some(questions());
            assert!(timeout(Duration::from_millis(400), subscriber.ready()).await.is_err());
        }
    };
    soon(rest).await;
}
