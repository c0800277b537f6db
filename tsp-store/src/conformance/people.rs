//! What people do, in each state: a store answers and saves exactly what the transition says.

use tsp_core::config::ConfigSpec;
use tsp_core::outcome::{Outcome, Verdict};
use tsp_core::task::Status;
use tsp_core::transition::{Event, Refused, transition};
use tsp_core::{Millis, TaskId};

use super::bed::{Bed, T0, assert_same, at, by, key, plain, spec};
use crate::catalog::AuditEntry;
use crate::tasks::{Cancelled, Changed, Subject, Wish};

fn wishes() -> [(Wish, Event<'static>); 7] {
    [
        (Wish::Cancel, Event::Cancel),
        (Wish::Pause, Event::Pause),
        (Wish::Resume, Event::Resume),
        (Wish::Postpone { execute_at: at(300) }, Event::Postpone { execute_at: at(300) }),
        (Wish::Postpone { execute_at: at(-300) }, Event::Postpone { execute_at: at(-300) }),
        (Wish::Run, Event::Run),
        (Wish::Replay, Event::Replay),
    ]
}

/// Seven wishes in six states.
pub(super) async fn each_wish_in_each_state_is_what_the_transition_says(bed: &Bed) {
    let config = bed.config("close-order").await;
    for status in Status::ALL {
        for (wish, event) in wishes() {
            let before = bed.in_state(&config, status).await;
            let decided = transition(&before, &event, at(5));
            let answer = bed.change(before.id, wish.clone(), at(5)).await;
            match (&decided, &answer) {
                (Ok(change), Changed::Done { task, note }) => {
                    assert_same(task, &change.task, &format!("{wish:?} at {status:?}"));
                    assert_eq!(note, &change.note, "{wish:?} at {status:?}");
                    bed.check_stored(&change.task).await;
                }
                (Err(expected), Changed::Refused { task, why }) => {
                    assert_eq!(why, expected, "{wish:?} at {status:?}");
                    assert_same(task, &before, "a refused wish shows the row as it is");
                    bed.check_stored(&before).await;
                }
                _ => panic!("{wish:?} at {status:?} must be {decided:?}, but was {answer:?}"),
            }
            let left = bed.stored(before.id).await;
            if left.is_open() {
                bed.change(before.id, Wish::Cancel, at(5)).await;
            }
        }
    }
}

/// By key it is the same: the canonical open task, else the latest ended one, else nothing.
pub(super) async fn a_task_is_meant_by_its_key(bed: &Bed) {
    let config = bed.config("close-order").await;
    let subject = Subject::Key(config.id, key("order-42"));
    let change = async |wish| bed.store.change(subject.clone(), wish, &by(), at(1)).await.expect("change");
    assert_eq!(change(Wish::Cancel).await, Changed::NotFound);
    let task = bed.create(bed.new_task(&config, Some("order-42"), at(60))).await;
    let Changed::Done { task: paused, .. } = change(Wish::Pause).await else {
        panic!("a scheduled task can be paused");
    };
    assert_eq!((paused.id, paused.status), (task.id, Status::Paused));
    change(Wish::Cancel).await;
    match change(Wish::Cancel).await {
        Changed::Refused { task: ended, why } => {
            assert_eq!((ended.id, why), (task.id, Refused::AlreadyEnded));
        }
        other => panic!("it has ended already: {other:?}"),
    }
}

pub(super) async fn an_unknown_task_is_not_found(bed: &Bed) {
    for (wish, _) in wishes() {
        assert_eq!(bed.change(TaskId::new(1), wish, T0).await, Changed::NotFound);
    }
}

/// Wishes that come together are served one after another; none is lost and none counts twice.
pub(super) async fn wishes_that_come_together_are_served_in_turn(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.scheduled(&config).await;
    let calls = (0..20).map(|n| bed.change(task.id, Wish::Postpone { execute_at: at(n) }, T0));
    for answer in futures::future::join_all(calls).await {
        assert!(matches!(answer, Changed::Done { .. }), "{answer:?}");
    }
    assert_eq!(bed.stored(task.id).await.version, task.version + 20, "each of the 20 counted once");
}

/// An expiry that has passed ends the task when somebody wants it to go on.
pub(super) async fn what_has_expired_ends_at_resume_and_run(bed: &Bed) {
    let config = bed.config("close-order").await;
    for wish in [Wish::Resume, Wish::Run] {
        let mut new = bed.new_task(&config, None, T0);
        new.expire_after = Some(Millis::from_secs(30));
        let task = bed.create(new).await;
        bed.changed(task.id, Wish::Pause, T0).await;
        let ended = bed.changed(task.id, wish, at(30)).await;
        assert_eq!(ended.result, Some(tsp_core::task::EndResult::Expired));
        bed.check_stored(&ended).await;
    }
}

/// Ends what can end, flags what runs, and says what is left.
pub(super) async fn cancel_open_cancels_a_config_bit_by_bit(bed: &Bed) {
    let config = bed.config("close-order").await;
    let other = bed.config("other").await;
    let running = bed.executing(&config).await;
    let waiting = bed.awaiting(&config).await;
    for _ in 0..4 {
        bed.scheduled(&config).await;
    }
    let spared = bed.scheduled(&other).await;
    let mut cancelled = 0;
    let mut last = Cancelled::default();
    for _ in 0..10 {
        last = bed.store.cancel_open(config.id, 2, &by(), at(1)).await.expect("cancel_open");
        assert!(last.cancelled <= 2, "at most two at a time: {last:?}");
        cancelled += last.cancelled;
    }
    assert_eq!((cancelled, last.left), (5, 1), "all but the one that runs");
    let flagged = bed.stored(running.id).await;
    assert!(flagged.cancel_requested, "its attempt is the last: {flagged:?}");
    assert_eq!(flagged.version, running.version + 1, "it is flagged once");
    assert_eq!(bed.stored(waiting.id).await.result, Some(tsp_core::task::EndResult::Cancelled));
    bed.check_stored(&spared).await;
    let none = bed.store.cancel_open(other.id, 0, &by(), at(1)).await.expect("cancel_open");
    assert_eq!(none, Cancelled { cancelled: 0, left: 1 });
}

/// Also one whose cancel came at 30 and which its callee then accepted: its attempt can be closed now.
pub(super) async fn cancel_open_ends_what_is_awaited_with_a_flag(bed: &Bed) {
    let config = bed.config("close-order").await;
    let begun = bed.executing(&config).await;
    bed.changed(begun.id, Wish::Cancel, T0).await;
    let awaited = bed.finish(&begun, Verdict::new(Outcome::Accepted, "accepted"), T0).await;
    assert!(awaited.cancel_requested, "the flag comes along: {awaited:?}");
    let cancelled = bed.store.cancel_open(config.id, 10, &by(), at(1)).await.expect("cancel_open");
    assert_eq!(cancelled, Cancelled { cancelled: 1, left: 0 });
}

/// What ends at once comes before what runs, whatever is left of the limit.
pub(super) async fn cancel_open_takes_what_runs_last(bed: &Bed) {
    let config = bed.config_of(ConfigSpec { span: 1, ..spec("close-order") }).await;
    let tasks = bed.one_in_each_state(&config).await;
    for status in [Status::Scheduled, Status::Paused, Status::Awaiting, Status::Queued, Status::Executing] {
        bed.store.cancel_open(config.id, 1, &by(), at(1)).await.expect("cancel_open");
        let task = tasks.iter().find(|task| task.status == status).expect("one in each state");
        let stored = bed.stored(task.id).await;
        assert!(!stored.is_open() || stored.cancel_requested, "{status:?} is next");
        let log = bed.store.audit_log(1).await.expect("audit_log");
        assert_eq!((log[0].action.as_str(), &log[0].subject), ("task.cancel", &task.id.to_string()));
    }
}

/// Who did what to which task and when; a refused wish is no deed.
pub(super) async fn deeds_are_in_the_audit_log(bed: &Bed) {
    let config = bed.config("close-order").await;
    let task = bed.scheduled(&config).await;
    bed.changed(task.id, Wish::Pause, T0).await;
    bed.changed(task.id, Wish::Postpone { execute_at: at(300) }, at(1)).await;
    bed.changed(task.id, Wish::Cancel, at(2)).await;
    let before = bed.store.audit_log(100).await.expect("audit_log");
    let brief = |entry: &AuditEntry| (entry.action.clone(), entry.detail.clone(), entry.at);
    let deeds: Vec<_> = before.iter().take(3).map(brief).collect();
    let expected = [
        ("cancel", String::new(), at(2)),
        ("postpone", format!("to {}", at(300)), at(1)),
        ("pause", String::new(), T0),
    ];
    let expected = expected.map(|(name, detail, at)| (format!("task.{name}"), detail, at));
    assert_eq!(deeds, expected, "newest first");
    for entry in before.iter().take(3) {
        assert_eq!((&entry.actor, &entry.subject), (&by().0, &task.id.to_string()));
    }
    bed.change(task.id, Wish::Cancel, at(3)).await;
    assert_eq!(bed.store.audit_log(100).await.expect("audit_log"), before, "it had ended already");
    assert_eq!(bed.store.audit_log(1).await.expect("audit_log").len(), 1);
    assert_eq!(plain(&bed.stored(task.id).await).status, Status::Ended);
}
