//! Completion and progress: the token of the open attempt, and no other.

use tsp_core::outcome::{OutcomeKind, Verdict};
use tsp_core::task::{EndResult, Status, Task};
use tsp_core::transition::{Completion, ProgressReport, Refusal};
use tsp_core::{Millis, Timestamp};
use tsp_store::attempts::FinishResult;
use tsp_store::tasks::{CommandResult, TaskCommand};

use super::fixture::{DEADLINE, Fixture, T0, TOKEN, at, outcome};

fn done() -> Completion {
    Completion::Done { message: Some("shipped".to_owned()) }
}

fn complete(completion: Completion) -> TaskCommand {
    TaskCommand::Complete { token: TOKEN, completion, jitter_fraction: 0.5 }
}

async fn refused(fixture: &Fixture, task: &Task, command: TaskCommand, now: Timestamp) -> Refusal {
    match fixture.change(task.id, command.clone(), now).await {
        CommandResult::Refused { why, .. } => why,
        other => panic!("{command:?} must be refused: {other:?}"),
    }
}

/// While awaiting, and while executing when the receiver is quicker than its own 202.
pub(super) async fn complete_ends_an_awaited_and_a_running_attempt(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for status in [Status::Awaiting, Status::Executing] {
        let task = fixture.in_state(&config, status).await;
        let ended = fixture.changed(task.id, complete(done()), at(3)).await;
        assert_eq!((ended.status, ended.result), (Status::Ended, Some(EndResult::Succeeded)));
        fixture.check_stored(&ended).await;
        let late = fixture.finish_as(fixture.node, outcome(&task, Verdict::fail("x")), at(4)).await;
        assert_eq!(late, FinishResult::TooLate, "the worker's outcome comes too late");
        let attempts = fixture.store.attempts(task.id).await.expect("attempts");
        let closed: Vec<_> = attempts.iter().map(|closed| (closed.kind, closed.ended_at)).collect();
        assert_eq!(closed, [(OutcomeKind::Done, at(3))]);
        assert_eq!(attempts[0].excerpt.as_deref(), Some("shipped"), "the receiver's word is kept");
    }
}

pub(super) async fn a_receiver_may_ask_for_a_retry_or_give_up(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.awaiting(&config).await;
    let retry = Completion::Retry { after: Some(Millis::from_secs(5)), message: None };
    let task = fixture.changed(first.id, complete(retry.clone()), at(1)).await;
    assert_eq!((task.status, task.due_at, task.failed_attempts), (Status::Scheduled, at(6), 1));
    fixture.check_stored(&task).await;
    assert_eq!(refused(fixture, &task, complete(retry), at(1)).await, Refusal::Unchanged, "said twice");
    assert_eq!(refused(fixture, &task, complete(done()), at(1)).await, Refusal::AttemptClosed);

    let second = fixture.awaiting(&config).await;
    let fail = Completion::Fail { message: None };
    let task = fixture.changed(second.id, complete(fail.clone()), at(1)).await;
    assert_eq!(task.result, Some(EndResult::Failed));
    assert_eq!(
        refused(fixture, &task, complete(fail), at(1)).await,
        Refusal::Unchanged,
        "after the end, too"
    );
    assert_eq!(refused(fixture, &task, complete(done()), at(1)).await, Refusal::AttemptClosed);
    fixture.check_stored(&task).await;
}

/// Neither completes nor reports, in any state.
pub(super) async fn a_wrong_token_does_nothing(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for status in Status::ALL {
        let task = fixture.in_state(&config, status).await;
        let wrong = [8; 32];
        let command = TaskCommand::Complete { token: wrong, completion: done(), jitter_fraction: 0.5 };
        assert_eq!(
            refused(fixture, &task, command, at(1)).await,
            Refusal::WrongToken,
            "complete at {status:?}"
        );
        let command = TaskCommand::Progress { token: wrong, report: ProgressReport::default() };
        assert_eq!(
            refused(fixture, &task, command, at(1)).await,
            Refusal::WrongToken,
            "progress at {status:?}"
        );
        fixture.check_stored(&task).await;
        fixture.change(task.id, TaskCommand::Cancel, at(1)).await;
    }
}

/// An old token ends no newer attempt.
pub(super) async fn the_token_of_an_earlier_attempt_is_void(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let begun = fixture.executing(&config).await;
    let task = fixture.finish(&begun, Verdict::retry("x"), T0).await;
    let queued = fixture.claim(&task, task.due_at).await;
    let second =
        tsp_store::attempts::BeginRequest { token: Some([9; 32]), ..super::fixture::message(&queued) };
    fixture.begin_as(fixture.node, second, task.due_at).await;
    assert_eq!(refused(fixture, &task, complete(done()), task.due_at).await, Refusal::WrongToken);
    assert_eq!(fixture.stored(task.id).await.status, Status::Executing);
}

/// After a replay the old token is void too.
pub(super) async fn a_replay_voids_the_token(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let ended = fixture.ended(&config).await;
    fixture.changed(ended.id, TaskCommand::Replay, at(9)).await;
    assert_eq!(refused(fixture, &ended, complete(done()), at(9)).await, Refusal::WrongToken);
}

/// Shown with the task; extends the deadline at most to the config's own, and never shortens it.
pub(super) async fn progress_is_kept_and_extends_the_deadline(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.awaiting(&config).await;
    let report = |extend| ProgressReport {
        percent: Some(40),
        message: Some("half way, almost: ½".to_owned()),
        extend,
    };
    let command = |extend| TaskCommand::Progress { token: TOKEN, report: report(extend) };
    let shown = fixture.changed(task.id, command(None), at(60)).await;
    let progress = shown.extra.as_ref().and_then(|extra| extra.progress.as_ref()).expect("it is shown");
    assert_eq!((progress.percent, progress.at), (Some(40), at(60)));
    assert_eq!((shown.status, shown.due_at), (Status::Awaiting, T0.plus(DEADLINE)));
    fixture.check_stored(&shown).await;
    let longer = fixture.changed(task.id, command(Some(Millis::from_days(1))), at(60)).await;
    assert_eq!(longer.due_at, at(60).plus(DEADLINE));
    fixture.check_stored(&longer).await;
    assert_eq!(fixture.store.next_deadline().await.expect("next_deadline"), Some(at(60).plus(DEADLINE)));
    let ends = fixture.store.end_waits(fixture.owner, 10, 0.5, T0.plus(DEADLINE)).await.expect("end_waits");
    assert!(ends.is_empty(), "the deadline was extended");
}
