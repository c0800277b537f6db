//! Retention beside everything else that the writer does.

use std::time::Duration;

use tsp_core::Millis;
use tsp_core::task::Status;
use tsp_store::tasks::{CommandResult, Subject, TaskCommand, TaskStore as _};
use tsp_store::{AuditorStore as _, RetentionStore as _};

use super::*;
use crate::connection::command::Command;
use crate::retention::{self, RetentionScan};
use crate::tests::groups::hold;

const LATE: Timestamp = NOW.plus(Millis::from_days(30));

/// Ended tasks of many configs that nobody has in the config cache, as after their deletion.
async fn fill(store: &SqliteStore, configs: i64) {
    store
        .write(Command::Check, 1, move |tx| {
            let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                INSERT INTO history (id, config_id, result, ended_at, version, due_at, execute_at, first_due_at,
                    created_at, attempt, charged, losses, epoch, origin, sharding_id, sharding_count, key_slot)
                SELECT i, 1000 + i, 1, ?2, 5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0 FROM n";
            tx.conn.prepare(fill)?.execute([configs, NOW.ms()])
        })
        .await
        .unwrap();
}

/// With a hundred thousand configs a scan takes a while; the writer is not to stand still for it.
#[tokio::test]
async fn the_look_for_what_is_old_does_not_wait_for_the_writer_nor_hold_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 100_000).await;
    let (go, held) = hold(&store);
    let look = async {
        // The writer is busy until this has ended.
        let found =
            tokio::time::timeout(Duration::from_mins(1), store.apply_retention(1_000, NOW.minus(DAY))).await;
        go.send(()).unwrap();
        found
    };
    let (held, found) = tokio::join!(held, look);
    held.unwrap();
    assert_eq!(found.expect("nothing is old, so nothing is asked of the writer").unwrap(), 0);
}

const DAY: Millis = Millis::from_days(1);

#[tokio::test]
async fn a_look_goes_on_where_the_one_before_had_enough() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 50).await;
    let mut dropped = Vec::new();
    for _ in 0..4 {
        dropped.push(store.apply_retention(20, LATE).await.unwrap());
    }
    assert_eq!(dropped, [20, 20, 10, 0]);
    // What is before the point where it stopped is found, too, before it says that nothing is left.
    fill(&store, 30).await;
    assert_eq!(store.apply_retention(20, LATE).await.unwrap(), 20);
    store
        .write(Command::Check, 1, |tx| tx.conn.prepare("UPDATE history SET config_id = 1")?.execute([]))
        .await
        .unwrap();
    assert_eq!(store.apply_retention(20, LATE).await.unwrap(), 10);
    assert_eq!(store.apply_retention(20, LATE).await.unwrap(), 0);
}

#[tokio::test]
async fn a_task_that_was_replayed_since_it_was_found_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    store.submit(vec![submit(new_task(1, config, None))], NOW).await.unwrap();
    let act = async |command| {
        let subject = Subject::Id(TaskId::new(1));
        let changed = store.change(subject, command, &Actor::system(), NOW).await.unwrap();
        assert!(matches!(changed, CommandResult::Done { .. }), "{changed:?}");
    };
    act(TaskCommand::Cancel).await;
    let config_cache = store.config_cache().clone();
    let found = store.read(Command::RetentionFind, move |conn| {
        retention::find(conn, &config_cache, RetentionScan::default(), 10, LATE)
    });
    let found = found.await.unwrap();
    assert_eq!(found.victims.len(), 1);
    act(TaskCommand::Replay).await;
    act(TaskCommand::Cancel).await;
    act(TaskCommand::Replay).await;
    store
        .write(Command::RetentionDrop, 1, move |tx| retention::drop_victims(tx, &found.victims))
        .await
        .unwrap();
    assert_eq!(store.task(TaskId::new(1)).await.unwrap().map(|task| task.status), Some(Status::Scheduled));
    let audit = store.audit(NOW).await.unwrap();
    assert_eq!(audit.accepted - audit.ended, 1, "{audit:?}");
}
