//! The worker as it runs: real threads, signals and channels, no sleeps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tsp_core::Millis;
use tsp_core::outcome::OutcomeKind;
use tsp_core::task::Status;

use super::fixture::{Call, Fault, Fixture, ScriptedReceiver, at};
use crate::begin::BeginLoop;
use crate::finish::StuckCounts;
use crate::permits::Permits;
use crate::{Worker, WorkerOptions};

struct RunningWorker {
    fixture: Fixture,
    calls: UnboundedReceiver<Call>,
    stop: CancellationToken,
    worker: JoinSet<()>,
}

impl RunningWorker {
    fn start(fixture: Fixture, options: WorkerOptions) -> Self {
        let (scripted_receiver, calls) = ScriptedReceiver::new();
        let (stop, mut worker) = (CancellationToken::new(), JoinSet::new());
        worker.spawn(Worker::new(fixture.pipeline(), scripted_receiver, options).run(stop.clone()));
        Self { fixture, calls, stop, worker }
    }

    async fn called(&mut self) -> Call {
        self.calls.recv().await.expect("the worker calls")
    }

    async fn stopped(mut self) -> Fixture {
        self.stop.cancel();
        self.worker.join_next().await.expect("one worker").expect("it does not panic");
        self.fixture
    }
}

fn options() -> WorkerOptions {
    WorkerOptions {
        concurrency: 4,
        per_config: 2,
        batch: 8,
        finish_wait: Duration::from_millis(1),
        shutdown_grace: Duration::from_hours(1),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_config_blocks_nobody_and_its_rest_waits_unbegun() {
    let mut running = RunningWorker::start(Fixture::new(), options());
    for id in 1..=5 {
        running.fixture.publish(id, 1, at(0), true).await;
    }
    running.fixture.publish(6, 2, at(0), false).await;
    let mut first = [running.called().await, running.called().await, running.called().await];
    first.sort_by_key(Call::id);
    assert_eq!(first.each_ref().map(Call::id), [1, 2, 6], "two of the slow one, and the other");
    assert_eq!(running.fixture.rows.status(3), Status::Queued, "no begin without a permit");
    let [slow, other_slow, quick] = first;
    quick.done();
    assert_eq!(running.fixture.said().await.task.get(), 6);
    slow.done();
    let third = running.called().await;
    assert_eq!(third.id(), 3, "in order, as permits become free");
    third.done();
    other_slow.done();
    for _ in 0..2 {
        running.called().await.done();
    }
    for _ in 0..5 {
        running.fixture.said().await;
    }
    let fixture = running.stopped().await;
    assert_eq!(fixture.depth(), (0, 0));
    assert!((1..=6).all(|id| fixture.rows.status(id) == Status::Ended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_hands_back_what_is_not_begun_and_waits_for_what_runs() {
    let mut running = RunningWorker::start(Fixture::new(), options());
    for id in 1..=4 {
        running.fixture.publish(id, 1, at(0), true).await;
    }
    let (first, second) = (running.called().await, running.called().await);
    running.stop.cancel();
    // The two that wait are handed back while the others still run.
    for _ in 0..2 {
        let said = running.fixture.said().await;
        assert_eq!(running.fixture.rows.status(said.task.get()), Status::Scheduled);
    }
    first.done();
    running.fixture.rows.fail("finish", &[Fault::Before]);
    second.done();
    let fixture = running.stopped().await;
    let statuses = [1, 2, 3, 4].map(|id| fixture.rows.status(id));
    assert_eq!(statuses.iter().filter(|status| **status == Status::Ended).count(), 2, "{statuses:?}");
    assert_eq!(fixture.depth(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_ends_with_a_call_that_hangs_and_a_store_that_stays_away() {
    let grace = WorkerOptions { shutdown_grace: Duration::from_millis(20), ..options() };
    let mut running = RunningWorker::start(Fixture::new(), grace);
    running.fixture.publish(1, 1, at(0), true).await;
    running.fixture.publish(2, 1, at(0), true).await;
    let (hangs, quick) = (running.called().await, running.called().await);
    running.fixture.rows.fail("finish", &[Fault::Before; 1_000]);
    quick.done();
    let fixture = running.stopped().await;
    assert_eq!((fixture.rows.status(1), fixture.rows.status(2)), (Status::Executing, Status::Executing));
    assert_eq!(fixture.depth().1, 2, "neither is acknowledged: both come again");
    drop(hangs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begin_and_finish_are_tried_until_they_succeed() {
    let fixture = Fixture::new();
    fixture.rows.fail("begin", &[Fault::Before]);
    fixture.rows.fail("finish", &[Fault::Before]);
    fixture.rows.fail("load", &[Fault::Before]);
    fixture.publish(1, 1, at(0), false).await;
    let clock = Arc::clone(&fixture.clock);
    let mut running = RunningWorker::start(fixture, options());
    // The failed begin is put off by the clock, which the worker looks at when anything comes.
    let call = loop {
        clock.advance(tsp_core::Millis::from_secs(1));
        tokio::select! {
            call = running.called() => break call,
            () = tokio::task::yield_now() => {}
        }
    };
    call.done();
    assert_eq!(running.fixture.said().await.task.get(), 1);
    let fixture = running.stopped().await;
    assert_eq!(
        (fixture.rows.status(1), fixture.rows.task(1).attempt, fixture.depth()),
        (Status::Ended, 1, (0, 0))
    );
    assert_eq!((fixture.rows.calls("begin"), fixture.rows.calls("finish")), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_message_waits_for_its_time() {
    let mut running = RunningWorker::start(Fixture::new(), options());
    running.fixture.publish(1, 1, at(900), true).await;
    running.fixture.publish(2, 2, at(0), true).await;
    let other = running.called().await;
    assert_eq!((other.id(), running.fixture.rows.status(1)), (2, Status::Queued));
    running.fixture.clock.advance_to(at(900));
    // A free permit makes the worker look.
    other.done();
    let call = running.called().await;
    assert_eq!((call.id(), call.context.now), (1, at(900)));
    call.done();
    running.fixture.said().await;
    running.fixture.said().await;
    running.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_keeps_neither_its_permit_nor_its_row() {
    let one = WorkerOptions { concurrency: 1, ..options() };
    let mut running = RunningWorker::start(Fixture::new(), one);
    running.fixture.publish(1, 1, at(0), true).await;
    running.fixture.publish(2, 1, at(0), true).await;
    drop(running.called().await);
    let said = running.fixture.said().await;
    assert!(said.due_again.is_some(), "it is tried again: {said:?}");
    assert_eq!(running.called().await.id(), 2, "on the permit that the other left");
    let last = running.fixture.rows.task(1).last_outcome.expect("an outcome");
    assert_eq!((last.kind, &*last.reason), (OutcomeKind::Retry, "handler_panicked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_stands_still_holds_up_no_pipeline_beside_it() {
    let (still, well) = (Fixture::new(), Fixture::new());
    still.rows.stand_still("begin", 0);
    let (scripted_receiver, mut calls) = ScriptedReceiver::new();
    let first = Worker::new(still.pipeline(), scripted_receiver, options());
    let beside = first.beside(well.pipeline());
    let mut workers = JoinSet::new();
    workers.spawn(first.run(CancellationToken::new()));
    workers.spawn(beside.run(CancellationToken::new()));
    still.publish(1, 1, at(0), true).await;
    still.publish(2, 1, at(0), true).await;
    // Two of four permits are held by the begin that is not answered; the other two serve all of these.
    for id in 3..=8 {
        well.publish(id, 2, at(0), true).await;
        let call = calls.recv().await.expect("the worker calls");
        assert_eq!(call.id(), id);
        call.done();
    }
    assert_eq!((still.rows.status(1), still.rows.status(2)), (Status::Queued, Status::Queued));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_stands_still_holds_up_no_other() {
    for call in ["load", "begin", "finish"] {
        let fixture = Fixture::new();
        fixture.rows.split_in(2);
        fixture.rows.stand_still(call, 1);
        let mut running = RunningWorker::start(fixture, options());
        for id in [1, 3] {
            running.fixture.publish(id, 1, at(0), false).await;
        }
        if call == "finish" {
            for _ in 0..2 {
                running.called().await.done();
            }
        }
        for id in [2, 4, 6, 8, 10, 12] {
            running.fixture.publish(id, 2, at(0), false).await;
            let call = running.called().await;
            assert_eq!(call.id(), id);
            call.done();
            assert_eq!(running.fixture.said().await.task.get(), id);
        }
        let still = if call == "finish" { Status::Executing } else { Status::Queued };
        assert_eq!(
            (running.fixture.rows.status(1), running.fixture.rows.status(3)),
            (still, still),
            "{call}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_full_bulkhead_do_not_keep_the_loop_busy() {
    let fixture = Fixture::new();
    fixture.rows.split_in(2);
    fixture.rows.stand_still("load", 1);
    let (permits, stop) = (Arc::new(Permits::new(4, 2)), CancellationToken::new());
    let (pipeline, stuck) = (Arc::new(fixture.pipeline()), Arc::new(StuckCounts::new(2)));
    let mut begins = BeginLoop::new(pipeline, permits.clone(), options(), stuck);
    let mut freed = permits.freed();
    fixture.publish(1, 1, at(0), false).await;
    let first = begins.round(&mut freed, &stop, &|_| {});
    assert!(tokio::time::timeout(Duration::from_millis(1), first).await.is_err(), "its load hangs");
    fixture.clock.advance(Millis::from_secs(2));
    for id in [3, 5, 7] {
        fixture.publish(id, 1, at(0), false).await;
    }
    let start = Instant::now();
    for _ in 0..20 {
        begins.round(&mut freed, &stop, &|_| {}).await;
    }
    assert_eq!(fixture.depth(), (2, 2), "one is being loaded, one waits for that, two are in the queue");
    assert!(start.elapsed() >= Duration::from_millis(19), "20 rounds took {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_is_refused_ends_up_alone() {
    let mut running = RunningWorker::start(Fixture::new(), WorkerOptions { per_config: 4, ..options() });
    running.fixture.rows.refuse(2);
    for id in 1..=4 {
        running.fixture.publish(id, 1, at(0), true).await;
    }
    for _ in 0..4 {
        running.called().await.done();
    }
    let mut saved = Vec::new();
    for _ in 0..3 {
        saved.push(running.fixture.said().await.task.get());
    }
    saved.sort_unstable();
    assert_eq!((saved, running.fixture.rows.status(2)), (vec![1, 3, 4], Status::Executing));
    assert_eq!(running.fixture.depth(), (0, 1), "its message is not acknowledged");
    assert_eq!(running.fixture.rows.task(2).worker_losses, 0, "and it is not called again");
}
