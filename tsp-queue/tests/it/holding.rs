use std::time::Duration;

use peers::Nsqd;
use tokio::time::{Instant, timeout};
use tsp_nsq::{Channel, ClientConfig, Consumer, ConsumerOptions, Nsqds, Topic};
use tsp_queue::Subscriber;

use crate::fixture::{Fixture, collect, ids, queue, soon, stats, tickets, until};

/// Holds a copy of each message and never touches one.
fn idler(fixture: &Fixture) -> Consumer {
    let topic = Topic::new("tsp.q.default").unwrap();
    let nsqds = Nsqds::Fixed(fixture.options.nsqd_tcp.clone());
    let config = ClientConfig { msg_timeout: Some(fixture.options.msg_timeout), ..ClientConfig::default() };
    Consumer::start(ConsumerOptions::new(topic, Channel::new("idler").unwrap(), nsqds), config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_held_for_long_does_not_come_twice() {
    let mut fixture = Fixture::new(1);
    // It is touched four times in this.
    fixture.options.msg_timeout = Duration::from_secs(4);
    let (woken, subscriber, other) =
        (fixture.publisher(), fixture.subscriber().await, fixture.subscriber().await);
    let idler = idler(&fixture);
    soon(idler.connected()).await;
    woken.insist([1]).await;
    let took = tokio::select! {
        () = subscriber.ready() => &subscriber,
        () = other.ready() => &other,
    };
    let taken = collect(took, 1).await;
    let hold = async {
        let first = idler.recv().await.unwrap();
        let again = idler.recv().await.unwrap();
        let third = idler.recv().await.unwrap();
        let attempts = [first, again, third].map(|message| message.attempts);
        assert_eq!(attempts, [1, 2, 3], "nsqd gives a message out again");
    };
    tokio::select! {
        () = soon(hold) => {}
        () = subscriber.ready() => panic!("the message came again"),
        () = other.ready() => panic!("the message came again"),
    }
    let said = fixture.nsqds[0].get("/stats?format=json&topic=tsp.q.default&channel=worker").unwrap();
    assert!(said.contains(r#""in_flight_count":1"#) && said.contains(r#""timeout_count":0"#), "{said}");
    took.ack(&tickets(&taken));
    woken.settles_at(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_held_for_longer_than_nsqd_allows_comes_again_and_does_no_harm() {
    let mut fixture = Fixture::new(0);
    fixture.options.msg_timeout = Duration::from_secs(1);
    fixture.add(Nsqd::start_with(&["--max-msg-timeout=2s"]).unwrap());
    let (woken, subscriber) = (fixture.publisher(), fixture.subscriber().await);
    woken.insist([1]).await;
    let mut taken = collect(&subscriber, 1).await;
    taken.extend(collect(&subscriber, 1).await);
    assert_eq!(ids(&taken), [1, 1]);
    assert_ne!(taken[0].ticket, taken[1].ticket);
    subscriber.ack(&tickets(&taken));
    woken.settles_at(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_when_a_worker_closes_goes_to_another() {
    let fixture = Fixture::new(1);
    let (woken, closing) = (fixture.publisher(), fixture.subscriber().await);
    woken.insist(1..=5).await;
    let mut taken = collect(&closing, 3).await;
    closing.ack(&[taken.remove(0).ticket]);
    let mut left = vec![taken[0].message.id.get(), taken[1].message.id.get()];
    closing.requeue(vec![taken.remove(0)]);
    // One is held, one was requeued, and two were never taken.
    soon(closing.close(Duration::from_millis(300))).await;
    assert!(closing.take(10).is_empty());
    let other = fixture.subscriber().await;
    let came = ids(&collect(&other, 4).await);
    left.retain(|id| !came.contains(id));
    assert_eq!((came.len(), left), (4, vec![]));
    // Too late, and no harm.
    closing.ack(&tickets(&taken));
    closing.requeue(taken);
    assert!(
        timeout(Duration::from_millis(100), closing.ready()).await.is_err(),
        "a closed end is never ready"
    );
    let said = stats(&fixture.nsqds[0]);
    assert!(said.contains(r#""in_flight_count":4"#) && said.contains(r#""depth":0"#), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_as_soon_as_all_is_done() {
    let fixture = Fixture::new(1);
    let (woken, subscriber) = (fixture.publisher(), fixture.subscriber().await);
    woken.insist(1..=3).await;
    let taken = collect(&subscriber, 3).await;
    let began = Instant::now();
    let closing = async {
        subscriber.close(Duration::from_secs(15)).await;
    };
    let ack = async { subscriber.ack(&tickets(&taken)) };
    tokio::join!(closing, ack);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    woken.settles_at(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_task_is_thrown_away() {
    let fixture = Fixture::new(1);
    let (woken, subscriber) = (fixture.publisher(), fixture.subscriber().await);
    for body in [&b"junk"[..], b"1 2 3", b"0 1"] {
        fixture.nsqds[0].post("/pub?topic=tsp.q.default", body).unwrap();
    }
    woken.insist([1]).await;
    let taken = collect(&subscriber, 1).await;
    assert_eq!(ids(&taken), [1]);
    subscriber.ack(&tickets(&taken));
    // Nothing is left of the others either, once they were looked at.
    until(|| {
        assert!(subscriber.take(10).is_empty());
        stats(&fixture.nsqds[0]).contains(r#""in_flight_count":0"#)
    })
    .await;
    woken.settles_at(100).await;
    assert_eq!(fixture.nsq().depth(&queue()).await.message_count, 4);
}
