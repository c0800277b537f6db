//! The two batched steps.

use sha2::{Digest, Sha256};
use tsp_core::outcome::{Outcome, Verdict};
use tsp_core::task::Status;
use tsp_core::{ConfigId, Millis, TaskId};
use tsp_queue::Message;

use super::fixture::{Fault, Fixture, at};
use crate::{BeginReport, BegunAttempt, EndedAttempt, Item, Pipeline};

async fn received(pipeline: &Pipeline) -> Vec<Item> {
    pipeline.receive(100).await
}

pub(super) async fn begun(pipeline: &Pipeline) -> BeginReport {
    pipeline.begin(received(pipeline).await, at(0)).await
}

pub(super) fn executed(started: BegunAttempt, verdict: Verdict) -> EndedAttempt {
    EndedAttempt { ended_at: at(0), task: started.context.task, ticket: started.ticket, verdict }
}

pub(super) async fn saved(pipeline: &Pipeline, batch: Vec<EndedAttempt>, after_ms: i64) {
    let failures = pipeline.finish(batch, at(after_ms)).await;
    assert!(failures.is_empty(), "{failures:?}");
}

#[tokio::test]
async fn a_message_is_begun_run_finished_and_only_then_acknowledged() {
    let mut fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    fixture.publish(2, 1, at(0), false).await;
    let report = begun(&pipeline).await;
    assert_eq!(
        (report.started.len(), fixture.rows.status(1), fixture.depth()),
        (2, Status::Executing, (0, 2))
    );
    let mut batch: Vec<_> =
        report.started.into_iter().map(|started| executed(started, Verdict::retry("http_status"))).collect();
    fixture.rows.fail("finish", &[Fault::Before, Fault::After]);
    for _ in 0..2 {
        let failures = pipeline.finish(batch, at(1)).await;
        batch = failures.into_iter().map(|failure| failure.executed).collect();
        assert_eq!(batch.len(), 2, "both come back");
        assert_eq!(fixture.depth(), (0, 2), "nothing is acknowledged before it is saved");
        assert!(fixture.told.try_recv().is_err(), "and nothing is said");
    }
    // The second one was saved: the third comes too late, and is acknowledged all the same.
    saved(&pipeline, batch, 2).await;
    assert_eq!((fixture.depth(), fixture.rows.status(1)), ((0, 0), Status::Scheduled));
    assert_eq!(fixture.said().await.task, TaskId::new(1));
}

#[tokio::test]
async fn feedback_says_when_a_row_is_due_again_and_who_is_to_wait() {
    let mut fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    for id in 1..=3 {
        fixture.publish(id, 3, at(0), true).await;
    }
    let park = Some(Millis::from_secs(9));
    let until = at(7_000);
    let verdicts = [
        Verdict::done(),
        Verdict { park, ..Verdict::new(Outcome::Snooze { until }, "tsp_result") },
        Verdict::new(Outcome::Accepted, "accepted"),
    ];
    let report = begun(&pipeline).await;
    let batch: Vec<_> = report
        .started
        .into_iter()
        .zip(verdicts)
        .map(|(started, verdict)| executed(started, verdict))
        .collect();
    saved(&pipeline, batch, 0).await;
    let said = fixture.said().await;
    assert_eq!(
        (said.config, said.due_again, said.awaits_until, said.park),
        (Some(ConfigId::new(3)), None, None, None)
    );
    let said = fixture.said().await;
    assert_eq!((said.due_again, said.awaits_until, said.park), (Some(until), None, park));
    let said = fixture.said().await;
    assert_eq!((said.due_again, said.awaits_until), (None, Some(at(60_000))));
}

#[tokio::test]
async fn what_cannot_be_begun_is_dropped_or_comes_again() {
    let mut fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(400), true).await;
    fixture.publish(2, 1, at(5_000), true).await;
    fixture.send(Message { id: TaskId::new(1), version: 99, row: None }).await;
    fixture.send(Message { id: TaskId::new(9), version: 1, row: None }).await;
    let items = received(&pipeline).await;
    assert_eq!((items.len(), fixture.depth()), (2, (0, 2)), "stale messages are acknowledged");
    let [other, gone] = [fixture.said().await, fixture.said().await];
    assert_eq!((other.task.get(), other.config, other.version), (1, Some(ConfigId::new(1)), 99));
    assert_eq!((gone.task.get(), gone.config, gone.version), (9, None, 1), "and said, to make room");
    let report = pipeline.begin(items, at(0)).await;
    assert_eq!(
        report.again.iter().map(|(at, item)| (*at, item.id.get())).collect::<Vec<_>>(),
        [(at(400), 1)]
    );
    assert_eq!((report.dropped, fixture.depth()), (vec![ConfigId::new(1)], (0, 1)));
    let said = fixture.said().await;
    assert_eq!((said.task, said.due_again), (TaskId::new(2), Some(at(5_000))), "released: far too early");
}

#[tokio::test]
async fn rows_that_cannot_be_loaded_stay_in_the_queue() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), false).await;
    fixture.rows.fail("load", &[Fault::Before]);
    assert!(pipeline.receive(10).await.is_empty());
    assert_eq!(fixture.depth(), (1, 0));
    assert_eq!(received(&pipeline).await.len(), 1);
}

#[tokio::test]
async fn tokens_are_minted_for_async_configs_only() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    fixture.publish(3, 3, at(0), true).await;
    let report = begun(&pipeline).await;
    assert_eq!(
        (report.started[0].context.completion_token.as_deref(), fixture.rows.task(1).token),
        (None, None)
    );
    let token = report.started[1].context.completion_token.clone().expect("a token");
    assert_eq!(token.len(), 32);
    let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    assert_eq!(fixture.rows.task(3).token, Some(hash), "the row keeps the hash");
    assert!(!format!("{:?}", fixture.rows.task(3)).contains(&*token));
}

#[tokio::test]
async fn a_begin_that_fails_is_tried_again_and_one_without_an_answer_is_given_back() {
    let mut fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    fixture.rows.fail("begin", &[Fault::Before, Fault::After]);
    let report = begun(&pipeline).await;
    let (again, item) = report.again.into_iter().next().expect("it is kept");
    assert!(again > at(0) && fixture.depth() == (0, 1));
    let report = pipeline.begin(vec![item], again).await;
    let (later, item) = report.again.into_iter().next().expect("it is kept");
    assert_eq!(fixture.rows.status(1), Status::Executing, "though nobody knows");

    // Looked for at once; what is not known to run here is released.
    assert!(pipeline.reconcile_at().is_some_and(|at| at <= again));
    fixture.rows.fail("executing", &[Fault::Before]);
    pipeline.reconcile(again).await.expect_err("the fault");
    assert!(pipeline.reconcile_at().is_some_and(|at| at > again), "not in a circle");
    fixture.rows.fail("give_back", &[Fault::Before]);
    pipeline.reconcile(later).await.expect_err("the fault");
    let at_last = pipeline.reconcile_at().expect("it is tried again");
    assert!(at_last > later);
    assert_eq!(pipeline.reconcile(at_last).await.expect("no fault"), 1);
    assert_eq!((fixture.rows.status(1), fixture.rows.task(1).worker_losses), (Status::Scheduled, 1));
    assert_eq!(fixture.said().await.due_again, Some(at_last));
    // The message is of an old version.
    let report = pipeline.begin(vec![item], at_last).await;
    assert_eq!((report.dropped.len(), fixture.depth()), (1, (0, 0)));
}

#[tokio::test]
async fn what_runs_here_is_not_given_back_until_it_is_saved() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    let report = begun(&pipeline).await;
    assert_eq!(pipeline.reconcile(at(60_000)).await.expect("no faults"), 0);
    let batch: Vec<_> =
        report.started.into_iter().map(|started| executed(started, Verdict::done())).collect();
    assert_eq!(fixture.rows.status(1), Status::Executing);
    saved(&pipeline, batch, 60_000).await;
    assert_eq!(pipeline.reconcile(at(600_000)).await.expect("no faults"), 0);
    assert_eq!(
        (fixture.rows.status(1), fixture.rows.calls("executing")),
        (Status::Ended, 1),
        "nothing was begun since"
    );
}

#[tokio::test]
async fn a_row_without_a_config_takes_up_no_room() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    fixture.rows.drop_config(1);
    let report = begun(&pipeline).await;
    assert_eq!((report.started.len(), report.dropped.len(), fixture.depth()), (0, 1, (0, 0)));
    assert_eq!(pipeline.reconcile(at(60_000)).await.expect("no faults"), 1, "and is given back");
}

#[tokio::test]
async fn what_is_begun_as_the_lease_ends_is_not_sent_and_given_back() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), true).await;
    fixture.rows.end_lease();
    let report = begun(&pipeline).await;
    assert_eq!((report.started.len(), report.dropped.len(), fixture.depth()), (0, 1, (0, 0)));
    assert_eq!(fixture.rows.status(1), Status::Executing);
    assert_eq!(pipeline.reconcile(at(0)).await.expect("no faults"), 1, "it need not wait for a rescuer");
}

#[tokio::test]
async fn what_fails_in_one_part_of_the_rows_stops_no_other() {
    let mut fixture = Fixture::new();
    fixture.rows.split_in(2);
    let pipeline = fixture.pipeline();
    for id in 1..=4 {
        fixture.publish(id, 1, at(0), false).await;
    }
    fixture.rows.fail("load", &[Fault::Before]);
    let items = pipeline.receive(100).await;
    assert_eq!(items.iter().map(|item| item.id.get()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(fixture.depth(), (2, 2), "the others are back in the queue");

    let report = pipeline.begin(items, at(0)).await;
    let batch: Vec<_> =
        report.started.into_iter().map(|started| executed(started, Verdict::done())).collect();
    let (odd, even) = (batch, begun(&pipeline).await.started);
    let even: Vec<_> = even.into_iter().map(|started| executed(started, Verdict::done())).collect();
    fixture.rows.refuse(1);
    assert_eq!(pipeline.finish(odd, at(1)).await.len(), 2, "one takes the other with it");
    saved(&pipeline, even, 1).await;
    assert_eq!(
        (fixture.depth(), fixture.said().await.task, fixture.said().await.task),
        ((0, 2), TaskId::new(2), TaskId::new(4))
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_read_stops_no_other_and_a_lost_answer_stops_none() {
    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    for id in 1..=3 {
        fixture.publish(id, 1, at(0), false).await;
    }
    fixture.rows.refuse(2);
    let ids: Vec<_> = received(&pipeline).await.iter().map(|item| item.id.get()).collect();
    assert_eq!((ids, fixture.depth()), (vec![1, 3], (0, 2)), "its message is acknowledged");

    let fixture = Fixture::new();
    let pipeline = fixture.pipeline();
    fixture.publish(1, 1, at(0), false).await;
    fixture.rows.fail("load", &[Fault::After]);
    assert!(received(&pipeline).await.is_empty());
    assert_eq!(fixture.depth(), (1, 0), "it goes back");
}
