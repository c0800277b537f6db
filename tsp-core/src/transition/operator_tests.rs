//! The table of DESIGN.md section 5.2, row by row: what operators and receivers do.

use bytes::Bytes;

use super::fixtures::*;
use super::*;
use crate::outcome::{Outcome, OutcomeKind};

const DONE: Completion = Completion::Done { message: None };
const FAIL: Completion = Completion::Fail { message: None };
const RETRY: Completion = Completion::Retry { after: None, message: None };

fn complete<'a>(token: &'a TokenHash, completion: Completion, retry: &'a RetryPolicy) -> Event<'a> {
    Event::Complete { token, completion, rules: rules(retry) }
}

fn reset(execute_at: Timestamp) -> Event<'static> {
    Event::Reset { execute_at, payload: Some(Bytes::from_static(b"[2]")) }
}

#[test]
fn run_makes_it_due_now_and_has_nothing_to_do_when_queued() {
    let later = go(&scheduled(), &Event::Postpone { execute_at: after(500) }, NOW).task;
    let held = go(&later, &Event::Pause, NOW).task;
    for task in [later, held] {
        let run = go(&task, &Event::Run, after(10)).task;
        assert_eq!((run.status, run.due_at), (Status::Scheduled, after(10)));
        assert_eq!((run.execute_at, run.age_from), (after(10), after(10)), "it was promised for now");
    }
    let late = go(&scheduled(), &Event::Run, after(10)).task;
    assert_eq!((late.execute_at, late.age_from), (NOW, after(10)), "the wait until now was nobody's failure");
    assert_eq!(refused(&queued(), &Event::Run, NOW), Refusal::Unchanged);
}

#[test]
fn pause_keeps_what_was_left_and_resume_is_due_at_once_if_its_time_has_passed() {
    for task in [scheduled(), queued()] {
        let paused = go(&task, &Event::Pause, after(1)).task;
        assert_eq!((paused.status, paused.due_at, paused.attempt), (Status::Paused, task.due_at, 0));
    }
    let late = go(&paused(), &Event::Resume, after(90)).task;
    assert_eq!((late.status, late.due_at, late.execute_at), (Status::Scheduled, after(90), NOW));
    let ahead = go(&paused(), &Event::Resume, after(-90)).task;
    assert_eq!((ahead.status, ahead.due_at), (Status::Scheduled, NOW));
    assert_eq!(refused(&paused(), &Event::Pause, NOW), Refusal::Unchanged);
}

#[test]
fn postpone_moves_the_time_and_keeps_the_counters() {
    for task in [scheduled(), queued(), paused()] {
        let task = Task { attempt: 2, failed_attempts: 2, ..task };
        for to in [after(500), after(-500)] {
            let moved = go(&task, &Event::Postpone { execute_at: to }, NOW).task;
            assert_eq!((moved.execute_at, moved.due_at, moved.age_from), (to, to.max(NOW), to.max(NOW)));
            assert_eq!((moved.attempt, moved.failed_attempts), (2, 2));
            let stays = if task.status == Status::Paused { Status::Paused } else { Status::Scheduled };
            assert_eq!(moved.status, stays);
        }
    }
}

#[test]
fn reset_moves_time_and_payload_and_forgives_the_charges() {
    for task in [scheduled(), queued(), paused()] {
        let task = Task { attempt: 2, failed_attempts: 2, token: Some(OLD_TOKEN), ..task };
        let change = go(&task, &reset(after(500)), NOW);
        let moved = change.task;
        assert_eq!((moved.execute_at, moved.due_at), (after(500), after(500)));
        assert_eq!((moved.attempt, moved.failed_attempts, moved.token), (2, 0, None));
        assert_eq!(moved.payload.as_deref(), Some(&b"[2]"[..]));
        assert_eq!(moved.status == Status::Paused, task.status == Status::Paused);
        assert_eq!((change.outcome_detail, change.closed), (OutcomeDetail::None, None));
    }
    let kept = go(&scheduled(), &Event::Reset { execute_at: NOW, payload: None }, NOW).task;
    assert_eq!(kept.payload, scheduled().payload);
}

#[test]
fn reset_of_an_executing_task_waits_for_its_attempt_to_end_however_it_ends() {
    let policy = policy();
    let change = go(&executing(), &reset(after(500)), NOW);
    let waiting = change.task;
    assert_eq!((change.outcome_detail, change.closed), (OutcomeDetail::AfterCurrent, None));
    assert_eq!((waiting.status, waiting.execute_at, waiting.attempt), (Status::Executing, NOW, 1));
    let accepted = Verdict::new(Outcome::Accepted, "accepted");
    let snooze = Verdict::new(Outcome::Snooze { until: after(7) }, "later");
    let (done, retry, fail) = (Verdict::done(), Verdict::retry("x"), Verdict::fail("x"));
    let ends = [
        (finish(&done, &policy), OutcomeKind::Done),
        (finish(&retry, &policy), OutcomeKind::Retry),
        (finish(&fail, &policy), OutcomeKind::Fail),
        (finish(&snooze, &policy), OutcomeKind::Snooze),
        (finish(&accepted, &policy), OutcomeKind::Accepted),
        (Event::NodeLost { node: NODE, rules: rules(&policy) }, OutcomeKind::Lost),
        (complete(&TOKEN, DONE, &policy), OutcomeKind::Done),
        (complete(&TOKEN, FAIL, &policy), OutcomeKind::Fail),
    ];
    for (event, kind) in ends {
        let change = go(&waiting, &event, after(3));
        let task = change.task;
        assert_eq!((task.status, task.due_at, task.execute_at), (Status::Scheduled, after(500), after(500)));
        assert_eq!((task.failed_attempts, task.token, task.next_run()), (0, None, None), "after {kind}");
        assert_eq!(task.payload.as_deref(), Some(&b"[2]"[..]));
        assert_eq!(change.closed.map(|closed| closed.kind), Some(kind), "its outcome is recorded as usual");
        assert_eq!(task.last_outcome.map(|last| last.kind), Some(kind));
    }
}

#[test]
fn reset_of_an_awaiting_task_moves_it_at_once_and_voids_the_token() {
    let change = go(&awaiting(), &reset(after(500)), NOW);
    assert_eq!((change.task.status, change.task.due_at), (Status::Scheduled, after(500)));
    assert_eq!(change.closed.map(|closed| closed.kind), Some(OutcomeKind::Reset));
    let policy = policy();
    assert_eq!(refused(&change.task, &complete(&TOKEN, DONE, &policy), NOW), Refusal::WrongToken);
}

#[test]
fn of_cancel_and_reset_the_later_counts() {
    let policy = policy();
    let fail = Verdict::retry("x");
    let reset_last = go(&go(&executing(), &Event::Cancel, NOW).task, &reset(after(500)), NOW).task;
    assert!(!reset_last.cancel_requested);
    assert_eq!(go(&reset_last, &finish(&fail, &policy), NOW).task.status, Status::Scheduled);
    let cancel_last = go(&go(&executing(), &reset(after(500)), NOW).task, &Event::Cancel, NOW).task;
    assert_eq!(cancel_last.next_run(), None);
    assert_eq!(go(&cancel_last, &finish(&fail, &policy), NOW).task.result, Some(EndResult::Cancelled));

    // The flag may come along to awaiting; a reset there counts too.
    let accepted = Verdict::new(Outcome::Accepted, "accepted");
    let flagged = go(&executing(), &Event::Cancel, NOW).task;
    let awaited = go(&flagged, &finish(&accepted, &policy), NOW).task;
    assert_eq!((awaited.status, awaited.cancel_requested), (Status::Awaiting, true));
    assert!(!go(&awaited, &reset(after(500)), NOW).task.cancel_requested);
}

#[test]
fn complete_ends_what_is_awaited_and_what_is_still_executing() {
    let policy = policy();
    for task in [awaiting(), executing()] {
        let done = go(&task, &complete(&TOKEN, DONE, &policy), after(3));
        assert_eq!(done.task.result, Some(EndResult::Succeeded));
        assert_eq!(done.closed.map(|closed| closed.kind), Some(OutcomeKind::Done));
        assert_eq!(refused(&done.task, &finish(&Verdict::done(), &policy), NOW), Refusal::AttemptClosed);
        let fail = go(&task, &complete(&TOKEN, FAIL, &policy), after(3)).task;
        assert_eq!((fail.result, fail.failed_attempts), (Some(EndResult::Failed), 1));
        let retry = go(&task, &complete(&TOKEN, RETRY, &policy), after(3)).task;
        assert_eq!((retry.status, retry.due_at, retry.failed_attempts), (Status::Scheduled, after(63), 1));
        let asked = Completion::Retry { after: Some(secs(5)), message: None };
        assert_eq!(go(&task, &complete(&TOKEN, asked, &policy), after(3)).task.due_at, after(8));
    }
}

#[test]
fn complete_twice_is_answered_alike_and_another_word_comes_too_late() {
    let policy = policy();
    for (first, second) in [(DONE, FAIL), (FAIL, RETRY), (RETRY, DONE)] {
        let task = go(&awaiting(), &complete(&TOKEN, first.clone(), &policy), NOW).task;
        assert_eq!(refused(&task, &complete(&TOKEN, first, &policy), NOW), Refusal::Unchanged);
        assert_eq!(refused(&task, &complete(&TOKEN, second, &policy), NOW), Refusal::AttemptClosed);
    }
}

#[test]
fn a_wrong_or_old_token_never_completes() {
    let policy = policy();
    for task in each_state() {
        assert_eq!(refused(&task, &complete(&OLD_TOKEN, DONE, &policy), NOW), Refusal::WrongToken);
    }
    let retried = go(&awaiting(), &complete(&TOKEN, RETRY, &policy), NOW).task;
    let reset = go(&retried, &reset(NOW), NOW).task;
    assert_eq!(refused(&reset, &complete(&TOKEN, RETRY, &policy), NOW), Refusal::WrongToken);
    let replayed = go(&ended(), &Event::Replay, NOW).task;
    assert_eq!(refused(&replayed, &complete(&TOKEN, DONE, &policy), NOW), Refusal::WrongToken);
}

#[test]
fn progress_is_shown_and_extends_the_deadline_but_never_shortens_it() {
    let policy = policy();
    let event = |token, extend| {
        let report = ProgressReport { percent: Some(40), message: Some("half way".to_owned()), extend };
        Event::Progress { token, report, rules: rules(&policy) }
    };
    let shown = go(&awaiting(), &event(&TOKEN, None), after(60));
    assert_eq!((shown.task.due_at, &shown.closed), (NOW.plus(DEADLINE), &None));
    let progress = shown.task.extra.and_then(|extra| extra.progress).expect("it is shown");
    assert_eq!((progress.percent, progress.at), (Some(40), after(60)));

    let due = |extend| go(&awaiting(), &event(&TOKEN, Some(extend)), after(60)).task.due_at;
    assert_eq!(due(secs(1)), NOW.plus(DEADLINE), "never earlier");
    assert_eq!(due(Millis::from_days(9)), after(60).plus(DEADLINE), "at most the config's own deadline");
    assert_eq!(refused(&awaiting(), &event(&OLD_TOKEN, None), NOW), Refusal::WrongToken);
    assert_eq!(refused(&executing(), &event(&TOKEN, None), NOW), Refusal::AttemptClosed);
    assert_eq!(refused(&ended(), &event(&TOKEN, None), NOW), Refusal::AttemptClosed);
}

#[test]
fn a_report_that_only_asks_for_time_keeps_what_was_reported() {
    let policy = policy();
    let event = |report| Event::Progress { token: &TOKEN, report, rules: rules(&policy) };
    let half = ProgressReport { percent: Some(40), message: Some("half way".to_owned()), extend: None };
    let shown = go(&awaiting(), &event(half), after(60)).task;
    let extend = ProgressReport { extend: Some(DEADLINE), ..ProgressReport::default() };
    let extended = go(&shown, &event(extend), after(90)).task;
    assert_eq!(extended.due_at, after(90).plus(DEADLINE));
    assert_eq!(extended.extra, shown.extra);
}

#[test]
fn cancel_ends_what_does_not_run_and_closes_what_is_awaited() {
    for task in [scheduled(), queued(), paused(), awaiting()] {
        let change = go(&task, &Event::Cancel, after(3));
        assert_eq!(
            (change.task.result, change.outcome_detail),
            (Some(EndResult::Cancelled), OutcomeDetail::None)
        );
        let closed = change.closed.map(|closed| closed.kind);
        assert_eq!(closed, (task.status == Status::Awaiting).then_some(OutcomeKind::Cancelled));
    }
    assert_eq!(refused(&ended(), &Event::Cancel, NOW), Refusal::AlreadyEnded);
}

#[test]
fn cancel_of_an_executing_task_makes_its_attempt_the_last() {
    let policy = policy();
    let change = go(&executing(), &Event::Cancel, NOW);
    let flagged = change.task;
    assert_eq!((change.outcome_detail, flagged.status), (OutcomeDetail::TooLate, Status::Executing));
    let snooze = Verdict::new(Outcome::Snooze { until: after(7) }, "later");
    let (done, retry, fail) = (Verdict::done(), Verdict::retry("x"), Verdict::fail("x"));
    let ends = [
        (finish(&done, &policy), EndResult::Succeeded),
        (complete(&TOKEN, DONE, &policy), EndResult::Succeeded),
        (finish(&retry, &policy), EndResult::Cancelled),
        (finish(&fail, &policy), EndResult::Cancelled),
        (finish(&snooze, &policy), EndResult::Cancelled),
        (complete(&TOKEN, RETRY, &policy), EndResult::Cancelled),
        (Event::NodeLost { node: NODE, rules: rules(&policy) }, EndResult::Cancelled),
    ];
    for (event, result) in ends {
        assert_eq!(go(&flagged, &event, NOW).task.result, Some(result), "{event:?}");
    }
    let accepted = Verdict::new(Outcome::Accepted, "accepted");
    let awaited = go(&flagged, &finish(&accepted, &policy), NOW).task;
    let over = Event::Deadline { rules: rules(&policy) };
    assert_eq!(go(&awaited, &over, awaited.due_at).task.result, Some(EndResult::Cancelled));
    assert_eq!(go(&awaited, &complete(&TOKEN, DONE, &policy), NOW).task.result, Some(EndResult::Succeeded));
}

#[test]
fn pause_resume_postpone_and_run_are_refused_where_an_attempt_is_open() {
    let postpone = Event::Postpone { execute_at: after(9) };
    let events = [
        (Event::Pause, Action::Pause),
        (Event::Resume, Action::Resume),
        (postpone, Action::Postpone),
        (Event::Run, Action::Run),
    ];
    for task in [executing(), awaiting()] {
        for (event, action) in &events {
            let status = task.status;
            assert_eq!(refused(&task, event, NOW), Refusal::NotAllowed { status, action: *action });
        }
    }
    for (event, _) in &events {
        assert_eq!(refused(&ended(), event, NOW), Refusal::AlreadyEnded);
    }
}

#[test]
fn replay_opens_an_ended_task_with_its_id_and_its_attempt_numbers() {
    let lasting = Task { failed_attempts: 3, worker_losses: 9, ..expiring(ended()) };
    let task = go(&lasting, &Event::Replay, after(100)).task;
    assert_eq!((task.status, task.due_at, task.age_from), (Status::Scheduled, after(100), after(100)));
    assert_eq!((task.attempt, task.failed_attempts, task.worker_losses), (1, 0, 0));
    assert_eq!((task.result, task.ended_at, task.token), (None, None, None));
    let claimed = go(&task, &Event::Claim { epoch: 1 }, after(100)).task;
    assert_eq!(go(&claimed, &begin(&claimed), after(100)).task.attempt, 2);

    let unborn = go(&expiring(scheduled()), &Event::Cancel, NOW).task;
    let again = go(&unborn, &Event::Replay, after(100)).task;
    assert!(go(&again, &Event::Claim { epoch: 1 }, after(100)).task.is_open(), "an old expiry is over");

    let future = go(&scheduled(), &Event::Postpone { execute_at: after(900) }, NOW).task;
    let early = go(&go(&future, &Event::Cancel, NOW).task, &Event::Replay, after(1)).task;
    assert_eq!((early.execute_at, early.due_at), (after(1), after(1)), "never before its time");
    for task in each_state() {
        if task.is_open() {
            let why = Refusal::NotAllowed { status: task.status, action: Action::Replay };
            assert_eq!(refused(&task, &Event::Replay, NOW), why);
        }
    }
}
