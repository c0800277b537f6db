//! Replay: an ended task again, with its id, its history and its key.

use tsp_core::config::{ConfigSpec, OnDuplicateKey};
use tsp_core::outcome::Verdict;
use tsp_core::task::{EndResult, Status};
use tsp_core::task_key::key_shard;
use tsp_store::catalog::{ConfigSaved, ExpectedVersion, Hold};
use tsp_store::fetching::EarliestDue;
use tsp_store::tasks::{CommandResult, SubmitOutcome, TaskCommand};

use super::fixture::{Fixture, T0, at, by, spec};

/// The row moves back from history; attempt numbers go on.
pub(super) async fn a_replayed_task_runs_again_under_its_id(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let ended = fixture.ended(&config).await;
    let open = fixture.changed(ended.id, TaskCommand::Replay, at(9)).await;
    assert_eq!((open.id, open.status, open.due_at), (ended.id, Status::Scheduled, at(9)));
    assert_eq!((open.result, open.ended_at, open.attempt), (None, None, 1));
    assert_eq!((&open.payload, open.created_at), (&ended.payload, ended.created_at));
    fixture.check_stored(&open).await;
    assert_eq!(
        fixture.store.earliest_due().await.expect("earliest_due"),
        [EarliestDue { config: config.id, due_at: at(9) }]
    );
    fixture.check_sums().await;
    let begun = fixture.begin(&fixture.claim(&open, at(9)).await, at(9)).await;
    assert_eq!(begun.attempt, 2);
    let again = fixture.finish(&begun, Verdict::fail("x"), at(10)).await;
    assert_eq!(again.result, Some(EndResult::Failed));
    fixture.check_stored(&again).await;
}

/// Cancelled, expired, failed: each can be replayed, and its key finds it again.
pub(super) async fn a_replayed_task_takes_its_key_back(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let task = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    fixture.changed(task.id, TaskCommand::Cancel, T0).await;
    let open = fixture.changed(task.id, TaskCommand::Replay, at(1)).await;
    assert_eq!(open.key_slot, 0, "it is the canonical one again");
    let answer =
        fixture.submit(fixture.new_task(&config, Some("order-42"), T0), OnDuplicateKey::Ignore).await;
    assert!(matches!(answer, SubmitOutcome::Existing(ref task) if task.id == open.id), "{answer:?}");
}

/// While another open task holds the key it is refused, and nothing changes.
pub(super) async fn a_key_in_use_refuses_a_replay(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    let ended = fixture.changed(first.id, TaskCommand::Cancel, T0).await;
    let second = fixture.create(fixture.new_task(&config, Some("order-42"), at(60))).await;
    let answer = fixture.change(first.id, TaskCommand::Replay, at(1)).await;
    assert_eq!(answer, CommandResult::KeyInUse { holder: second.id });
    fixture.check_stored(&ended).await;
    fixture.check_stored(&second).await;
    fixture.changed(second.id, TaskCommand::Cancel, at(1)).await;
    fixture.changed(first.id, TaskCommand::Replay, at(1)).await;
}

/// One that was added beside the canonical one stands beside it again.
pub(super) async fn an_added_task_is_replayed_beside(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let first = fixture.create(fixture.new_task(&config, Some("order-42"), T0)).await;
    let SubmitOutcome::Created(second) =
        fixture.submit(fixture.new_task(&config, Some("order-42"), T0), OnDuplicateKey::Add).await
    else {
        panic!("`add` always creates");
    };
    fixture.changed(second.id, TaskCommand::Cancel, T0).await;
    let open = fixture.changed(second.id, TaskCommand::Replay, at(1)).await;
    assert_eq!(open.key_slot, second.id.get());
    fixture.check_stored(&first).await;
}

/// A task whose shard is no longer its key's home is replayed beside (DESIGN.md section 5.4).
pub(super) async fn a_task_away_from_home_is_replayed_beside(fixture: &Fixture) {
    let narrow = ConfigSpec { span: 1, ..spec("close-order") };
    let config = fixture.config_of(narrow).await;
    let home = |key: &str, span| key_shard(config.id, key, span, fixture.store.shards());
    let key = (0..1_000).map(|n| format!("order-{n}")).find(|key| home(key, 1) != home(key, 0));
    let key = key.expect("keys are spread");
    let task = fixture.create(fixture.new_task(&config, Some(&key), T0)).await;
    fixture.changed(task.id, TaskCommand::Cancel, T0).await;
    let wide = ConfigSpec { span: 0, ..spec("close-order") };
    let ConfigSaved::Updated(config) = fixture.save_config(wide, ExpectedVersion::Any, T0).await else {
        panic!("nothing is open")
    };
    let open = fixture.changed(task.id, TaskCommand::Replay, at(1)).await;
    assert_eq!(open.key_slot, open.id.get(), "it is not canonical");
    fixture.check_stored(&open).await;
    let fresh = fixture.create(fixture.new_task(&config, Some(&key), T0)).await;
    assert_eq!(fresh.key_slot, 0, "the key is free");
}

/// A disabled config takes no tasks, new ones or old ones.
pub(super) async fn a_disabled_config_takes_no_replay(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let ended = fixture.ended(&config).await;
    fixture.hold(config.id, Hold::Disable).await;
    assert_eq!(fixture.change(ended.id, TaskCommand::Replay, at(1)).await, CommandResult::ConfigDisabled);
    fixture.check_stored(&ended).await;
    fixture.hold(config.id, Hold::Enable).await;
    fixture.changed(ended.id, TaskCommand::Replay, at(1)).await;
}

/// A task of a config that is gone opens no more.
pub(super) async fn a_task_of_a_deleted_config_stays_ended(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    let ended = fixture.ended(&config).await;
    fixture.store.delete_config(config.id, ExpectedVersion::Any, &by(), at(2)).await.expect("delete_config");
    let answer = fixture.change(ended.id, TaskCommand::Replay, at(3)).await;
    assert!(!matches!(answer, CommandResult::Done { .. }), "{answer:?}");
    let audit = fixture.store.audit(at(3)).await.expect("audit");
    assert_eq!(audit.open.iter().map(|(_, count)| count).sum::<i64>(), 0, "{audit:?}");
}
