//! Completion and progress: the token of the open attempt, and no other.

use tsp_core::outcome::{OutcomeKind, Verdict};
use tsp_core::task::{EndResult, Status, Task};
use tsp_core::transition::{Completion, ProgressReport, Refused};
use tsp_core::{Millis, Timestamp};

use super::bed::{Bed, DEADLINE, T0, TOKEN, at, outcome};
use crate::run::Finished;
use crate::tasks::{Changed, Wish};

fn done() -> Completion {
    Completion::Done { message: Some("shipped".to_owned()) }
}

fn complete(completion: Completion) -> Wish {
    Wish::Complete { token: TOKEN, completion, unit: 0.5 }
}

async fn refused(bed: &Bed, task: &Task, wish: Wish, now: Timestamp) -> Refused {
    match bed.change(task.id, wish.clone(), now).await {
        Changed::Refused { why, .. } => why,
        other => panic!("{wish:?} must be refused: {other:?}"),
    }
}

/// At 45, and at 30 when the callee is quicker than its own 202.
pub(super) async fn complete_ends_an_awaited_and_a_running_attempt(bed: &Bed) {
    let config = bed.config("close-order").await;
    for status in [Status::Awaiting, Status::Executing] {
        let task = bed.in_state(&config, status).await;
        let ended = bed.changed(task.id, complete(done()), at(3)).await;
        assert_eq!((ended.status, ended.result), (Status::Ended, Some(EndResult::Succeeded)));
        bed.check_stored(&ended).await;
        let late = bed.finish_as(bed.node, outcome(&task, Verdict::fail("x")), at(4)).await;
        assert_eq!(late, Finished::TooLate, "the worker's outcome comes too late");
        let attempts = bed.store.attempts(task.id).await.expect("attempts");
        let closed: Vec<_> = attempts.iter().map(|closed| (closed.kind, closed.ended_at)).collect();
        assert_eq!(closed, [(OutcomeKind::Done, at(3))]);
        assert_eq!(attempts[0].excerpt.as_deref(), Some("shipped"), "the callee's word is kept");
    }
}

pub(super) async fn a_callee_may_ask_for_a_retry_or_give_up(bed: &Bed) {
    let config = bed.config("close-order").await;
    let first = bed.awaiting(&config).await;
    let retry = Completion::Retry { after: Some(Millis::from_secs(5)), message: None };
    let task = bed.changed(first.id, complete(retry.clone()), at(1)).await;
    assert_eq!((task.status, task.due_at, task.charged), (Status::Scheduled, at(6), 1));
    bed.check_stored(&task).await;
    assert_eq!(refused(bed, &task, complete(retry), at(1)).await, Refused::Unchanged, "said twice");
    assert_eq!(refused(bed, &task, complete(done()), at(1)).await, Refused::AttemptClosed);

    let second = bed.awaiting(&config).await;
    let fail = Completion::Fail { message: None };
    let task = bed.changed(second.id, complete(fail.clone()), at(1)).await;
    assert_eq!(task.result, Some(EndResult::Failed));
    assert_eq!(refused(bed, &task, complete(fail), at(1)).await, Refused::Unchanged, "after the end, too");
    assert_eq!(refused(bed, &task, complete(done()), at(1)).await, Refused::AttemptClosed);
    bed.check_stored(&task).await;
}

/// Neither completes nor reports, in any state.
pub(super) async fn a_wrong_token_does_nothing(bed: &Bed) {
    let config = bed.config("close-order").await;
    for status in Status::ALL {
        let task = bed.in_state(&config, status).await;
        let wrong = [8; 32];
        let wish = Wish::Complete { token: wrong, completion: done(), unit: 0.5 };
        assert_eq!(refused(bed, &task, wish, at(1)).await, Refused::WrongToken, "complete at {status:?}");
        let wish = Wish::Progress { token: wrong, report: ProgressReport::default() };
        assert_eq!(refused(bed, &task, wish, at(1)).await, Refused::WrongToken, "progress at {status:?}");
        bed.check_stored(&task).await;
        bed.change(task.id, Wish::Cancel, at(1)).await;
    }
}

/// An old token ends no newer attempt.
pub(super) async fn the_token_of_an_earlier_attempt_is_void(bed: &Bed) {
    let config = bed.config("close-order").await;
    let begun = bed.executing(&config).await;
    let task = bed.finish(&begun, Verdict::retry("x"), T0).await;
    let queued = bed.claim(&task, task.due_at).await;
    let second = crate::run::Begin { token: Some([9; 32]), ..super::bed::message(&queued) };
    bed.begin_as(bed.node, second, task.due_at).await;
    assert_eq!(refused(bed, &task, complete(done()), task.due_at).await, Refused::WrongToken);
    assert_eq!(bed.stored(task.id).await.status, Status::Executing);
}

/// After a replay the old token is void too.
pub(super) async fn a_replay_voids_the_token(bed: &Bed) {
    let config = bed.config("close-order").await;
    let ended = bed.ended(&config).await;
    bed.changed(ended.id, Wish::Replay, at(9)).await;
    assert_eq!(refused(bed, &ended, complete(done()), at(9)).await, Refused::WrongToken);
}

/// Shown with the task; extends the deadline at most to the config's own, and never shortens it.
pub(super) async fn progress_is_kept_and_extends_the_deadline(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.awaiting(&config).await;
    let report = |extend| ProgressReport {
        percent: Some(40),
        message: Some("half way, almost: ½".to_owned()),
        extend,
    };
    let wish = |extend| Wish::Progress { token: TOKEN, report: report(extend) };
    let shown = bed.changed(task.id, wish(None), at(60)).await;
    let progress = shown.extra.as_ref().and_then(|extra| extra.progress.as_ref()).expect("it is shown");
    assert_eq!((progress.percent, progress.at), (Some(40), at(60)));
    assert_eq!((shown.status, shown.due_at), (Status::Awaiting, T0.plus(DEADLINE)));
    bed.check_stored(&shown).await;
    let longer = bed.changed(task.id, wish(Some(Millis::from_days(1))), at(60)).await;
    assert_eq!(longer.due_at, at(60).plus(DEADLINE));
    bed.check_stored(&longer).await;
    assert_eq!(bed.store.next_deadline().await.expect("next_deadline"), Some(at(60).plus(DEADLINE)));
    let ends = bed.store.end_waits(bed.owner, 10, 0.5, T0.plus(DEADLINE)).await.expect("end_waits");
    assert!(ends.is_empty(), "the deadline was extended");
}
