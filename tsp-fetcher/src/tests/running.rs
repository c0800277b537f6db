//! The fetcher's own thread, with a clock that is moved.

use std::sync::Arc;

use tsp_core::{Clock, Millis, SystemClock, TaskId, VirtualClock};
use tsp_queue::Subscriber;

use super::fixture::Fixture;

/// Taken as "never": a test that waits this long has failed.
const DAYS: Millis = Millis::from_days(3);

#[expect(clippy::disallowed_methods, reason = "the fetcher's thread sleeps in real time")]
fn virtual_clock() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::new(SystemClock::new()))
}

/// What comes next. The queue says that something *may* have come, and the clock goes on meanwhile.
async fn next_work(fixture: &mut Fixture, clock: &VirtualClock) -> Vec<TaskId> {
    loop {
        fixture.worker.ready().await;
        fixture.now = clock.now();
        let done = fixture.work();
        if !done.is_empty() {
            return done;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_waits_for_the_clock_for_hints_and_for_its_end() {
    let mut fixture = Fixture::new();
    let clock = virtual_clock();
    fixture.begin_at(clock.now());
    let config = fixture.delayed("one");
    let (inbox, store) = (fixture.inbox.clone(), fixture.store.clone());
    let later = fixture.submit_silently(config, clock.now().plus(DAYS));
    let at_once = fixture.submit_silently(config, clock.now());
    let fetcher = std::mem::replace(&mut fixture.fetcher, Fixture::new().fetcher);
    let (handle, time) = (tokio::runtime::Handle::current(), clock.clone() as Arc<dyn Clock>);
    let thread = std::thread::spawn(move || crate::run(fetcher, &time, &handle));

    assert_eq!(next_work(&mut fixture, &clock).await, [at_once]);
    // Asleep or about to be: a hint for now comes through either way.
    fixture.now = clock.now();
    let hinted = fixture.submit(config, clock.now());
    assert_eq!(next_work(&mut fixture, &clock).await, [hinted]);
    // So does the clock, when it is moved and says so.
    clock.advance_to(clock.now().plus(DAYS));
    inbox.wake();
    assert_eq!(next_work(&mut fixture, &clock).await, [later]);
    // A store that fails is tried again.
    fixture
        .fail("claim", &[tsp_store_testing::memory::Fault::Before, tsp_store_testing::memory::Fault::After]);
    let late = fixture.submit(config, clock.now());
    assert_eq!(next_work(&mut fixture, &clock).await, [late]);
    inbox.stop();
    thread.join().expect("it ends when it is told to");
    assert!(store.dump().open.is_empty(), "all have run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_ends_when_the_shards_are_somebody_elses() {
    let mut fixture = Fixture::new();
    let clock = virtual_clock();
    fixture.begin_at(clock.now());
    let config = fixture.delayed("one");
    super::fixture::done(tsp_store::EmbeddedOwnership::take_shards(
        &*fixture.store,
        fixture.owner.node,
        fixture.now,
    ))
    .unwrap();
    fixture.submit(config, clock.now());
    let fetcher = std::mem::replace(&mut fixture.fetcher, Fixture::new().fetcher);
    let (handle, time) = (tokio::runtime::Handle::current(), clock as Arc<dyn Clock>);
    std::thread::spawn(move || crate::run(fetcher, &time, &handle)).join().expect("it ends by itself");
}
