//! The fetcher's own thread, with a clock that is moved.

use std::sync::Arc;

use tsp_core::{Clock, Millis, TaskId, VirtualClock};
use tsp_queue::Subscriber;

use super::bed::Bed;

/// Taken as "never": a test that waits this long has failed.
const DAYS: Millis = Millis::from_days(3);

/// What comes next. The queue says that something *may* have come, and the clock goes on meanwhile.
async fn next_work(bed: &mut Bed, clock: &VirtualClock) -> Vec<TaskId> {
    loop {
        bed.worker.ready().await;
        bed.now = clock.now();
        let done = bed.work();
        if !done.is_empty() {
            return done;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_waits_for_the_clock_for_hints_and_for_its_end() {
    let mut bed = Bed::new();
    let clock = Arc::new(VirtualClock::new());
    bed.begin_at(clock.now());
    let config = bed.delayed("one");
    let (inbox, store) = (bed.inbox.clone(), bed.store.clone());
    let later = bed.submit_silently(config, clock.now().plus(DAYS));
    let at_once = bed.submit_silently(config, clock.now());
    let fetcher = std::mem::replace(&mut bed.fetcher, Bed::new().fetcher);
    let (handle, time) = (tokio::runtime::Handle::current(), clock.clone() as Arc<dyn Clock>);
    let thread = std::thread::spawn(move || crate::run(fetcher, &time, &handle));

    assert_eq!(next_work(&mut bed, &clock).await, [at_once]);
    // Asleep or about to be: a hint for now comes through either way.
    bed.now = clock.now();
    let hinted = bed.submit(config, clock.now());
    assert_eq!(next_work(&mut bed, &clock).await, [hinted]);
    // So does the clock, when it is moved and says so.
    clock.advance_to(clock.now().plus(DAYS));
    inbox.nudge();
    assert_eq!(next_work(&mut bed, &clock).await, [later]);
    // A store that fails is tried again.
    bed.fail("claim", &[tsp_store::memory::Fault::Before, tsp_store::memory::Fault::After]);
    let late = bed.submit(config, clock.now());
    assert_eq!(next_work(&mut bed, &clock).await, [late]);
    inbox.stop();
    thread.join().expect("it ends when it is told to");
    assert!(store.dump().open.is_empty(), "all have run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_ends_when_the_shards_are_somebody_elses() {
    let mut bed = Bed::new();
    let clock = Arc::new(VirtualClock::new());
    bed.begin_at(clock.now());
    let config = bed.delayed("one");
    super::bed::done(tsp_store::Ownership::take_shards(&*bed.store, bed.owner.node, bed.now)).unwrap();
    bed.submit(config, clock.now());
    let fetcher = std::mem::replace(&mut bed.fetcher, Bed::new().fetcher);
    let (handle, time) = (tokio::runtime::Handle::current(), clock as Arc<dyn Clock>);
    std::thread::spawn(move || crate::run(fetcher, &time, &handle)).join().expect("it ends by itself");
}
