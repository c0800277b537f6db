//! Which task a key finds (DESIGN.md section 5.4).

use tsp_core::config::{OnDuplicateKey, TaskConfig};
use tsp_store::tasks::{SubmitOutcome, TaskCommand};

use super::fixture::{Fixture, T0, at, key};

async fn found(fixture: &Fixture, config: &TaskConfig, text: &str) -> Option<tsp_core::TaskId> {
    fixture.store.task_by_key(config.id, &key(text)).await.expect("task_by_key").map(|task| task.id)
}

/// The open one, then the latest ended one, then the next open one.
pub(super) async fn the_open_task_else_the_latest_ended(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    assert_eq!(found(fixture, &config, "order-42").await, None);
    let mut last = None;
    for round in 1..=3 {
        let task = fixture.create(fixture.new_task(&config, Some("order-42"), at(round))).await;
        assert_eq!(found(fixture, &config, "order-42").await, Some(task.id), "the open one");
        fixture.changed(task.id, TaskCommand::Cancel, at(round)).await;
        assert_eq!(found(fixture, &config, "order-42").await, Some(task.id), "the one that ended last");
        last = Some(task.id);
    }
    assert_eq!(found(fixture, &config, "order-42").await, last);
}

/// The latest by its end, not by its birth.
pub(super) async fn the_latest_ended_is_the_one_that_ended_last(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    fixture.changed(first.id, TaskCommand::Cancel, at(1)).await;
    let second = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    fixture.changed(second.id, TaskCommand::Cancel, at(2)).await;
    fixture.changed(first.id, TaskCommand::Replay, at(3)).await;
    fixture.changed(first.id, TaskCommand::Cancel, at(4)).await;
    assert_eq!(found(fixture, &config, "order-42").await, Some(first.id));
}

/// An added task is not meant by the key while it is open: it goes by its id.
pub(super) async fn an_open_added_task_is_not_the_keys(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    let SubmitOutcome::Created(second) =
        fixture.submit(fixture.new_task(&config, Some("order-42"), T0), OnDuplicateKey::Add).await
    else {
        panic!("`add` always creates");
    };
    assert_eq!(found(fixture, &config, "order-42").await, Some(first.id));
    fixture.changed(first.id, TaskCommand::Cancel, at(1)).await;
    assert_eq!(
        found(fixture, &config, "order-42").await,
        Some(first.id),
        "ended, but {} is not meant",
        second.id
    );
}

/// A key is of its config alone.
pub(super) async fn configs_share_no_keys(fixture: &Fixture) {
    let one = fixture.config("one").await;
    let two = fixture.config("two").await;
    let first = fixture.create(fixture.new_task(&one, Some("order-42"), T0)).await;
    assert_eq!(found(fixture, &two, "order-42").await, None);
    let second = fixture.create(fixture.new_task(&two, Some("order-42"), T0)).await;
    assert_eq!(found(fixture, &one, "order-42").await, Some(first.id));
    assert_eq!(found(fixture, &two, "order-42").await, Some(second.id));
}
