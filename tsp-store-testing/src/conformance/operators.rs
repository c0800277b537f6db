//! What operators do, in each state: a store answers and saves exactly what the transition says.

use tsp_core::config::ConfigSpec;
use tsp_core::outcome::{Outcome, Verdict};
use tsp_core::task::Status;
use tsp_core::transition::{Event, Refusal, transition};
use tsp_core::{Millis, TaskId};
use tsp_store::catalog::AuditEntry;
use tsp_store::tasks::{CancelCount, CommandResult, Subject, TaskCommand};

use super::fixture::{Fixture, T0, assert_same, at, by, key, plain, spec};

fn commands() -> [(TaskCommand, Event<'static>); 7] {
    [
        (TaskCommand::Cancel, Event::Cancel),
        (TaskCommand::Pause, Event::Pause),
        (TaskCommand::Resume, Event::Resume),
        (TaskCommand::Postpone { execute_at: at(300) }, Event::Postpone { execute_at: at(300) }),
        (TaskCommand::Postpone { execute_at: at(-300) }, Event::Postpone { execute_at: at(-300) }),
        (TaskCommand::Run, Event::Run),
        (TaskCommand::Replay, Event::Replay),
    ]
}

/// Seven commands in six states.
pub(super) async fn each_command_in_each_state_is_what_the_transition_says(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for status in Status::ALL {
        for (command, event) in commands() {
            let before = fixture.in_state(&config, status).await;
            let decided = transition(&before, &event, at(5));
            let answer = fixture.change(before.id, command.clone(), at(5)).await;
            match (&decided, &answer) {
                (Ok(change), CommandResult::Done { task, outcome_detail }) => {
                    assert_same(task, &change.task, &format!("{command:?} at {status:?}"));
                    assert_eq!(outcome_detail, &change.outcome_detail, "{command:?} at {status:?}");
                    fixture.check_stored(&change.task).await;
                }
                (Err(expected), CommandResult::Refused { task, why }) => {
                    assert_eq!(why, expected, "{command:?} at {status:?}");
                    assert_same(task, &before, "a refused command shows the row as it is");
                    fixture.check_stored(&before).await;
                }
                _ => panic!("{command:?} at {status:?} must be {decided:?}, but was {answer:?}"),
            }
            let left = fixture.stored(before.id).await;
            if left.is_open() {
                fixture.change(before.id, TaskCommand::Cancel, at(5)).await;
            }
        }
    }
}

/// By key it is the same: the canonical open task, else the latest ended one, else nothing.
pub(super) async fn a_task_is_meant_by_its_key(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let subject = Subject::Key(config.id, key("order-42"));
    let change =
        async |command| fixture.store.change(subject.clone(), command, &by(), at(1)).await.expect("change");
    assert_eq!(change(TaskCommand::Cancel).await, CommandResult::NotFound);
    let task = fixture.create(fixture.new_task(&config, Some("order-42"), at(60))).await;
    let CommandResult::Done { task: paused, .. } = change(TaskCommand::Pause).await else {
        panic!("a scheduled task can be paused");
    };
    assert_eq!((paused.id, paused.status), (task.id, Status::Paused));
    change(TaskCommand::Cancel).await;
    match change(TaskCommand::Cancel).await {
        CommandResult::Refused { task: ended, why } => {
            assert_eq!((ended.id, why), (task.id, Refusal::AlreadyEnded));
        }
        other => panic!("it has ended already: {other:?}"),
    }
}

pub(super) async fn an_unknown_task_is_not_found(fixture: &Fixture) {
    for (command, _) in commands() {
        assert_eq!(fixture.change(TaskId::new(1), command, T0).await, CommandResult::NotFound);
    }
}

/// Commands that come together are served one after another; none is lost and none counts twice.
pub(super) async fn commands_that_come_together_are_served_in_turn(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.scheduled(&config).await;
    let calls = (0..20).map(|n| fixture.change(task.id, TaskCommand::Postpone { execute_at: at(n) }, T0));
    for answer in futures::future::join_all(calls).await {
        assert!(matches!(answer, CommandResult::Done { .. }), "{answer:?}");
    }
    assert_eq!(fixture.stored(task.id).await.version, task.version + 20, "each of the 20 counted once");
}

/// An expiry that has passed ends the task when somebody asks for it to go on.
pub(super) async fn what_has_expired_ends_at_resume_and_run(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    for command in [TaskCommand::Resume, TaskCommand::Run] {
        let mut new = fixture.new_task(&config, None, T0);
        new.expire_after = Some(Millis::from_secs(30));
        let task = fixture.create(new).await;
        fixture.changed(task.id, TaskCommand::Pause, T0).await;
        let ended = fixture.changed(task.id, command, at(30)).await;
        assert_eq!(ended.result, Some(tsp_core::task::EndResult::Expired));
        fixture.check_stored(&ended).await;
    }
}

/// Ends what can end, flags what runs, and says what is left.
pub(super) async fn cancel_open_cancels_a_config_bit_by_bit(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let other = fixture.config("other").await;
    let running = fixture.executing(&config).await;
    let waiting = fixture.awaiting(&config).await;
    for _ in 0..4 {
        fixture.scheduled(&config).await;
    }
    let spared = fixture.scheduled(&other).await;
    let mut cancelled = 0;
    let mut last = CancelCount::default();
    for _ in 0..10 {
        last = fixture.store.cancel_open(config.id, 2, &by(), at(1)).await.expect("cancel_open");
        assert!(last.cancelled <= 2, "at most two at a time: {last:?}");
        cancelled += last.cancelled;
    }
    assert_eq!((cancelled, last.left), (5, 1), "all but the one that runs");
    let flagged = fixture.stored(running.id).await;
    assert!(flagged.cancel_requested, "its attempt is the last: {flagged:?}");
    assert_eq!(flagged.version, running.version + 1, "it is flagged once");
    assert_eq!(fixture.stored(waiting.id).await.result, Some(tsp_core::task::EndResult::Cancelled));
    fixture.check_stored(&spared).await;
    let none = fixture.store.cancel_open(other.id, 0, &by(), at(1)).await.expect("cancel_open");
    assert_eq!(none, CancelCount { cancelled: 0, left: 1 });
}

/// Also one whose cancel came while executing and whose receiver then accepted: its attempt can be closed.
pub(super) async fn cancel_open_ends_what_is_awaited_with_a_flag(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let begun = fixture.executing(&config).await;
    fixture.changed(begun.id, TaskCommand::Cancel, T0).await;
    let awaited = fixture.finish(&begun, Verdict::new(Outcome::Accepted, "accepted"), T0).await;
    assert!(awaited.cancel_requested, "the flag comes along: {awaited:?}");
    let cancelled = fixture.store.cancel_open(config.id, 10, &by(), at(1)).await.expect("cancel_open");
    assert_eq!(cancelled, CancelCount { cancelled: 1, left: 0 });
}

/// What ends at once comes before what runs, whatever is left of the limit.
pub(super) async fn cancel_open_takes_what_runs_last(fixture: &Fixture) {
    let config = fixture.config_of(ConfigSpec { span: 1, ..spec("close-order") }).await;
    let tasks = fixture.one_in_each_state(&config).await;
    for status in [Status::Scheduled, Status::Paused, Status::Awaiting, Status::Queued, Status::Executing] {
        fixture.store.cancel_open(config.id, 1, &by(), at(1)).await.expect("cancel_open");
        let task = tasks.iter().find(|task| task.status == status).expect("one in each state");
        let stored = fixture.stored(task.id).await;
        assert!(!stored.is_open() || stored.cancel_requested, "{status:?} is next");
        let log = fixture.store.audit_log(1).await.expect("audit_log");
        assert_eq!((log[0].action.as_str(), &log[0].subject), ("task.cancel", &task.id.to_string()));
    }
}

/// Who did what to which task and when; a refused command leaves no audit entry.
pub(super) async fn changes_are_in_the_audit_log(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.scheduled(&config).await;
    fixture.changed(task.id, TaskCommand::Pause, T0).await;
    fixture.changed(task.id, TaskCommand::Postpone { execute_at: at(300) }, at(1)).await;
    fixture.changed(task.id, TaskCommand::Cancel, at(2)).await;
    let before = fixture.store.audit_log(100).await.expect("audit_log");
    let brief = |entry: &AuditEntry| (entry.action.clone(), entry.detail.clone(), entry.at);
    let entries: Vec<_> = before.iter().take(3).map(brief).collect();
    let expected = [
        ("cancel", String::new(), at(2)),
        ("postpone", format!("to {}", at(300)), at(1)),
        ("pause", String::new(), T0),
    ];
    let expected = expected.map(|(name, detail, at)| (format!("task.{name}"), detail, at));
    assert_eq!(entries, expected, "newest first");
    for entry in before.iter().take(3) {
        assert_eq!((&entry.actor, &entry.subject), (&by().0, &task.id.to_string()));
    }
    fixture.change(task.id, TaskCommand::Cancel, at(3)).await;
    assert_eq!(fixture.store.audit_log(100).await.expect("audit_log"), before, "it had ended already");
    assert_eq!(fixture.store.audit_log(1).await.expect("audit_log").len(), 1);
    assert_eq!(plain(&fixture.stored(task.id).await).status, Status::Ended);
}
