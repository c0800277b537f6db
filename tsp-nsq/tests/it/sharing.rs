//! One limit for many connections, backing off, and nsqds that come and go.

use std::time::Duration;

use tokio::time::{Instant, interval, timeout};
use tsp_nsq::{ClientConfig, Consumer, ConsumerOptions, Nsqds};

use crate::auto::{AutoNsqd, Behaviour};
use crate::lookupd::FakeLookupd;
use crate::{channel, config, consumer, topic};

/// Checks ten times a second what all nsqds have received, after all that is under way has arrived: the
/// paused clock goes on only when nothing moves.
async fn until(nsqds: &[AutoNsqd], limit: Duration, mut condition: impl FnMut(&[u32]) -> bool) {
    let mut ticks = interval(Duration::from_millis(100));
    let watch = async {
        loop {
            ticks.tick().await;
            let ready: Vec<u32> = nsqds.iter().map(AutoNsqd::ready).collect();
            if condition(&ready) {
                return;
            }
        }
    };
    timeout(limit, watch).await.expect("it does not come to that");
}

async fn nsqds<const N: usize>(behaviour: &Behaviour) -> [AutoNsqd; N] {
    let mut nsqds = Vec::new();
    for _ in 0..N {
        nsqds.push(AutoNsqd::start(behaviour.clone()).await);
    }
    nsqds.try_into().unwrap()
}

fn addresses(nsqds: &[AutoNsqd]) -> Vec<&str> {
    nsqds.iter().map(|nsqd| nsqd.address.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn five_connections_share_two_messages_in_turn() {
    let nsqds = nsqds::<5>(&Behaviour::default()).await;
    let consumer = consumer(&addresses(&nsqds), 2);
    let mut had_a_turn = [false; 5];
    until(&nsqds, Duration::from_mins(1), |ready| {
        assert!(ready.iter().sum::<u32>() <= 2, "{ready:?}");
        had_a_turn.iter_mut().zip(ready).for_each(|(had, &ready)| *had |= ready == 1);
        had_a_turn == [true; 5]
    })
    .await;
    assert_eq!(consumer.connections(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_shared_evenly_and_may_change() {
    let nsqds = nsqds::<4>(&Behaviour::default()).await;
    let consumer = consumer(&addresses(&nsqds), 10);
    let limit = Duration::from_secs(30);
    until(&nsqds, limit, |ready| ready.iter().all(|&ready| ready >= 2)).await;
    assert!(nsqds.iter().map(AutoNsqd::ready).sum::<u32>() <= 10);
    consumer.set_max_in_flight(40);
    until(&nsqds, limit, |ready| ready == [10, 10, 10, 10]).await;
    consumer.set_max_in_flight(0);
    until(&nsqds, limit, |ready| ready == [0, 0, 0, 0]).await;
    consumer.set_max_in_flight(4);
    until(&nsqds, limit, |ready| ready == [1, 1, 1, 1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_limit_below_ours_is_kept() {
    let nsqds = nsqds::<1>(&Behaviour::default()).await;
    let _consumer = consumer(&addresses(&nsqds), 100_000);
    until(&nsqds, Duration::from_secs(30), |ready| ready == [2500]).await;
}

#[tokio::test(start_paused = true)]
async fn backing_off_waits_longer_each_time_and_comes_back_step_by_step() {
    let nsqds = nsqds::<2>(&Behaviour::default()).await;
    let consumer = consumer(&addresses(&nsqds), 10);
    let limit = Duration::from_mins(1);
    until(&nsqds, limit, |ready| ready == [5, 5]).await;
    for seconds in [2, 4, 8] {
        consumer.back_off();
        until(&nsqds, Duration::from_secs(1), |ready| ready == [0, 0]).await;
        let start = Instant::now();
        // More failures while it waits are the same failure.
        consumer.back_off();
        until(&nsqds, limit, |ready| ready.iter().sum::<u32>() > 0).await;
        assert_eq!(nsqds.iter().map(AutoNsqd::ready).sum::<u32>(), 1);
        let waited = start.elapsed().as_secs_f64();
        assert!((waited - f64::from(seconds)).abs() < 0.5, "{waited} s, not {seconds}");
    }
    for left in [2, 1, 0] {
        consumer.succeeded();
        if left > 0 {
            until(&nsqds, limit, |ready| ready.iter().sum::<u32>() == 0).await;
            until(&nsqds, limit, |ready| ready.iter().sum::<u32>() == 1).await;
        }
    }
    until(&nsqds, limit, |ready| ready == [5, 5]).await;
}

fn by_lookup(lookupds: &[&str]) -> Consumer {
    let nsqds = Nsqds::Lookup(lookupds.iter().map(|&address| address.to_owned()).collect());
    let lookup_every = Duration::from_secs(10);
    let options =
        ConsumerOptions { lookup_every, max_in_flight: 4, ..ConsumerOptions::new(topic(), channel(), nsqds) };
    Consumer::start(options, config())
}

#[tokio::test(start_paused = true)]
async fn what_the_lookupds_say_is_united_and_a_node_that_returns_is_taken_again() {
    let nsqds = nsqds::<3>(&Behaviour::default()).await;
    let [a, b, c] = nsqds.each_ref().map(|nsqd| nsqd.address.as_str());
    let (one, other) = (FakeLookupd::start(&[a, b]).await, FakeLookupd::start(&[b, c]).await);
    let consumer = by_lookup(&[&one.address, &other.address]);
    let limit = Duration::from_secs(40);
    until(&nsqds, limit, |ready| ready.iter().all(|&ready| ready > 0)).await;
    assert!(one.asked().iter().all(|path| path == "/lookup?topic=t"), "{:?}", one.asked());
    assert_eq!(nsqds.each_ref().map(|nsqd| nsqd.seen().connections), [1, 1, 1]);

    // One is down and the other has forgotten its node: no connection is closed.
    let address = other.address.clone();
    drop(other);
    one.list(&[b]);
    let asked = one.asked().len();
    until(&nsqds, limit, |_| one.asked().len() > asked + 1).await;
    assert_eq!(consumer.connections(), 3);

    // Both answer and none lists the first, for more than a minute. It leaves, and is not called.
    let other = FakeLookupd::at(&address, &[b, c]).await;
    let since = Instant::now();
    until(&nsqds, 3 * limit, |_| since.elapsed() > 2 * limit).await;
    nsqds[0].hang_up();
    until(&nsqds, limit, |_| consumer.connections() == 2).await;
    let asked = other.asked().len();
    until(&nsqds, limit, |_| other.asked().len() > asked + 1).await;
    assert_eq!(nsqds[0].seen().connections, 1);

    one.list(&[a, b]);
    until(&nsqds, limit, |_| consumer.connections() == 3).await;
    let (start, deadline) = (Instant::now(), Duration::from_hours(1));
    consumer.close(deadline).await;
    assert!(start.elapsed() < limit, "it is over with the connections, not after {:?}", start.elapsed());
}

fn of_a_process(lookupd: &str, config: &ClientConfig) -> Consumer {
    let nsqds = Nsqds::Lookup(vec![lookupd.to_owned()]);
    let mut options = ConsumerOptions::new(topic(), channel(), nsqds);
    options.everywhere = true;
    Consumer::start(options, config.clone())
}

/// A lookup that was started again names no nsqd until that has noticed.
#[tokio::test(start_paused = true)]
async fn a_consumer_begins_with_the_nsqds_that_its_process_has_found() {
    let nsqds = nsqds::<2>(&Behaviour::default()).await;
    let [a, b] = nsqds.each_ref().map(|nsqd| nsqd.address.as_str());
    let lookupd = FakeLookupd::start(&[a, b]).await;
    let config = config();
    let first = of_a_process(&lookupd.address, &config);
    until(&nsqds, Duration::from_secs(20), |ready| ready.iter().all(|&ready| ready > 0)).await;
    first.close(Duration::from_secs(1)).await;

    lookupd.list(&[]);
    let second = of_a_process(&lookupd.address, &config);
    until(&nsqds, Duration::from_secs(20), |_| second.connections() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn nsqds_that_are_named_one_after_the_other_are_all_called_soon() {
    let nsqds = nsqds::<3>(&Behaviour::default()).await;
    let [a, b, c] = nsqds.each_ref().map(|nsqd| nsqd.address.as_str());
    let lookupd = FakeLookupd::start(&[a]).await;
    // Once a minute, were they all known.
    let consumer = of_a_process(&lookupd.address, &config());
    for (count, named) in [(1, &[a][..]), (2, &[a, b]), (3, &[a, b, c])] {
        lookupd.list(named);
        until(&nsqds, Duration::from_secs(15), |_| consumer.connections() == count).await;
        let since = Instant::now();
        until(&nsqds, Duration::from_secs(20), |_| since.elapsed() > Duration::from_secs(14)).await;
    }
}
