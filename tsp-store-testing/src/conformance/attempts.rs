//! Attempts: every closed one is listed, once, oldest first.

use tsp_core::outcome::{Outcome, OutcomeKind, Verdict};
use tsp_core::task::{AttemptRecord, Task};
use tsp_store::tasks::TaskCommand;

use super::fixture::{Fixture, T0, at};

async fn attempts(fixture: &Fixture, task: &Task) -> Vec<AttemptRecord> {
    fixture.store.attempts(task.id).await.expect("attempts")
}

fn verdict(kind: Outcome, status: u16, excerpt: &str) -> Verdict {
    let mut verdict = Verdict::new(kind, "http_status").with_status(status);
    verdict.excerpt = Some(excerpt.into());
    verdict
}

/// The one successful first attempt may have no row of its own, but it is listed with all that is known.
pub(super) async fn the_single_successful_attempt_is_listed(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.executing(&config).await;
    assert!(attempts(fixture, &task).await.is_empty(), "an open attempt is not closed");
    fixture.finish(&task, verdict(Outcome::Done, 201, "{\"ok\": true}"), at(3)).await;
    let expected = AttemptRecord {
        task: task.id,
        attempt: 1,
        started_at: T0,
        ended_at: at(3),
        due_at: T0,
        node: Some(fixture.node),
        kind: OutcomeKind::Done,
        reason: "http_status".into(),
        http_status: Some(201),
        excerpt: Some("{\"ok\": true}".into()),
    };
    assert_eq!(attempts(fixture, &task).await, [expected]);
}

/// A failure, another, and a success at last.
pub(super) async fn several_attempts_are_listed_in_order(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut task = fixture.scheduled(&config).await;
    let retry = Outcome::Retry(tsp_core::outcome::RetryDelay::Backoff);
    for (outcome, status) in [(retry, 500), (retry, 503), (Outcome::Done, 200)] {
        let now = task.due_at;
        let begun = fixture.begin(&fixture.claim(&task, now).await, now).await;
        let answer = verdict(outcome, status, &status.to_string());
        task = fixture.finish(&begun, answer, now.plus(tsp_core::Millis::from_ms(7))).await;
    }
    let listed = attempts(fixture, &task).await;
    let brief: Vec<_> =
        listed.iter().map(|a| (a.attempt, a.kind, a.http_status, a.excerpt.as_deref())).collect();
    assert_eq!(
        brief,
        [
            (1, OutcomeKind::Retry, Some(500), Some("500")),
            (2, OutcomeKind::Retry, Some(503), Some("503")),
            (3, OutcomeKind::Done, Some(200), Some("200")),
        ]
    );
    for (attempt, began) in listed.iter().zip([T0, listed[1].started_at, listed[2].started_at]) {
        assert_eq!((attempt.started_at, attempt.due_at, attempt.node), (began, began, Some(fixture.node)));
        assert_eq!(attempt.ended_at, began.plus(tsp_core::Millis::from_ms(7)));
    }
}

/// One failed first attempt, a cancel while awaiting, a snooze: each has its row.
pub(super) async fn other_ends_are_listed_too(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let failed = fixture.executing(&config).await;
    fixture.finish(&failed, Verdict::fail("http_status"), at(1)).await;
    assert_eq!(kinds(&attempts(fixture, &failed).await), [(1, OutcomeKind::Fail)]);
    let cancelled = fixture.awaiting(&config).await;
    fixture.changed(cancelled.id, TaskCommand::Cancel, at(1)).await;
    assert_eq!(kinds(&attempts(fixture, &cancelled).await), [(1, OutcomeKind::Cancelled)]);
    let snoozed = fixture.executing(&config).await;
    let snooze = Verdict::new(Outcome::Snooze { until: at(9) }, "later");
    fixture.finish(&snoozed, snooze, at(1)).await;
    assert_eq!(kinds(&attempts(fixture, &snoozed).await), [(1, OutcomeKind::Snooze)]);
    let unborn = fixture.scheduled(&config).await;
    fixture.changed(unborn.id, TaskCommand::Cancel, at(1)).await;
    assert!(attempts(fixture, &unborn).await.is_empty(), "it never began");
}

/// The first success is still listed after a replay, while the task is open and when it has ended again.
pub(super) async fn a_replay_keeps_the_attempts_before_it(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.executing(&config).await;
    fixture.finish(&task, verdict(Outcome::Done, 200, "first"), at(1)).await;
    let first = attempts(fixture, &task).await;
    let open = fixture.changed(task.id, TaskCommand::Replay, at(9)).await;
    assert_eq!(attempts(fixture, &task).await, first, "while it is open");
    let begun = fixture.begin(&fixture.claim(&open, at(9)).await, at(9)).await;
    assert_eq!(attempts(fixture, &task).await, first, "while the second runs");
    fixture.finish(&begun, verdict(Outcome::Done, 202, "second"), at(10)).await;
    let both = attempts(fixture, &task).await;
    assert_eq!(kinds(&both), [(1, OutcomeKind::Done), (2, OutcomeKind::Done)]);
    assert_eq!(both[0], first[0]);
    fixture.changed(task.id, TaskCommand::Replay, at(11)).await;
    fixture.changed(task.id, TaskCommand::Cancel, at(12)).await;
    assert_eq!(attempts(fixture, &task).await, both, "a replay without a begin adds none");
}

/// Replayed and cancelled before a second begin: the first success is still the only one.
pub(super) async fn a_replay_that_never_begins_changes_no_attempt(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.ended(&config).await;
    let first = attempts(fixture, &task).await;
    assert_eq!(first.len(), 1);
    for round in 0..2 {
        fixture.changed(task.id, TaskCommand::Replay, at(9)).await;
        fixture.changed(task.id, TaskCommand::Cancel, at(9)).await;
        assert_eq!(attempts(fixture, &task).await, first, "round {round}");
    }
}

fn kinds(attempts: &[AttemptRecord]) -> Vec<(u32, OutcomeKind)> {
    attempts.iter().map(|attempt| (attempt.attempt, attempt.kind)).collect()
}
