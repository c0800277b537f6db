//! Finish: fenced by `(executing, attempt, node)`, it meets the row as it is now.

use tsp_core::outcome::{Outcome, RetryDelay, Verdict};
use tsp_core::task::{EndResult, Status, Task};
use tsp_core::{Millis, TaskId};
use tsp_store::attempts::{Finish, FinishResult, all};
use tsp_store::catalog::ExpectedVersion;
use tsp_store::tasks::TaskCommand;

use super::fixture::{DEADLINE, Fixture, T0, at, outcome, spec};

/// The two ways an outcome comes: with the row as begun and without.
fn both_ways(task: &Task, verdict: &Verdict) -> [Finish; 2] {
    let with = outcome(task, verdict.clone());
    [Finish { row: None, ..with.clone() }, with]
}

/// Every outcome, with and without the row.
pub(super) async fn each_outcome_leads_where_the_table_says(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let snooze = Outcome::Snooze { until: at(500) };
    let cases = [
        (Verdict::done(), Status::Ended, Some(EndResult::Succeeded), None),
        (Verdict::fail("http_status"), Status::Ended, Some(EndResult::Failed), None),
        (Verdict::retry("http_status"), Status::Scheduled, None, Some(at(61))),
        (
            Verdict::new(Outcome::Retry(RetryDelay::Exactly(Millis::from_secs(5))), "asked"),
            Status::Scheduled,
            None,
            Some(at(6)),
        ),
        (Verdict::new(snooze, "later"), Status::Scheduled, None, Some(at(500))),
        (Verdict::new(Outcome::Accepted, "accepted"), Status::Awaiting, None, Some(at(1).plus(DEADLINE))),
    ];
    for (verdict, status, result, due_at) in cases {
        for with_row in [true, false] {
            let begun = fixture.executing(&config).await;
            let finish = both_ways(&begun, &verdict)[usize::from(with_row)].clone();
            let FinishResult::Saved(task) = fixture.finish_as(fixture.node, finish, at(1)).await else {
                panic!("{verdict:?}: the attempt is open");
            };
            assert_eq!((task.status, task.result), (status, result), "{verdict:?}");
            assert_eq!(due_at.unwrap_or(task.due_at), task.due_at, "{verdict:?}");
            fixture.check_stored(&task).await;
            assert!(fixture.running(fixture.node).await.is_empty(), "it runs no more");
            if task.is_open() {
                fixture.changed(task.id, TaskCommand::Cancel, T0).await;
            }
        }
    }
}

/// Once: the second comes too late and changes nothing.
pub(super) async fn an_attempt_is_closed_once(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for verdict in [Verdict::done(), Verdict::retry("x"), Verdict::new(Outcome::Accepted, "accepted")] {
        let begun = fixture.executing(&config).await;
        let after = fixture.finish(&begun, verdict, at(1)).await;
        for second in [Verdict::done(), Verdict::fail("x")] {
            for finish in both_ways(&begun, &second) {
                assert_eq!(fixture.finish_as(fixture.node, finish, at(2)).await, FinishResult::TooLate);
            }
        }
        fixture.check_stored(&after).await;
        if after.is_open() {
            fixture.changed(after.id, TaskCommand::Cancel, T0).await;
        }
    }
    let begun = fixture.executing(&config).await;
    let batch = vec![outcome(&begun, Verdict::done()), outcome(&begun, Verdict::fail("x"))];
    let answers = all(fixture.store.finish(fixture.node, batch, at(1)).await).expect("finish");
    assert!(matches!(answers[0], FinishResult::Saved(_)), "{answers:?}");
    assert_eq!(answers[1], FinishResult::TooLate);
}

/// Another node, another attempt, a task that is not there.
pub(super) async fn a_wrong_fence_is_too_late(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let other = fixture.store.register_node("other", T0).await.expect("register_node");
    let begun = fixture.executing(&config).await;
    for finish in both_ways(&begun, &Verdict::done()) {
        assert_eq!(
            fixture.finish_as(other, finish.clone(), at(1)).await,
            FinishResult::TooLate,
            "another node"
        );
        for attempt in [0, 2] {
            let finish = Finish { attempt, ..finish.clone() };
            assert_eq!(
                fixture.finish_as(fixture.node, finish, at(1)).await,
                FinishResult::TooLate,
                "attempt {attempt}"
            );
        }
    }
    fixture.check_stored(&begun).await;
    let nobody = Finish { id: TaskId::new(1), row: None, ..outcome(&begun, Verdict::done()) };
    assert_eq!(fixture.finish_as(fixture.node, nobody, at(1)).await, FinishResult::TooLate);
    let queued = fixture.queued(&config).await;
    for finish in both_ways(&queued, &Verdict::done()) {
        assert_eq!(
            fixture.finish_as(fixture.node, finish, at(1)).await,
            FinishResult::TooLate,
            "it has not begun"
        );
    }
}

/// A node that is not the newest writes what is true; nobody else has begun.
pub(super) async fn an_old_node_may_still_finish(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let begun = fixture.executing(&config).await;
    let next = fixture.store.register_node("next", T0).await.expect("register_node");
    fixture.store.take_shards(next, T0).await.expect("take_shards");
    assert_eq!(fixture.finish(&begun, Verdict::done(), at(1)).await.result, Some(EndResult::Succeeded));
}

/// A cancel that came since begin counts, though the inline row does not know it.
pub(super) async fn a_cancel_since_begin_makes_it_the_last_attempt(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let cases = [
        (Verdict::done(), Some(EndResult::Succeeded)),
        (Verdict::retry("x"), Some(EndResult::Cancelled)),
        (Verdict::fail("x"), Some(EndResult::Cancelled)),
        (Verdict::new(Outcome::Snooze { until: at(9) }, "later"), Some(EndResult::Cancelled)),
        (Verdict::new(Outcome::Accepted, "accepted"), None),
    ];
    for (verdict, result) in cases {
        for with_row in [true, false] {
            let begun = fixture.executing(&config).await;
            fixture.changed(begun.id, TaskCommand::Cancel, T0).await;
            let finish = both_ways(&begun, &verdict)[usize::from(with_row)].clone();
            let FinishResult::Saved(task) = fixture.finish_as(fixture.node, finish, at(1)).await else {
                panic!("{verdict:?}: a cancel does not close the attempt");
            };
            assert_eq!((task.result, task.version), (result, begun.version + 2), "{verdict:?}");
            fixture.check_stored(&task).await;
        }
    }
}

/// The rules are the config's as it is now, not as it was at begin.
pub(super) async fn a_finish_follows_the_config_of_its_moment(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let begun = fixture.executing(&config).await;
    let mut strict = spec("close-order");
    strict.retry.max_attempts = 1;
    fixture.save_config(strict, ExpectedVersion::Any, T0).await;
    let task = fixture.finish(&begun, Verdict::retry("x"), at(1)).await;
    assert_eq!(task.result, Some(EndResult::Failed), "one attempt is allowed now");
}

/// A task's own retry policy wins over its config's.
pub(super) async fn a_task_may_bring_its_own_retry_policy(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut new = fixture.new_task(&config, None, T0);
    let mut own = spec("x").retry;
    own.backoff = tsp_core::retry::Backoff::List(vec![Millis::from_secs(7)]);
    new.extra_mut().retry = Some(own);
    let task = fixture.create(new).await;
    let begun = fixture.begin(&fixture.claim(&task, T0).await, T0).await;
    let stored_only = Finish { row: None, ..outcome(&begun, Verdict::retry("x")) };
    let FinishResult::Saved(task) = fixture.finish_as(fixture.node, stored_only, T0).await else {
        panic!("the attempt is open");
    };
    assert_eq!(task.due_at, at(7));
}

/// From submit over failures to the end: counters, times and rows at each stop.
pub(super) async fn a_task_is_tried_until_its_attempts_are_used_up(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let mut task = fixture.scheduled(&config).await;
    for attempt in 1..=3 {
        let now = task.due_at;
        let queued = fixture.claim(&task, now).await;
        let begun = fixture.begin(&queued, now).await;
        assert_eq!((begun.attempt, begun.failed_attempts), (attempt, attempt - 1));
        task = fixture.finish(&begun, Verdict::retry("http_status").with_status(500), now).await;
        fixture.check_stored(&task).await;
        assert_eq!(task.is_open(), attempt < 3, "after attempt {attempt}");
    }
    assert_eq!((task.result, task.failed_attempts, task.due_at), (Some(EndResult::Failed), 3, at(120)));
    let last = task.last_outcome.expect("the last outcome is kept");
    assert_eq!((last.attempt, last.http_status, &*last.reason), (3, Some(500), "http_status"));
}
