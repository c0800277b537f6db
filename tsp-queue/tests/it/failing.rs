use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use peers::{Nsqd, Nsqlookupd};
use tsp_queue::{PublishError, Publisher, Subscriber};

use crate::fixture::{Fixture, collect, ids, queue, soon, stats, tickets, until};

fn is_unavailable(result: &Result<(), PublishError>) -> bool {
    matches!(result, Err(PublishError::Away(_)))
}

fn is_older_than_a_second(nsqd: &Nsqd) -> bool {
    let text = nsqd.get("/stats").unwrap();
    let uptime = text.lines().find_map(|line| line.strip_prefix("uptime ")).expect("nsqd tells its age");
    !uptime.ends_with("ms") && !uptime.ends_with("µs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_nsqd_loses_what_it_held_and_comes_back_by_itself() {
    let fixture = Fixture::new(1);
    let woken = fixture.publisher();
    assert!(woken.publish(1..=5).await.iter().all(Result::is_ok));
    // Its next start is known by the second in which it begins.
    until(|| is_older_than_a_second(&fixture.nsqds[0])).await;
    fixture.nsqds[0].kill();
    let results = woken.publish([6, 7]).await;
    assert!(results.iter().all(is_unavailable), "{results:?}");
    assert_eq!(woken.publisher.room(&queue()), 0, "there is no room in a queue that is away");
    fixture.nsqds[0].restart().unwrap();
    until(|| woken.publisher.room(&queue()) > 0).await;
    woken.insist([6, 7]).await;
    // The five no longer take up room.
    woken.settles_at(98).await;
    assert_eq!(woken.lost.load(Ordering::SeqCst), 1);
    let subscriber = fixture.subscriber().await;
    let taken = collect(&subscriber, 2).await;
    assert_eq!(ids(&taken), [6, 7]);
    subscriber.ack(&tickets(&taken));
    woken.settles_at(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_refused_is_called_when_nsqd_is_back() {
    let fixture = Fixture::new(1);
    let woken = fixture.publisher();
    woken.insist([1]).await;
    fixture.nsqds[0].kill();
    assert!(woken.publish([2]).await.iter().all(is_unavailable));
    fixture.nsqds[0].restart().unwrap();
    let called = async {
        while woken.publisher.room(&queue()) == 0 {
            woken.calls.notified().await;
        }
    };
    soon(called).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_comes_back_to_an_nsqd_that_was_killed() {
    let fixture = Fixture::new(1);
    let (woken, subscriber) = (fixture.publisher(), fixture.subscriber().await);
    woken.insist([1]).await;
    let taken = collect(&subscriber, 1).await;
    fixture.nsqds[0].kill();
    fixture.nsqds[0].restart().unwrap();
    woken.insist([2]).await;
    assert_eq!(ids(&collect(&subscriber, 1).await), [2]);
    // Of a connection that is gone: nothing happens.
    subscriber.ack(&tickets(&taken));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nsqd_that_stands_still_does_not_hold_the_fetcher() {
    let mut fixture = Fixture::new(1);
    fixture.options.answer_within = Duration::from_millis(300);
    let woken = fixture.publisher();
    woken.insist([1]).await;
    fixture.nsqds[0].pause();
    // It comes back although nsqd never answers.
    assert!(woken.publish([2]).await.iter().all(is_unavailable));
    fixture.nsqds[0].resume();
    woken.insist([2]).await;
    let subscriber = fixture.subscriber().await;
    // Each may have been stored more than once.
    let mut seen = HashSet::new();
    while seen != HashSet::from([1, 2]) {
        let taken = collect(&subscriber, 1).await;
        subscriber.ack(&tickets(&taken));
        seen.extend(ids(&taken));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_nsqds_is_enough() {
    let fixture = Fixture::new(2);
    let (woken, subscriber) = (fixture.publisher(), fixture.subscriber().await);
    woken.insist([1]).await;
    fixture.nsqds[0].kill();
    for id in 2..10 {
        woken.insist([id]).await;
    }
    // The first was perhaps in the killed one, and what was sent to it then may have come again.
    let mut seen = HashSet::new();
    while !(2..10).all(|id| seen.contains(&id)) {
        let taken = collect(&subscriber, 1).await;
        subscriber.ack(&tickets(&taken));
        seen.extend(ids(&taken));
    }
    fixture.nsqds[0].restart().unwrap();
    // Both are used again.
    let both = async {
        let mut used = false;
        while !used {
            woken.insist([100]).await;
            let taken = collect(&subscriber, 1).await;
            used = stats(&fixture.nsqds[0]).contains(r#""in_flight_count":1"#);
            subscriber.ack(&tickets(&taken));
        }
    };
    soon(both).await;
    woken.settles_at(100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stays_away_is_told_though_the_other_is_empty() {
    let fixture = Fixture::new(2);
    let (woken, _subscriber) = (fixture.publisher(), fixture.subscriber().await);
    woken.insist(1..=40).await;
    assert_eq!(woken.lost.load(Ordering::SeqCst), 0);
    fixture.nsqds[0].kill();
    until(|| woken.lost.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_tell_where_the_nsqds_are() {
    let lookupd = Nsqlookupd::start().unwrap();
    let told = format!("--lookupd-tcp-address={}", lookupd.tcp_address());
    let mut fixture = Fixture::new(0);
    fixture.nsqds = (0..2).map(|_| Nsqd::start_with(&[&told]).unwrap()).collect();
    fixture.options.lookupd_http = vec![lookupd.http_address()];
    fixture.options.lookup_every = Duration::from_secs(1);
    let nsq = fixture.nsq();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let both = async {
        while nsq.depth(&queue()).await.nsqds < 2 {
            ticks.tick().await;
        }
    };
    soon(both).await;
    let (subscriber, woken) = (fixture.subscriber().await, fixture.publisher());
    woken.insist(1..=20).await;
    let taken = collect(&subscriber, 20).await;
    assert_eq!(ids(&taken), (1..=20).collect::<Vec<_>>());
    let held = nsq.depth(&queue()).await;
    assert_eq!((held.depth, held.in_flight, held.nsqds, held.silent), (0, 20, 2, 0));
    subscriber.ack(&tickets(&taken));
    woken.settles_at(100).await;
}
