//! Receivers that close idle connections, at worst at the moment at which one is used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tsp_consumer_core::{Fence, SendLease};
use tsp_core::outcome::Outcome;
use tsp_core::{ManualClock, Timestamp};

use super::fault_server::{FaultServer, OK};
use super::fault_tests::{BACKOFF, assert_verdict, call, call_while, handler, loopback};
use super::fixtures::{NOW, config};

/// More than the chance of a race can hide from.
const CALLS: usize = 400;

#[tokio::test]
async fn a_receiver_that_reads_a_request_and_closes_gets_it_once_more_on_a_new_connection() {
    for reset in [false, true] {
        let mut server = FaultServer::start(move |mut peer| async move {
            peer.read_request().await;
            peer.write(OK).await;
            peer.read_request().await;
            if reset {
                peer.stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let (handler, config) = (handler(&loopback()), config(&server.url()));
        for number in 1..=3 {
            assert_verdict(&call(&handler, &config).await, Outcome::Done, "ok", Some(200));
            assert_eq!(server.connections(), number);
        }
        let requests: Vec<String> = std::iter::from_fn(|| server.requests.try_recv().ok()).collect();
        assert_eq!(requests.len(), 5, "the second and the third call were sent twice");
        for request in requests {
            assert!(request.contains("\r\nidempotency-key: 7301\r\n"), "{request}");
            assert!(request.contains("\r\ntsp-attempt: 2\r\n"), "{request}");
            assert!(request.ends_with("\r\n\r\n{\"order\":42}"), "{request}");
        }
    }
}

#[derive(Debug)]
struct Lease(AtomicBool);

impl SendLease for Lease {
    fn may_send(&self, _now: Timestamp) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The receiver is slow and then breaks the connection; meanwhile the lease ends, and another worker begins
/// the next attempt.
#[tokio::test]
async fn nothing_is_sent_again_when_the_lease_is_over() {
    let lease = Arc::new(Lease(AtomicBool::new(true)));
    let ends = Arc::clone(&lease);
    let mut server = FaultServer::start(move |mut peer| {
        let ends = Arc::clone(&ends);
        async move {
            peer.read_request().await;
            peer.write(OK).await;
            peer.read_request().await;
            ends.0.store(false, Ordering::Release);
        }
    })
    .await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    let fence = Fence::new(lease, Arc::new(ManualClock::at(NOW)));
    assert_verdict(&call_while(&handler, &config, fence.clone()).await, Outcome::Done, "ok", Some(200));
    assert_verdict(&call_while(&handler, &config, fence.clone()).await, BACKOFF, "connection_broken", None);
    assert_eq!(server.drain_requests(), 2);
    // Nor for the first time.
    let snooze = Outcome::Snooze { until: NOW };
    assert_verdict(&call_while(&handler, &config, fence).await, snooze, "lease_over", None);
    assert_eq!(server.drain_requests(), 0);
}

#[tokio::test]
async fn a_new_connection_that_breaks_is_not_repeated() {
    let mut server = FaultServer::start(|mut peer| async move {
        peer.read_request().await;
        if peer.number == 1 {
            peer.write(OK).await;
            peer.read_request().await;
        }
    })
    .await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    assert_verdict(&call(&handler, &config).await, Outcome::Done, "ok", Some(200));
    assert_verdict(&call(&handler, &config).await, BACKOFF, "connection_broken", None);
    assert_eq!((server.connections(), server.drain_requests()), (2, 3));
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    for start in [&b"H"[..], b"HTTP/1.1 200 OK\r\nconte"] {
        let mut server = FaultServer::start(move |mut peer| async move {
            peer.read_request().await;
            peer.write(OK).await;
            peer.read_request().await;
            peer.write(start).await;
        })
        .await;
        let (handler, config) = (handler(&loopback()), config(&server.url()));
        assert_verdict(&call(&handler, &config).await, Outcome::Done, "ok", Some(200));
        assert_verdict(&call(&handler, &config).await, BACKOFF, "connection_broken", None);
        assert_eq!((server.connections(), server.drain_requests()), (1, 2));
    }
}

/// Each connection is closed at about the moment at which it is used again: now a little before, now a
/// little after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_meet_a_closing_connection_all_succeed() {
    let (answered, mut next) = mpsc::unbounded_channel();
    let (go, gone) = watch::channel(0_usize);
    let server = FaultServer::start(move |mut peer| {
        let (answered, mut gone) = (answered.clone(), gone.clone());
        async move {
            peer.read_request().await;
            gone.mark_unchanged();
            peer.write(OK).await;
            answered.send(()).unwrap();
            let _ = gone.changed().await;
            for _ in 0..peer.number % 16 {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    for number in 1..=CALLS {
        assert_verdict(&call(&handler, &config).await, Outcome::Done, "ok", Some(200));
        next.recv().await.unwrap();
        go.send(number).unwrap();
        for _ in 0..number % 7 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_a_receiver_says_of_its_keep_alive_is_obeyed() {
    let answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=2\r\ncontent-length: 0\r\n\r\n";
    let mut server = FaultServer::answering(&answer[..]).await;
    let (handler, config) = (handler(&loopback()), config(&server.url()));
    for _ in 0..2 {
        call(&handler, &config).await;
    }
    assert_eq!(server.connections(), 1);
    let pool = handler.prepare(&config).unwrap().pool.clone();
    handler.close_idle(Instant::now());
    assert_eq!(pool.idle_count(), 1);
    handler.close_idle(Instant::now() + Duration::from_secs(1));
    assert_eq!(pool.idle_count(), 0);
    server.closed.recv().await.unwrap();

    let answer = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=5, max=0\r\ncontent-length: 0\r\n\r\n";
    let server = FaultServer::answering(&answer[..]).await;
    let config = super::fixtures::config(&server.url());
    let handler = self::handler(&loopback());
    for _ in 0..2 {
        call(&handler, &config).await;
    }
    assert_eq!(server.connections(), 2);
}
