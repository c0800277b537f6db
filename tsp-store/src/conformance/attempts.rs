//! Attempts: every closed one is listed, once, oldest first.

use tsp_core::outcome::{Outcome, OutcomeKind, Verdict};
use tsp_core::task::{AttemptRecord, Task};

use super::bed::{Bed, T0, at};
use crate::tasks::Wish;

async fn attempts(bed: &Bed, task: &Task) -> Vec<AttemptRecord> {
    bed.store.attempts(task.id).await.expect("attempts")
}

fn verdict(kind: Outcome, status: u16, excerpt: &str) -> Verdict {
    let mut verdict = Verdict::new(kind, "http_status").with_status(status);
    verdict.excerpt = Some(excerpt.into());
    verdict
}

/// The one successful first attempt may have no row of its own, but it is listed with all that is known.
pub(super) async fn the_single_successful_attempt_is_listed(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.executing(&config).await;
    assert!(attempts(bed, &task).await.is_empty(), "an open attempt is not closed");
    bed.finish(&task, verdict(Outcome::Done, 201, "{\"ok\": true}"), at(3)).await;
    let expected = AttemptRecord {
        task: task.id,
        attempt: 1,
        started_at: T0,
        ended_at: at(3),
        due_at: T0,
        node: Some(bed.node),
        kind: OutcomeKind::Done,
        reason: "http_status".into(),
        http_status: Some(201),
        excerpt: Some("{\"ok\": true}".into()),
    };
    assert_eq!(attempts(bed, &task).await, [expected]);
}

/// A failure, another, and a success at last.
pub(super) async fn several_attempts_are_listed_in_order(bed: &Bed) {
    let config = bed.config("close-order").await;
    let mut task = bed.scheduled(&config).await;
    let retry = Outcome::Retry(tsp_core::outcome::RetryDelay::Backoff);
    for (outcome, status) in [(retry, 500), (retry, 503), (Outcome::Done, 200)] {
        let now = task.due_at;
        let begun = bed.begin(&bed.claim(&task, now).await, now).await;
        let answer = verdict(outcome, status, &status.to_string());
        task = bed.finish(&begun, answer, now.plus(tsp_core::Millis::from_ms(7))).await;
    }
    let listed = attempts(bed, &task).await;
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
        assert_eq!((attempt.started_at, attempt.due_at, attempt.node), (began, began, Some(bed.node)));
        assert_eq!(attempt.ended_at, began.plus(tsp_core::Millis::from_ms(7)));
    }
}

/// One failed first attempt, a cancel at 45, a snooze: each has its row.
pub(super) async fn other_ends_are_listed_too(bed: &Bed) {
    let config = bed.config("close-order").await;
    let failed = bed.executing(&config).await;
    bed.finish(&failed, Verdict::fail("http_status"), at(1)).await;
    assert_eq!(kinds(&attempts(bed, &failed).await), [(1, OutcomeKind::Fail)]);
    let cancelled = bed.awaiting(&config).await;
    bed.changed(cancelled.id, Wish::Cancel, at(1)).await;
    assert_eq!(kinds(&attempts(bed, &cancelled).await), [(1, OutcomeKind::Cancelled)]);
    let snoozed = bed.executing(&config).await;
    let snooze = Verdict::new(Outcome::Snooze { until: at(9) }, "later");
    bed.finish(&snoozed, snooze, at(1)).await;
    assert_eq!(kinds(&attempts(bed, &snoozed).await), [(1, OutcomeKind::Snooze)]);
    let unborn = bed.scheduled(&config).await;
    bed.changed(unborn.id, Wish::Cancel, at(1)).await;
    assert!(attempts(bed, &unborn).await.is_empty(), "it never began");
}

/// The first success is still listed after a replay, while the task is open and when it has ended again.
pub(super) async fn a_replay_keeps_the_attempts_before_it(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.executing(&config).await;
    bed.finish(&task, verdict(Outcome::Done, 200, "first"), at(1)).await;
    let first = attempts(bed, &task).await;
    let open = bed.changed(task.id, Wish::Replay, at(9)).await;
    assert_eq!(attempts(bed, &task).await, first, "while it is open");
    let begun = bed.begin(&bed.claim(&open, at(9)).await, at(9)).await;
    assert_eq!(attempts(bed, &task).await, first, "while the second runs");
    bed.finish(&begun, verdict(Outcome::Done, 202, "second"), at(10)).await;
    let both = attempts(bed, &task).await;
    assert_eq!(kinds(&both), [(1, OutcomeKind::Done), (2, OutcomeKind::Done)]);
    assert_eq!(both[0], first[0]);
    bed.changed(task.id, Wish::Replay, at(11)).await;
    bed.changed(task.id, Wish::Cancel, at(12)).await;
    assert_eq!(attempts(bed, &task).await, both, "a replay without a begin adds none");
}

/// Replayed and cancelled before a second begin: the first success is still the only one.
pub(super) async fn a_replay_that_never_begins_changes_no_attempt(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.ended(&config).await;
    let first = attempts(bed, &task).await;
    assert_eq!(first.len(), 1);
    for round in 0..2 {
        bed.changed(task.id, Wish::Replay, at(9)).await;
        bed.changed(task.id, Wish::Cancel, at(9)).await;
        assert_eq!(attempts(bed, &task).await, first, "round {round}");
    }
}

fn kinds(attempts: &[AttemptRecord]) -> Vec<(u32, OutcomeKind)> {
    attempts.iter().map(|attempt| (attempt.attempt, attempt.kind)).collect()
}
