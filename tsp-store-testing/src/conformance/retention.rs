//! What is dropped, when, and what is not.

use tsp_core::config::OnDuplicateKey;
use tsp_core::{Millis, Timestamp};
use tsp_store::catalog::{AUDIT_KEPT, ExpectedVersion};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};
use tsp_store::tasks::{Submit, SubmitOutcome, TaskCommand};

use super::fire::{fired, step};
use super::fixture::{Fixture, T0, at, by, cron_spec, spec};

const HOUR: Millis = Millis::from_hours(1);

async fn apply_retention(fixture: &Fixture, limit: usize, now: Timestamp) -> usize {
    let removed = fixture.store.apply_retention(limit, now).await.expect("prune");
    assert!(removed <= limit, "at most {limit} rows, not {removed}");
    fixture.check_sums().await;
    removed
}

/// Calls it until nothing is left.
async fn apply_all_retention(fixture: &Fixture, now: Timestamp) {
    for _ in 0..1_000 {
        if apply_retention(fixture, 100, now).await == 0 {
            return;
        }
    }
    panic!("`prune` must come to an end");
}

/// Each by its own config's retention, counted from its end.
pub(super) async fn ended_tasks_go_after_their_retention(fixture: &Fixture) {
    let mut short = spec("short");
    short.retention = HOUR;
    let short = fixture.config_of(short).await;
    let long = fixture.config("long").await;
    let gone = fixture.ended(&short).await;
    let kept = fixture.ended(&long).await;
    let ended_at = gone.ended_at.expect("it has ended");
    let early = ended_at.plus(HOUR).minus(Millis::from_ms(1));
    assert_eq!(apply_retention(fixture, 100, early).await, 0, "not a moment before");
    fixture.check_stored(&gone).await;
    apply_all_retention(fixture, ended_at.plus(HOUR)).await;
    assert_eq!(fixture.store.task(gone.id).await.expect("task"), None);
    assert!(fixture.store.attempts(gone.id).await.expect("attempts").is_empty(), "its attempts go with it");
    fixture.check_stored(&kept).await;
    assert_eq!(fixture.store.attempts(kept.id).await.expect("attempts").len(), 1);
}

/// However old, an open task stays with all its attempts.
pub(super) async fn open_tasks_never_go(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let running = fixture.executing(&config).await;
    let retried = fixture.finish(&running, tsp_core::Verdict::retry("x"), T0).await;
    let mut tasks = fixture.one_in_each_state(&config).await;
    tasks.push(retried);
    apply_all_retention(fixture, T0.plus(Millis::from_days(10_000))).await;
    for task in tasks.iter().filter(|task| task.is_open()) {
        fixture.check_stored(task).await;
    }
    assert_eq!(fixture.store.attempts(running.id).await.expect("attempts").len(), 1);
}

/// Bounded: a big history goes bit by bit.
pub(super) async fn a_call_drops_at_most_its_limit(fixture: &Fixture) {
    let mut short = spec("short");
    short.retention = HOUR;
    let config = fixture.config_of(short).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(fixture.ended(&config).await.id);
    }
    let late = at(1).plus(HOUR);
    let mut left = ids.len();
    for _ in 0..100 {
        let removed = apply_retention(fixture, 3, late).await;
        let mut found = 0;
        for id in &ids {
            found += usize::from(fixture.store.task(*id).await.expect("task").is_some());
        }
        assert!(left - found <= 3, "{} tasks went at once", left - found);
        left = found;
        if removed == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "in the end all are gone");
}

/// A replay starts the clock again.
pub(super) async fn a_replayed_task_is_kept_from_its_last_end(fixture: &Fixture) {
    let mut short = spec("short");
    short.retention = HOUR;
    let config = fixture.config_of(short).await;
    let task = fixture.ended(&config).await;
    fixture.changed(task.id, TaskCommand::Replay, at(1_800)).await;
    fixture.changed(task.id, TaskCommand::Cancel, at(1_800)).await;
    apply_all_retention(fixture, at(3_700)).await;
    assert!(fixture.store.task(task.id).await.expect("task").is_some(), "it ended half an hour later");
    apply_all_retention(fixture, at(5_400)).await;
    assert!(fixture.store.task(task.id).await.expect("task").is_none());
}

/// Nobody wants to keep what a deleted config left behind; others are not touched.
pub(super) async fn the_history_of_a_deleted_config_goes(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let other = fixture.config("other").await;
    let gone = fixture.ended(&config).await;
    let kept = fixture.ended(&other).await;
    fixture.store.delete_config(config.id, ExpectedVersion::Any, &by(), at(1)).await.expect("delete_config");
    apply_all_retention(fixture, at(2)).await;
    assert_eq!(fixture.store.task(gone.id).await.expect("task"), None);
    fixture.check_stored(&kept).await;
}

/// So do its occurrences: no config ever has its id again.
pub(super) async fn the_occurrences_of_a_deleted_config_go(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let (_, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10)])).await;
    fixture.changed(made[0].id, TaskCommand::Cancel, T0).await;
    fixture.store.delete_config(config.id, ExpectedVersion::Any, &by(), at(1)).await.expect("delete_config");
    let mut dropped = 0;
    loop {
        match apply_retention(fixture, 100, at(2)).await {
            0 => break,
            some => dropped += some,
        }
    }
    assert_eq!(dropped, 2, "a task and its occurrence");
}

/// After their time; before it a repeat still gets its answer.
pub(super) async fn stored_answers_go_after_their_expiry(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let answer = StoredAnswer { status: 201, body: bytes::Bytes::from_static(b"{}"), location: None };
    let submit = async |now| {
        let rendered = answer.clone();
        let idempotency = IdempotencyRequest {
            hash: [1; 32],
            body_hash: [1; 32],
            expires_at: at(60),
            render: Box::new(move |_: &SubmitOutcome| Some(rendered)),
        };
        let task = fixture.new_task(&config, None, at(9_000));
        let submit = Submit {
            task,
            on_duplicate: OnDuplicateKey::Ignore,
            own_payload: true,
            idempotency: Some(idempotency),
        };
        fixture.store.submit(vec![submit], now).await.expect("submit").remove(0)
    };
    submit(T0).await;
    apply_all_retention(fixture, at(59)).await;
    assert_eq!(submit(at(59)).await, IdempotencyResult::Replayed(answer.clone()));
    assert!(apply_retention(fixture, 100, at(60)).await > 0, "it has expired");
    assert!(matches!(submit(at(59)).await, IdempotencyResult::Fresh(_)), "and is gone");
}

/// Only far below the cursor, or a slot could be made twice.
pub(super) async fn occurrences_at_the_cursor_stay(fixture: &Fixture) {
    let config = fixture.config_of(cron_spec("nightly")).await;
    let cursor = fixture.cursor(config.id).await;
    let (cursor, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10), at(20)])).await;
    for task in made {
        fixture.changed(task.id, TaskCommand::Cancel, T0).await;
    }
    apply_all_retention(fixture, at(30)).await;
    let (_, made, _) = fired(fixture, step(fixture, &config, &cursor, &[at(10), at(20)])).await;
    assert!(made.is_empty(), "they exist: {made:?}");
}

/// From the old end, and no more at a time than is asked for.
pub(super) async fn old_entries_of_the_audit_log_go(fixture: &Fixture) {
    for name in ["a", "b", "c"] {
        fixture.config(name).await;
    }
    let lines = async || fixture.store.audit_log(100).await.expect("audit_log");
    let all = lines().await;
    let newest = all.first().expect("there are some").at;
    let early = all.last().expect("there are some").at.plus(AUDIT_KEPT).minus(Millis::from_ms(1));
    assert_eq!(apply_retention(fixture, 100, early).await, 0, "not a moment before");
    assert_eq!(apply_retention(fixture, 2, newest.plus(AUDIT_KEPT)).await, 2);
    assert_eq!(lines().await, all[..all.len() - 2], "the oldest went");
    apply_all_retention(fixture, newest.plus(AUDIT_KEPT)).await;
    assert_eq!(lines().await, []);
}
