//! What is dropped, when, and what is not.

use tsp_core::config::OnDuplicateKey;
use tsp_core::{Millis, Timestamp};

use super::bed::{Bed, T0, at, by, cron_spec, spec};
use super::fire::{fired, step};
use crate::catalog::{AUDIT_KEPT, Expected};
use crate::idempotency::{Keep, Kept, StoredAnswer};
use crate::tasks::{Submit, Submitted, Wish};

const HOUR: Millis = Millis::from_hours(1);

async fn prune(bed: &Bed, limit: usize, now: Timestamp) -> usize {
    let pruned = bed.store.prune(limit, now).await.expect("prune");
    assert!(pruned <= limit, "at most {limit} rows, not {pruned}");
    bed.check_sums().await;
    pruned
}

/// Calls it until nothing is left.
async fn prune_all(bed: &Bed, now: Timestamp) {
    for _ in 0..1_000 {
        if prune(bed, 100, now).await == 0 {
            return;
        }
    }
    panic!("`prune` must come to an end");
}

/// Each by its own config's retention, counted from its end.
pub(super) async fn ended_tasks_go_after_their_retention(bed: &Bed) {
    let mut short = spec("short");
    short.retention = HOUR;
    let short = bed.config_of(short).await;
    let long = bed.config("long").await;
    let gone = bed.ended(&short).await;
    let kept = bed.ended(&long).await;
    let ended_at = gone.ended_at.expect("it has ended");
    let early = ended_at.plus(HOUR).minus(Millis::from_ms(1));
    assert_eq!(prune(bed, 100, early).await, 0, "not a moment before");
    bed.check_stored(&gone).await;
    prune_all(bed, ended_at.plus(HOUR)).await;
    assert_eq!(bed.store.task(gone.id).await.expect("task"), None);
    assert!(bed.store.attempts(gone.id).await.expect("attempts").is_empty(), "its attempts go with it");
    bed.check_stored(&kept).await;
    assert_eq!(bed.store.attempts(kept.id).await.expect("attempts").len(), 1);
}

/// However old, an open task stays with all its attempts.
pub(super) async fn open_tasks_never_go(bed: &Bed) {
    let config = bed.config("close-order").await;
    let running = bed.executing(&config).await;
    let retried = bed.finish(&running, tsp_core::Verdict::retry("x"), T0).await;
    let mut tasks = bed.one_in_each_state(&config).await;
    tasks.push(retried);
    prune_all(bed, T0.plus(Millis::from_days(10_000))).await;
    for task in tasks.iter().filter(|task| task.is_open()) {
        bed.check_stored(task).await;
    }
    assert_eq!(bed.store.attempts(running.id).await.expect("attempts").len(), 1);
}

/// Bounded: a big history goes bit by bit.
pub(super) async fn a_call_drops_at_most_its_limit(bed: &Bed) {
    let mut short = spec("short");
    short.retention = HOUR;
    let config = bed.config_of(short).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(bed.ended(&config).await.id);
    }
    let late = at(1).plus(HOUR);
    let mut left = ids.len();
    for _ in 0..100 {
        let pruned = prune(bed, 3, late).await;
        let mut found = 0;
        for id in &ids {
            found += usize::from(bed.store.task(*id).await.expect("task").is_some());
        }
        assert!(left - found <= 3, "{} tasks went at once", left - found);
        left = found;
        if pruned == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "in the end all are gone");
}

/// A replay starts the clock again.
pub(super) async fn a_replayed_task_is_kept_from_its_last_end(bed: &Bed) {
    let mut short = spec("short");
    short.retention = HOUR;
    let config = bed.config_of(short).await;
    let task = bed.ended(&config).await;
    bed.changed(task.id, Wish::Replay, at(1_800)).await;
    bed.changed(task.id, Wish::Cancel, at(1_800)).await;
    prune_all(bed, at(3_700)).await;
    assert!(bed.store.task(task.id).await.expect("task").is_some(), "it ended half an hour later");
    prune_all(bed, at(5_400)).await;
    assert!(bed.store.task(task.id).await.expect("task").is_none());
}

/// Nobody wants to keep what a deleted config left behind; others are not touched.
pub(super) async fn the_history_of_a_deleted_config_goes(bed: &Bed) {
    let config = bed.config("close-order").await;
    let other = bed.config("other").await;
    let gone = bed.ended(&config).await;
    let kept = bed.ended(&other).await;
    bed.store.delete_config(config.id, Expected::Any, &by(), at(1)).await.expect("delete_config");
    prune_all(bed, at(2)).await;
    assert_eq!(bed.store.task(gone.id).await.expect("task"), None);
    bed.check_stored(&kept).await;
}

/// So do its occurrences: no config ever has its id again.
pub(super) async fn the_occurrences_of_a_deleted_config_go(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let (_, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10)])).await;
    bed.changed(made[0].id, Wish::Cancel, T0).await;
    bed.store.delete_config(config.id, Expected::Any, &by(), at(1)).await.expect("delete_config");
    let mut dropped = 0;
    loop {
        match prune(bed, 100, at(2)).await {
            0 => break,
            some => dropped += some,
        }
    }
    assert_eq!(dropped, 2, "a task and its occurrence");
}

/// After their time; before it a repeat still gets its answer.
pub(super) async fn kept_answers_go_after_their_expiry(bed: &Bed) {
    let config = bed.config("close-order").await;
    let answer = StoredAnswer { status: 201, body: bytes::Bytes::from_static(b"{}"), location: None };
    let submit = async |now| {
        let rendered = answer.clone();
        let keep = Keep {
            hash: [1; 32],
            body_hash: [1; 32],
            expires_at: at(60),
            render: Box::new(move |_: &Submitted| Some(rendered)),
        };
        let task = bed.new_task(&config, None, at(9_000));
        let submit =
            Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, keep: Some(keep) };
        bed.store.submit(vec![submit], now).await.expect("submit").remove(0)
    };
    submit(T0).await;
    prune_all(bed, at(59)).await;
    assert_eq!(submit(at(59)).await, Kept::Replayed(answer.clone()));
    assert!(prune(bed, 100, at(60)).await > 0, "it has expired");
    assert!(matches!(submit(at(59)).await, Kept::Fresh(_)), "and is gone");
}

/// Only far below the cursor, or a slot could be made twice.
pub(super) async fn occurrences_at_the_cursor_stay(bed: &Bed) {
    let config = bed.config_of(cron_spec("nightly")).await;
    let cursor = bed.cursor(config.id).await;
    let (cursor, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10), at(20)])).await;
    for task in made {
        bed.changed(task.id, Wish::Cancel, T0).await;
    }
    prune_all(bed, at(30)).await;
    let (_, made, _) = fired(bed, step(bed, &config, &cursor, &[at(10), at(20)])).await;
    assert!(made.is_empty(), "they exist: {made:?}");
}

/// From the old end, and no more at a time than is asked for.
pub(super) async fn old_lines_of_the_audit_log_go(bed: &Bed) {
    for name in ["a", "b", "c"] {
        bed.config(name).await;
    }
    let lines = async || bed.store.audit_log(100).await.expect("audit_log");
    let all = lines().await;
    let newest = all.first().expect("there are some").at;
    let early = all.last().expect("there are some").at.plus(AUDIT_KEPT).minus(Millis::from_ms(1));
    assert_eq!(prune(bed, 100, early).await, 0, "not a moment before");
    assert_eq!(prune(bed, 2, newest.plus(AUDIT_KEPT)).await, 2);
    assert_eq!(lines().await, all[..all.len() - 2], "the oldest went");
    prune_all(bed, newest.plus(AUDIT_KEPT)).await;
    assert_eq!(lines().await, []);
}
