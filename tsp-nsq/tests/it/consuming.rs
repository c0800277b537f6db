//! Consuming from a scripted nsqd.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tsp_nsq::{Consumer, Message};

use crate::fake::{FakeNsqd, frame, message, message_id, soon};
use crate::{config, consumer};

async fn receive(consumer: &Consumer) -> Message {
    soon(consumer.recv()).await.expect("the consumer is open")
}

#[tokio::test(start_paused = true)]
async fn a_frame_may_be_cut_anywhere() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 10);
    let (mut peer, ready) = soon(nsqd.subscriber()).await;
    assert_eq!(ready, 10);
    let frame = message(1, 1, b"hi");
    for cut in 1..frame.len() {
        peer.send(&frame[..cut]).await;
        assert!(timeout(Duration::from_millis(10), consumer.recv()).await.is_err(), "{cut}");
        peer.send(&frame[cut..]).await;
        let message = receive(&consumer).await;
        assert_eq!((&message.body[..], message.attempts), (&b"hi"[..], 1), "{cut}");
        assert_eq!(message.timestamp_ns, 1_700_000_000_000_000_000);
        message.finish().unwrap();
        assert_eq!(soon(peer.expect("FIN")).await.line, format!("FIN {}", message_id(1)));
    }
    assert_eq!(nsqd.seen.lock().unwrap().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_answered_while_all_messages_are_held() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 2);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    peer.deliver(1, 1, b"a").await;
    peer.deliver(2, 1, b"b").await;
    let held = [receive(&consumer).await, receive(&consumer).await];
    for _ in 0..10 {
        peer.heartbeat().await;
        soon(peer.expect("NOP")).await;
    }
    for message in held {
        message.finish().unwrap();
        soon(peer.expect("FIN")).await;
    }
    assert_eq!(nsqd.seen.lock().unwrap().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_no_sensible_size_ends_the_connection_only() {
    let limit = config().max_frame;
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 2);
    let head = |size: usize| u32::try_from(size).unwrap().to_be_bytes().to_vec();
    let cases = [
        head(0),
        head(3),
        frame(2, &[0; 25]),
        head(1 << 31),
        head(limit + 1),
        head(usize::from(u16::MAX) << 16),
    ];
    let before = peak_memory();
    for case in cases {
        let (mut peer, _) = soon(nsqd.subscriber()).await;
        peer.send(&case).await;
        soon(peer.closed()).await;
    }
    assert!(peak_memory() - before < 1 << 30, "2 GiB were taken for a frame that says it has them");
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    peer.deliver(1, 1, b"good").await;
    assert_eq!(&receive(&consumer).await.body[..], b"good");
}

/// The largest address space that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(start_paused = true)]
async fn a_message_of_an_ended_connection_is_stale() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 4);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    for id in 1..=3 {
        peer.deliver(id, 1, b"old").await;
    }
    let old = [receive(&consumer).await, receive(&consumer).await, receive(&consumer).await];
    drop(peer);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    let [first, second, third] = old;
    assert!(first.touch().is_err());
    assert!(first.finish().is_err());
    assert!(second.requeue(Duration::ZERO).is_err());
    // The same message again, on the new connection: it and no other is finished there.
    peer.deliver(3, 2, b"old").await;
    let again = receive(&consumer).await;
    assert_eq!(again.attempts, 2);
    assert!(third.finish().is_err());
    again.finish().unwrap();
    assert_eq!(soon(peer.expect("")).await.line, format!("FIN {}", message_id(3)));
    let seen = nsqd.seen.lock().unwrap();
    assert_eq!((seen.finished.len(), seen.requeued.len(), seen.touched.len()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn touch_and_requeue_are_sent_as_asked() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 4);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    peer.deliver(1, 1, b"a").await;
    let message = receive(&consumer).await;
    message.touch().unwrap();
    assert_eq!(soon(peer.expect("TOUCH")).await.line, format!("TOUCH {}", message_id(1)));
    assert_eq!(consumer.in_flight(), 1);
    message.requeue(Duration::from_millis(1500)).unwrap();
    assert_eq!(soon(peer.expect("REQ")).await.line, format!("REQ {} 1500", message_id(1)));
    assert_eq!(consumer.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_finish_keeps_the_connection() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 4);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    for failure in ["E_FIN_FAILED FIN", "E_REQ_FAILED REQ", "E_TOUCH_FAILED TOUCH"] {
        peer.deliver(1, 1, b"late").await;
        receive(&consumer).await.finish().unwrap();
        soon(peer.expect("FIN")).await;
        peer.refuse(&format!("{failure} {} failed ID not in flight", message_id(1))).await;
    }
    peer.deliver(2, 1, b"next").await;
    receive(&consumer).await.finish().unwrap();
    soon(peer.expect("FIN")).await;
    assert_eq!(nsqd.seen.lock().unwrap().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn any_other_error_is_followed_by_a_new_connection() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 4);
    for error in ["E_SUB_FAILED SUB failed deleting", "E_INVALID RDY", "E_SOMETHING_NEW"] {
        let (mut peer, _) = soon(nsqd.subscriber()).await;
        peer.refuse(error).await;
        soon(peer.closed()).await;
    }
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    peer.deliver(1, 1, b"good").await;
    receive(&consumer).await.finish().unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_finishes_what_runs_and_gives_back_what_is_stuck() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 4);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    for id in 1..=3 {
        peer.deliver(id, 1, b"running").await;
    }
    let [first, second, stuck] =
        [receive(&consumer).await, receive(&consumer).await, receive(&consumer).await];
    let (closing, closed) = oneshot::channel();
    let deadline = Duration::from_secs(5);
    let start = Instant::now();
    let ((), (), said) = tokio::join!(
        consumer.close(deadline),
        async {
            closed.await.unwrap();
            first.finish().unwrap();
            second.finish().unwrap();
        },
        async {
            let ready = soon(peer.expect("")).await.line;
            let close = soon(peer.expect("")).await.line;
            peer.respond("CLOSE_WAIT").await;
            closing.send(()).unwrap();
            let mut said = vec![ready, close];
            said.extend(soon(peer.closed()).await);
            said
        }
    );
    let [fin1, fin2] = [1, 2].map(|id| format!("FIN {}", message_id(id)));
    assert_eq!(said, ["RDY 0", "CLS", &fin1, &fin2, &format!("REQ {} 0", message_id(3))]);
    assert!(start.elapsed() < deadline, "{:?}", start.elapsed());
    assert!(stuck.finish().is_err());
    assert!(soon(consumer.recv()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn closing_gives_back_what_nobody_took_and_does_not_wait_for_it() {
    let nsqd = FakeNsqd::start().await;
    let consumer = consumer(&[&nsqd.address()], 4);
    let (mut peer, _) = soon(nsqd.subscriber()).await;
    peer.deliver(1, 1, b"taken").await;
    peer.deliver(2, 1, b"waiting").await;
    receive(&consumer).await.finish().unwrap();
    soon(consumer.ready()).await;
    let start = Instant::now();
    let ((), said) = tokio::join!(consumer.close(Duration::from_secs(30)), async {
        soon(peer.expect("FIN")).await;
        soon(peer.expect("RDY 0")).await;
        soon(peer.expect("CLS")).await;
        peer.respond("CLOSE_WAIT").await;
        soon(peer.closed()).await
    });
    assert_eq!(said, [format!("REQ {} 0", message_id(2))]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_timed_out_is_handled_on_both_of_its_connections() {
    let (one, other) = (FakeNsqd::start().await, FakeNsqd::start().await);
    let consumer = consumer(&[&one.address(), &other.address()], 4);
    let ((mut one, _), (mut other, _)) = tokio::join!(soon(one.subscriber()), soon(other.subscriber()));
    one.deliver(1, 1, b"slow").await;
    let first = receive(&consumer).await;
    other.deliver(1, 2, b"slow").await;
    let second = receive(&consumer).await;
    assert_eq!((first.attempts, second.attempts), (1, 2));
    first.finish().unwrap();
    soon(one.expect("FIN")).await;
    one.refuse(&format!("E_FIN_FAILED FIN {} failed ID not in flight", message_id(1))).await;
    second.finish().unwrap();
    soon(other.expect("FIN")).await;
    one.deliver(2, 1, b"next").await;
    receive(&consumer).await.finish().unwrap();
    soon(one.expect("FIN")).await;
}
