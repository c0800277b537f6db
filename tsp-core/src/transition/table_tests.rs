//! The table of DESIGN.md section 5.2, row by row: the machine's part.

use super::fixtures::*;
use super::*;
use crate::outcome::{Outcome, OutcomeKind, RetryDelay};

#[test]
fn a_submit_is_scheduled_and_a_past_time_is_due_now() {
    let task = scheduled();
    assert_eq!((task.status, task.version, task.attempt, task.failed_attempts), (Status::Scheduled, 1, 0, 0));
    let late = Task::new(
        crate::task::NewTask {
            id: task.id,
            config: task.config,
            key: None,
            execute_at: after(-60),
            payload: None,
            expire_after: None,
            origin: crate::task::Origin::Submit,
            extra: None,
        },
        NOW,
    );
    assert_eq!((late.execute_at, late.due_at, late.age_from), (after(-60), NOW, NOW));
}

#[test]
fn claim_takes_a_scheduled_row_under_the_epoch_and_nothing_else() {
    let claimed = go(&scheduled(), &Event::Claim { epoch: 5 }, NOW).task;
    assert_eq!((claimed.status, claimed.epoch, claimed.attempt), (Status::Queued, 5, 0));
    for task in each_state().into_iter().skip(1) {
        assert_eq!(refused(&task, &Event::Claim { epoch: 6 }, NOW), Refusal::Stale);
    }
}

#[test]
fn begin_starts_the_next_attempt() {
    let change = go(&queued(), &begin(&queued()), after(2));
    let task = change.task;
    assert_eq!((task.status, task.attempt, task.node), (Status::Executing, 1, Some(NODE)));
    assert_eq!((task.started_at, task.begun_due_at), (Some(after(2)), Some(NOW)));
    assert_eq!((task.token, change.closed), (Some(TOKEN), None));
}

#[test]
fn begin_is_refused_when_the_version_differs_or_the_row_is_elsewhere() {
    let stale = Event::Begin { version: queued().version - 1, node: NODE, runnable: true, token: None };
    assert_eq!(refused(&queued(), &stale, NOW), Refusal::Stale);
    for task in each_state() {
        if task.status != Status::Queued {
            assert_eq!(refused(&task, &begin(&task), NOW), Refusal::Stale);
        }
    }
}

#[test]
fn begin_waits_up_to_a_second_and_gives_back_what_is_further_ahead() {
    let task = queued();
    let early = |ms: i64| task.due_at.minus(Millis::from_ms(ms));
    for ms in [1, 1_000] {
        assert_eq!(refused(&task, &begin(&task), early(ms)), Refusal::NotDue { due_at: task.due_at });
    }
    let released = go(&task, &begin(&task), early(1_001)).task;
    assert_eq!((released.status, released.attempt, released.due_at), (Status::Scheduled, 0, task.due_at));
}

#[test]
fn begin_gives_back_the_row_of_a_held_config() {
    let held = Event::Begin { version: queued().version, node: NODE, runnable: false, token: None };
    for now in [NOW, NOW.minus(secs(1)), NOW.minus(secs(60))] {
        let task = go(&queued(), &held, now).task;
        assert_eq!((task.status, task.attempt, task.due_at), (Status::Scheduled, 0, NOW));
    }
}

#[test]
fn expiry_ends_a_row_without_an_attempt_at_claim_begin_resume_and_run() {
    let queued = expiring(queued());
    let held = Event::Begin { version: queued.version, node: NODE, runnable: false, token: None };
    let cases = [
        (expiring(scheduled()), Event::Claim { epoch: 1 }),
        (queued.clone(), begin(&queued)),
        (queued.clone(), held),
        (expiring(paused()), Event::Resume),
        (expiring(scheduled()), Event::Run),
        (expiring(paused()), Event::Run),
    ];
    for (task, event) in cases {
        let change = go(&task, &event, after(30));
        assert_eq!(change.task.result, Some(EndResult::Expired), "{event:?} of {:?}", task.status);
        assert_eq!((change.task.ended_at, change.closed), (Some(after(30)), None));
        let in_time = go(&task, &event, after(29)).task;
        assert!(in_time.is_open(), "{event:?} of {:?} a second before the expiry", task.status);
        let begun = Task { attempt: 1, ..task.clone() };
        assert!(go(&begun, &event, after(30)).task.is_open(), "{event:?} after a first attempt");
    }
}

#[test]
fn release_gives_back_without_an_attempt() {
    let released = go(&queued(), &Event::Release { version: queued().version }, after(9)).task;
    assert_eq!((released.status, released.attempt, released.failed_attempts), (Status::Scheduled, 0, 0));
    assert_eq!(released.due_at, NOW);
    for task in each_state() {
        if task.status != Status::Queued {
            assert_eq!(refused(&task, &Event::Release { version: task.version }, NOW), Refusal::Stale);
        }
    }
    assert_eq!(refused(&queued(), &Event::Release { version: 1 }, NOW), Refusal::Stale);
}

#[test]
fn outcome_done_ends_succeeded() {
    let change = go(&executing(), &finish(&Verdict::done().with_status(200), &policy()), after(3));
    assert_eq!((change.task.status, change.task.result), (Status::Ended, Some(EndResult::Succeeded)));
    assert_eq!(
        (change.task.ended_at, change.task.node, change.task.failed_attempts),
        (Some(after(3)), None, 0)
    );
    let closed = change.closed.expect("a finish closes the attempt");
    assert_eq!((closed.attempt, closed.kind, closed.node), (1, OutcomeKind::Done, Some(NODE)));
    assert_eq!((closed.started_at, closed.ended_at, closed.due_at), (NOW, after(3), NOW));
    assert_eq!(closed.http_status, Some(200));
}

#[test]
fn outcome_retry_waits_for_its_delay_until_the_attempts_are_used_up() {
    let retry = Verdict::retry("http_status");
    let change = go(&executing(), &finish(&retry, &policy()), after(3));
    assert_eq!((change.task.status, change.task.failed_attempts), (Status::Scheduled, 1));
    assert_eq!((change.task.due_at, change.task.execute_at), (after(63), NOW));
    assert_eq!(change.closed.map(|closed| closed.kind), Some(OutcomeKind::Retry));

    let last = Task { failed_attempts: 2, ..executing() };
    let task = go(&last, &finish(&retry, &policy()), after(3)).task;
    assert_eq!((task.result, task.failed_attempts), (Some(EndResult::Failed), 3));
}

#[test]
fn a_receivers_delay_is_taken_as_it_is_and_a_retry_after_is_clamped() {
    let due_with = |jitter, delay| {
        let verdict = Verdict::new(Outcome::Retry(delay), "asked");
        go(&executing(), &finish(&verdict, &RetryPolicy { jitter, ..policy() }), NOW).task.due_at
    };
    let due = |delay| due_with(0.0, delay);
    assert_eq!(due(RetryDelay::Exactly(secs(1))), after(1));
    assert_eq!(due(RetryDelay::Exactly(Millis::from_days(1))), NOW.plus(Millis::from_days(1)));
    // Not below our own minute and not above an hour; no jitter is none.
    assert_eq!(due(RetryDelay::RetryAfter(secs(1))), after(60));
    assert_eq!(due(RetryDelay::RetryAfter(secs(90))), after(90));
    assert_eq!(due(RetryDelay::RetryAfter(Millis::from_days(1))), after(3_600));
    // The policy's own on top (here half of it), a tenth at most.
    assert_eq!(due_with(0.05, RetryDelay::RetryAfter(secs(1_000))), after(1_025));
    assert_eq!(due_with(1.0, RetryDelay::RetryAfter(secs(1_000))), after(1_050));
    assert_eq!(due_with(1.0, RetryDelay::Exactly(secs(1_000))), after(1_000));
}

#[test]
fn max_age_ends_a_task_whose_attempt_has_failed_and_no_other() {
    let aged = RetryPolicy { max_age: Some(secs(100)), ..policy() };
    let end = |verdict: &Verdict, now| go(&executing(), &finish(verdict, &aged), now).task.result;
    assert_eq!(end(&Verdict::retry("x"), after(40)), None, "the retry is due at the last moment");
    assert_eq!(end(&Verdict::retry("x"), after(41)), Some(EndResult::Failed));
    let snooze = Verdict::new(Outcome::Snooze { until: after(999) }, "later");
    assert_eq!(end(&snooze, after(500)), None);
    let lost = Event::NodeLost { node: NODE, rules: rules(&aged) };
    assert!(go(&executing(), &lost, after(500)).task.is_open());
    assert!(go(&scheduled(), &Event::Claim { epoch: 1 }, after(500)).task.is_open());
}

#[test]
fn outcome_fail_ends_failed_whatever_the_policy_allows() {
    let change = go(&executing(), &finish(&Verdict::fail("http_status").with_status(410), &policy()), NOW);
    assert_eq!((change.task.result, change.task.failed_attempts), (Some(EndResult::Failed), 1));
    assert_eq!(change.closed.map(|closed| closed.kind), Some(OutcomeKind::Fail));
}

#[test]
fn outcome_accepted_waits_for_completion_and_keeps_the_attempt_open() {
    let accepted = Verdict::new(Outcome::Accepted, "accepted");
    let change = go(&executing(), &finish(&accepted, &policy()), after(3));
    assert_eq!((change.task.status, change.task.due_at), (Status::Awaiting, after(3).plus(DEADLINE)));
    assert_eq!((change.task.token, change.closed), (Some(TOKEN), None));

    let policy = policy();
    let rules = Rules { deadline: None, ..rules(&policy) };
    let event = Event::Finish { attempt: 1, node: NODE, verdict: &accepted, rules };
    let plain = go(&executing(), &event, NOW).task;
    assert_eq!(plain.result, Some(EndResult::Succeeded), "nobody could complete it");

    let begun = Event::Begin { version: queued().version, node: NODE, runnable: true, token: None };
    let without_token = go(&queued(), &begun, NOW).task;
    let plain = go(&without_token, &finish(&accepted, &policy), NOW).task;
    assert_eq!(plain.result, Some(EndResult::Succeeded), "the config became async while it ran");
}

#[test]
fn no_text_is_kept_beyond_its_bound() {
    let long = "\u{e9}\u{1d11e}".repeat(20_000);
    let verdict = Verdict { excerpt: Some(long.as_str().into()), ..Verdict::fail(long.clone()) };
    let change = go(&executing(), &finish(&verdict, &policy()), NOW);
    let closed = change.closed.expect("it is closed");
    let last = change.task.last_outcome.expect("an outcome");
    assert_eq!((closed.reason.len(), last.reason.len()), (1_022, 1_022), "cut between two characters");
    assert_eq!(closed.excerpt.map(|text| text.len()), Some(16_382));

    let accepted = Verdict { outcome: Outcome::Accepted, ..verdict };
    let awaiting = go(&executing(), &finish(&accepted, &policy()), NOW).task;
    assert_eq!(awaiting.last_outcome.as_ref().map(|last| last.reason.len()), Some(1_022));

    let (completion, policy) = (Completion::Fail { message: Some(long.clone()) }, policy());
    let event = Event::Complete { token: &TOKEN, completion, rules: rules(&policy) };
    let closed = go(&awaiting, &event, NOW).closed.expect("it is closed");
    assert_eq!(closed.excerpt.map(|text| text.len()), Some(16_382));
}

#[test]
fn outcome_snooze_asks_again_and_is_no_failure() {
    let snooze = |until| Verdict::new(Outcome::Snooze { until }, "later");
    let change = go(&executing(), &finish(&snooze(after(900)), &policy()), NOW);
    assert_eq!((change.task.status, change.task.due_at), (Status::Scheduled, after(900)));
    assert_eq!((change.task.failed_attempts, change.task.attempt), (0, 1));
    assert_eq!(change.closed.map(|closed| closed.kind), Some(OutcomeKind::Snooze));
    let past = go(&executing(), &finish(&snooze(after(-900)), &policy()), NOW).task;
    assert_eq!(past.due_at, after(1), "a snooze into the past must not call in a loop");
}

#[test]
fn a_finish_is_fenced_by_status_attempt_and_node() {
    let policy = policy();
    let done = Verdict::done();
    let event = |attempt, node| Event::Finish { attempt, node, verdict: &done, rules: rules(&policy) };
    for task in each_state() {
        if task.status != Status::Executing {
            assert_eq!(refused(&task, &event(task.attempt, NODE), NOW), Refusal::AttemptClosed);
        }
    }
    assert_eq!(refused(&executing(), &event(2, NODE), NOW), Refusal::AttemptClosed);
    assert_eq!(refused(&executing(), &event(1, OTHER_NODE), NOW), Refusal::AttemptClosed);
    // Not by the version: a reset and a cancel may have come since begin.
    let reset = go(&executing(), &Event::Reset { execute_at: after(60), payload: None }, NOW).task;
    let flagged = go(&reset, &Event::Cancel, NOW).task;
    assert_eq!(go(&flagged, &event(1, NODE), NOW).task.result, Some(EndResult::Succeeded));
}

/// A process was restarted on a machine whose clock had been ahead.
#[test]
fn a_clock_that_goes_back_makes_nothing_early() {
    let policy = policy();
    let retry = Verdict::new(Outcome::Retry(RetryDelay::Exactly(secs(1))), "tsp_result");
    let lost = Event::NodeLost { node: NODE, rules: rules(&policy) };
    for event in [lost, finish(&retry, &policy)] {
        let row = go(&executing(), &event, after(-5)).task;
        assert_eq!((row.status, row.due_at), (Status::Scheduled, NOW), "{event:?}");
    }
}

#[test]
fn a_lost_node_gives_the_task_back_at_once_and_charges_nothing() {
    let policy = policy();
    let lost = Event::NodeLost { node: NODE, rules: rules(&policy) };
    let change = go(&executing(), &lost, after(40));
    let task = change.task;
    assert_eq!((task.status, task.due_at), (Status::Scheduled, after(40)));
    assert_eq!((task.attempt, task.failed_attempts, task.worker_losses), (1, 0, 1));
    let closed = change.closed.expect("the attempt is closed");
    assert_eq!((closed.kind, &*closed.reason), (OutcomeKind::Lost, "worker_lost"));
    let elsewhere = Event::NodeLost { node: OTHER_NODE, rules: rules(&policy) };
    assert_eq!(refused(&executing(), &elsewhere, NOW), Refusal::AttemptClosed);
    assert_eq!(refused(&awaiting(), &lost, NOW), Refusal::AttemptClosed, "it runs at the receiver, not here");
}

#[test]
fn ten_losses_end_a_task() {
    let policy = policy();
    let lost = Event::NodeLost { node: NODE, rules: rules(&policy) };
    let mut task = scheduled();
    for loss in 1..=WORKER_LOSSES_MAX {
        task = go(&task, &Event::Claim { epoch: 1 }, NOW).task;
        task = go(&task, &begin(&task), NOW).task;
        task = go(&task, &lost, NOW).task;
        assert_eq!(task.is_open(), loss < WORKER_LOSSES_MAX, "after {loss} losses");
    }
    assert_eq!((task.result, task.failed_attempts), (Some(EndResult::Failed), 0));
    let reason = task.last_outcome.map(|last| last.reason);
    assert_eq!(reason.as_deref(), Some("crashes_workers"));
}

#[test]
fn a_tenth_loss_still_yields_to_a_cancel_and_to_a_reset() {
    let policy = policy();
    let lost = Event::NodeLost { node: NODE, rules: rules(&policy) };
    let worn = Task { worker_losses: WORKER_LOSSES_MAX - 1, ..executing() };
    let flagged = go(&worn, &Event::Cancel, NOW).task;
    assert_eq!(go(&flagged, &lost, NOW).task.result, Some(EndResult::Cancelled));
    let reset = go(&worn, &Event::Reset { execute_at: after(60), payload: None }, NOW).task;
    let task = go(&reset, &lost, NOW).task;
    assert_eq!((task.status, task.due_at), (Status::Scheduled, after(60)));
    assert_eq!(task.last_outcome.map(|last| last.reason).as_deref(), Some("worker_lost"));
}

#[test]
fn a_passed_deadline_is_a_retry() {
    let policy = policy();
    let deadline = Event::Deadline { rules: rules(&policy) };
    let over = NOW.plus(DEADLINE);
    let early = over.minus(Millis::from_ms(1));
    assert_eq!(refused(&awaiting(), &deadline, early), Refusal::AttemptClosed, "it is not over yet");
    let change = go(&awaiting(), &deadline, over);
    assert_eq!((change.task.status, change.task.failed_attempts), (Status::Scheduled, 1));
    assert_eq!(change.task.due_at, over.plus(secs(60)));
    let closed = change.closed.expect("the attempt is closed");
    assert_eq!((closed.kind, &*closed.reason), (OutcomeKind::Retry, "async_timeout"));
    let last = Task { failed_attempts: 2, ..awaiting() };
    assert_eq!(go(&last, &deadline, over).task.result, Some(EndResult::Failed));
    for task in each_state() {
        if task.status != Status::Awaiting {
            assert_eq!(refused(&task, &deadline, over), Refusal::AttemptClosed);
        }
    }
}
