//! Properties that hold over every history of a task, however its events fall.
//!
//! A history is played from random steps, see [`super::histories`]; each property is read off its moments.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::claim::{Claim, Claimable};
use super::fixtures::*;
use super::histories::*;
use super::*;
use crate::outcome::{Outcome, OutcomeKind};

/// What an operator may ask for without a token.
const BY_OPERATOR: [Action; 6] =
    [Action::Cancel, Action::Pause, Action::Postpone, Action::Replay, Action::Resume, Action::Run];

/// What closed the attempt, if the step did.
fn closes(change: &Change) -> Option<OutcomeKind> {
    change.closed.as_ref().map(|closed| closed.kind)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_version_rises_by_one_with_each_change(history in history()) {
        for (moment, change) in history.changes() {
            prop_assert_eq!(change.task.version, moment.before.version + 1, "{:?}", moment.step);
        }
    }

    #[test]
    fn the_attempt_rises_by_one_with_each_begin_and_never_otherwise(history in history()) {
        for (moment, change) in history.changes() {
            let begun = change.task.status == Status::Executing && moment.before.status == Status::Queued;
            let attempt = moment.before.attempt + u32::from(begun);
            prop_assert_eq!(change.task.attempt, attempt, "{:?}", moment.step);
        }
    }

    #[test]
    fn an_attempt_is_closed_once_and_before_the_next_begins_or_the_task_ends(history in history()) {
        let mut closed = BTreeSet::new();
        for (moment, change) in history.changes() {
            if let Some(record) = &change.closed {
                prop_assert!(closed.insert(record.attempt), "attempt {} closed twice", record.attempt);
                prop_assert_eq!(record.attempt, moment.before.attempt);
            }
            let open = matches!(change.task.status, Status::Executing | Status::Awaiting);
            let begun = change.task.attempt as usize;
            prop_assert_eq!(closed.len() + usize::from(open), begun, "after {:?}", moment.step);
        }
    }

    #[test]
    fn no_begin_before_its_time_or_of_a_held_config(history in history()) {
        for (moment, change) in history.changes() {
            if let (Step::Begin { runnable, .. }, Status::Executing) = (&moment.step, change.task.status) {
                prop_assert!(*runnable, "the config is held");
                prop_assert!(moment.before.due_at <= moment.now);
                prop_assert!(moment.before.execute_at <= moment.now, "before the promised time");
            }
        }
    }

    #[test]
    fn an_ended_task_changes_by_replay_alone(history in history()) {
        for (moment, change) in history.changes() {
            if !moment.before.is_open() {
                prop_assert!(matches!(moment.step, Step::Operators(Action::Replay)), "{:?}", moment.step);
                prop_assert!(change.task.is_open());
            }
        }
    }

    #[test]
    fn a_cancel_that_came_too_late_makes_the_attempt_the_last(history in history()) {
        let mut flagged = false;
        for (moment, change) in history.changes() {
            let done = closes(change).is_some() && told_done(moment, &history.setting);
            match &moment.step {
                Step::Reset(_) => flagged = false,
                _ if change.outcome_detail == OutcomeDetail::TooLate => flagged = true,
                step if flagged && !change.task.is_open() => {
                    let result = if done { EndResult::Succeeded } else { EndResult::Cancelled };
                    prop_assert_eq!(change.task.result, Some(result), "{:?}", step);
                    flagged = false;
                }
                step if flagged => {
                    let still = matches!(change.task.status, Status::Executing | Status::Awaiting);
                    prop_assert!(still, "after the cancel {:?} made it {:?}", step, change.task.status);
                    prop_assert_eq!(change.task.attempt, moment.before.attempt);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_reset_that_waits_is_never_lost(history in history()) {
        let mut next: Option<(Timestamp, Bytes)> = None;
        for (moment, change) in history.changes() {
            if let (Step::Reset(seconds), OutcomeDetail::AfterCurrent) = (&moment.step, change.outcome_detail) {
                next = Some((moment.now.plus(secs(*seconds)), seconds.to_string().into()));
            } else if change.outcome_detail == OutcomeDetail::TooLate {
                next = None;
            } else if let Some((execute_at, payload)) = next.take_if(|_| change.closed.is_some()) {
                prop_assert_eq!(change.task.status, Status::Scheduled, "{:?}", moment.step);
                prop_assert_eq!(change.task.execute_at, execute_at);
                prop_assert_eq!(change.task.due_at, execute_at.max(moment.now));
                prop_assert_eq!(change.task.payload.as_ref(), Some(&payload));
            }
            let kept = change.task.next_run().map(|next| next.execute_at);
            prop_assert_eq!(kept, next.as_ref().map(|next| next.0));
        }
    }

    #[test]
    fn only_the_receivers_failures_count_and_never_more_than_allowed(history in history()) {
        for (moment, change) in history.changes() {
            let (before, after) = (moment.before.failed_attempts, change.task.failed_attempts);
            prop_assert!(after <= history.setting.retry.max_attempts);
            let failed = matches!(closes(change), Some(OutcomeKind::Retry | OutcomeKind::Fail));
            prop_assert!(after <= before + u32::from(failed), "{:?}: failed attempts", moment.step);
        }
    }

    #[test]
    fn only_a_failed_attempt_or_the_tenth_loss_ends_a_task_failed(history in history()) {
        for (_, change) in history.changes() {
            if change.task.result == Some(EndResult::Failed) && change.closed.is_none() {
                prop_assert!(false, "it failed without an attempt: {:?}", change.task);
            }
            if change.task.result == Some(EndResult::Failed) {
                let kind = closes(change);
                let worn = kind == Some(OutcomeKind::Lost) && change.task.worker_losses >= WORKER_LOSSES_MAX;
                let failed = matches!(kind, Some(OutcomeKind::Retry | OutcomeKind::Fail));
                prop_assert!(worn || failed, "{:?}", kind);
            }
        }
    }

    #[test]
    fn only_the_token_of_the_open_attempt_completes_or_reports(history in history()) {
        for moment in &history.moments {
            let (Step::Complete { back, .. } | Step::Progress { back, .. }) = &moment.step else { continue };
            let row = &moment.before;
            let open = matches!(row.status, Status::Executing | Status::Awaiting);
            let used = token_of(row.attempt.wrapping_sub(u32::try_from(*back).unwrap()));
            if moment.answer.is_ok() {
                prop_assert!(open && *back == 0 && row.token == Some(used));
            } else if row.token != Some(used) {
                prop_assert_eq!(moment.answer.as_ref().err(), Some(&Refusal::WrongToken));
            }
        }
    }

    #[test]
    fn complete_is_idempotent(history in history()) {
        for (moment, change) in history.changes() {
            if let Step::Complete { .. } = &moment.step {
                let again = take(&change.task, &moment.step, &history.setting, moment.now);
                let void = change.task.token.is_none();
                let expected = if void { Refusal::WrongToken } else { Refusal::Unchanged };
                prop_assert_eq!(again.err(), Some(expected));
            }
        }
    }

    #[test]
    fn a_task_expires_only_before_its_first_attempt(history in history()) {
        for (moment, change) in history.changes() {
            if change.task.result == Some(EndResult::Expired) {
                prop_assert_eq!(change.task.attempt, 0);
                prop_assert!(moment.before.is_expired(moment.now));
            }
        }
    }

    #[test]
    fn a_claim_needs_no_more_of_a_row_than_it_says(history in history()) {
        for (moment, change) in history.changes() {
            if matches!(moment.step, Step::Claim) {
                match Claimable::from(&moment.before).claim(moment.now) {
                    Claim::Expired => prop_assert_eq!(change.task.result, Some(EndResult::Expired)),
                    Claim::Queued { version } => {
                        prop_assert_eq!((change.task.status, change.task.version), (Status::Queued, version));
                    }
                }
            }
        }
    }

    #[test]
    fn the_row_always_fits_its_state(history in history()) {
        for (_, change) in history.changes() {
            let task = &change.task;
            prop_assert_eq!(task.is_open(), task.result.is_none());
            prop_assert_eq!(task.is_open(), task.ended_at.is_none());
            let attempt_open = matches!(task.status, Status::Executing | Status::Awaiting);
            prop_assert_eq!(task.node.is_some(), attempt_open, "node at {:?}", task.status);
            prop_assert!(attempt_open || !task.cancel_requested, "a flag left behind at {:?}", task.status);
            prop_assert!(task.status == Status::Executing || task.next_run().is_none());
            prop_assert!(!matches!(task.status, Status::Scheduled) || task.due_at >= task.execute_at);
        }
    }

    #[test]
    fn from_every_open_state_good_steps_lead_to_an_end(history in history()) {
        let (mut task, mut now) = (history.end, history.now);
        for _ in 0..12 {
            if !task.is_open() {
                break;
            }
            now = now.max(task.due_at);
            let step = match task.status {
                Status::Scheduled => Step::Claim,
                Status::Queued => Step::Begin { runnable: true, token: true, late: false },
                Status::Executing => Step::Finish { outcome: Outcome::Done, wrong: 0 },
                Status::Paused => Step::Operators(Action::Resume),
                Status::Awaiting => Step::Deadline,
                Status::Ended => unreachable!("left above"),
            };
            task = take(&task, &step, &history.setting, now).expect("a good step is taken").task;
        }
        prop_assert!(!task.is_open(), "still at {:?} after all good steps", task.status);
    }

    #[test]
    fn the_listed_actions_are_those_that_are_taken(history in history()) {
        let task = &history.end;
        let listed = task.status.actions();
        for action in BY_OPERATOR {
            let taken = transition(task, &operator_event(action), history.now).is_ok();
            prop_assert_eq!(taken, listed.contains(&action), "{:?} at {:?}", action, task.status);
        }
        // While executing a receiver may be quicker than its own 202, but nobody is invited to.
        if let Some(token) = task.token.as_ref().filter(|_| task.status != Status::Executing) {
            let rules = rules(&history.setting.retry);
            let event = Event::Complete { token, completion: Completion::Done { message: None }, rules };
            let taken = transition(task, &event, history.now).is_ok();
            prop_assert_eq!(taken, listed.contains(&Action::Complete), "at {:?}", task.status);
        }
    }

    #[test]
    fn no_point_in_time_breaks_it(steps in vec((step(), any::<i64>()), 1..20), setting in setting()) {
        let mut task = Task { expire_after: setting.expire_after, ..scheduled() };
        for (step, ms) in steps {
            if !matches!(step, Step::Wait(_))
                && let Ok(change) = take(&task, &step, &setting, Timestamp::from_ms(ms))
            {
                task = change.task;
            }
        }
    }
}

/// Whether the step says that the attempt went well.
fn told_done(moment: &Moment, setting: &Setting) -> bool {
    match &moment.step {
        Step::Finish { outcome: Outcome::Done, .. }
        | Step::Complete { completion: Completion::Done { .. }, .. } => true,
        // Nobody can complete it, so a 202 is an answer like any other 2xx.
        Step::Finish { outcome: Outcome::Accepted, .. } => {
            setting.deadline.is_none() || moment.before.token.is_none()
        }
        _ => false,
    }
}

/// The properties above would hold of histories in which nothing happens.
#[test]
fn the_histories_reach_everything() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut statuses, mut results) = (BTreeSet::new(), BTreeSet::new());
    let (mut closings, mut notes, mut refusals) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for _ in 0..1_000 {
        let history = history().new_tree(&mut runner).expect("a history can always be drawn").current();
        for moment in history.moments {
            match moment.answer {
                Ok(change) => {
                    statuses.insert((moment.before.status, change.task.status));
                    results.extend(change.task.result.map(EndResult::as_str));
                    closings.extend(closes(&change).map(OutcomeKind::as_str));
                    notes.insert(format!("{:?}", change.outcome_detail));
                }
                Err(why) => {
                    refusals
                        .insert(format!("{why:?}").split([' ', '{']).next().unwrap_or_default().to_owned());
                }
            }
        }
    }
    assert_eq!(results.len(), EndResult::ALL.len() - 1, "all but `skipped`, of parts: {results:?}");
    assert_eq!(closings.len(), OutcomeKind::ALL.len(), "{closings:?}");
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert_eq!(refusals.len(), 7, "{refusals:?}");
    // All moves of the table, staying where it is included.
    let left = |from: Status| statuses.iter().filter(|(before, _)| *before == from).count();
    let moves: Vec<_> = Status::ALL.into_iter().map(left).collect();
    assert_eq!(moves, [4, 4, 4, 3, 3, 1], "{statuses:?}");
}
