//! What runs here is never released as orphaned: however its attempts meet those before and after them.

use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::task::Status;
use tsp_core::{Millis, TaskId};

use super::fixture::{Fault, Fixture, at};
use super::pipeline::{begun, executed, saved};
use crate::{BegunAttempt, Pipeline};

fn again_at_once() -> Verdict {
    Verdict::new(Outcome::Retry(RetryDelay::Exactly(Millis::ZERO)), "tsp_result")
}

/// Begins what is in the pipe, which is one.
async fn begun_one(pipeline: &Pipeline, after_ms: i64) -> BegunAttempt {
    let items = pipeline.receive(100).await;
    let mut started = pipeline.begin(items, at(after_ms)).await.started;
    assert_eq!(started.len(), 1);
    started.remove(0)
}

/// The second attempt of task `id` runs: no comparison may take it for orphaned.
async fn is_left_alone(fixture: &Fixture, pipeline: &Pipeline, id: i64) {
    for after in [6_000, 12_000, 70_000] {
        assert_eq!(pipeline.reconcile(at(after)).await.expect("no faults"), 0);
    }
    let row = fixture.rows.task(id);
    assert_eq!((row.status, row.attempt, row.worker_losses), (Status::Executing, 2, 0), "it runs");
}

#[tokio::test]
async fn an_attempt_that_ends_after_its_receiver_completed_leaves_the_next_alone() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 3, at(0), true).await;
    let first = begun_one(&pipeline, 0).await;
    fixture.rows.complete_with_retry(1, at(1));
    fixture.publish_again(1, at(2)).await;
    let second = begun_one(&pipeline, 2).await;
    assert_eq!(second.context.task.attempt, 2);

    saved(&pipeline, vec![executed(first, Verdict::done())], 3).await;
    is_left_alone(&fixture, &pipeline, 1).await;

    saved(&pipeline, vec![executed(second, Verdict::done())], 71_000).await;
    assert_eq!((fixture.rows.status(1), fixture.depth()), (Status::Ended, (0, 0)));
}

#[tokio::test]
async fn a_finish_that_is_repeated_after_a_lost_answer_leaves_the_next_attempt_alone() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    let first = executed(begun_one(&pipeline, 0).await, again_at_once());
    fixture.rows.fail("finish", &[Fault::After]);
    let failures = pipeline.finish(vec![first], at(1)).await;
    assert_eq!(failures.len(), 1, "its answer is lost");
    fixture.publish_again(1, at(2)).await;
    let second = begun_one(&pipeline, 2).await;

    saved(&pipeline, failures.into_iter().map(|failure| failure.executed).collect(), 3).await;
    is_left_alone(&fixture, &pipeline, 1).await;
    saved(&pipeline, vec![executed(second, Verdict::done())], 71_000).await;
    assert_eq!(fixture.rows.status(1), Status::Ended);
}

#[tokio::test]
async fn a_begin_that_is_on_its_way_is_not_given_back() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    fixture.rows.fail("begin", &[Fault::Before]);
    assert_eq!(begun(&pipeline).await.again.len(), 1, "so that it compares at once");
    fixture.publish(2, 1, at(0), true).await;
    let items = pipeline.receive(100).await;
    let answer = fixture.rows.hold_begin();
    let begin = pipeline.begin(items, at(10));
    let compare = async {
        answer.is_held().await;
        assert_eq!(fixture.rows.status(2), Status::Executing, "begun, and nobody was told");
        assert_eq!(pipeline.reconcile(at(10)).await.expect("no faults"), 0);
        answer.let_go();
    };
    let (report, ()) = tokio::join!(begin, compare);
    assert_eq!(
        report.started.iter().map(|started| started.context.task.id).collect::<Vec<_>>(),
        [TaskId::new(2)]
    );
    assert_eq!(pipeline.reconcile(at(1_000)).await.expect("no faults"), 0, "now it is known to run");
    assert_eq!((fixture.rows.status(2), fixture.rows.task(2).worker_losses), (Status::Executing, 0));
}
