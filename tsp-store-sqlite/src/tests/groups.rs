//! Group commit: order, isolation, and what happens when it fails.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::oneshot;
use tsp_store::error::StoreError;
use tsp_store::tasks::{CommandResult, Subject, SubmitOutcome, TaskCommand, TaskStore as _};
use tsp_store::{AuditorStore as _, Result};

use super::*;
use crate::connection::command::Command;

/// Holds the writer until the sender is used, so that what is sent meanwhile becomes one group.
pub(super) fn hold(store: &Arc<SqliteStore>) -> (oneshot::Sender<()>, impl Future<Output = Result<()>>) {
    let (go, wait) = oneshot::channel();
    let store = store.clone();
    let held = async move {
        store
            .write(Command::Check, 1, move |_| {
                let _ = wait.blocking_recv();
                Ok(())
            })
            .await
    };
    (go, held)
}

async fn create(store: &SqliteStore, task: Task) -> Result<IdempotencyResult<SubmitOutcome>> {
    store.submit(vec![submit(task)], NOW).await.map(|mut answers| answers.remove(0))
}

fn is_created(answer: &Result<IdempotencyResult<SubmitOutcome>>) -> bool {
    matches!(answer, Ok(IdempotencyResult::Fresh(SubmitOutcome::Created(_))))
}

#[tokio::test]
async fn commands_of_a_group_see_those_before_them_and_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    let (go, held) = hold(&store);
    let group = async {
        let calls = async {
            tokio::join!(
                create(&store, new_task(1, config, Some("k"))),
                create(&store, new_task(2, config, Some("k"))),
            )
        };
        // Sent once both wait.
        let release = async { go.send(()).unwrap() };
        tokio::join!(calls, release).0
    };
    let (held, (first, second)) = tokio::join!(held, group);
    held.unwrap();
    assert!(is_created(&first), "{first:?}");
    let Ok(IdempotencyResult::Fresh(SubmitOutcome::Existing(existing))) = second else {
        panic!("{second:?}")
    };
    assert_eq!(existing.id, TaskId::new(1));
}

#[tokio::test]
async fn a_command_that_fails_or_panics_does_not_take_its_neighbours_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    let (go, held) = hold(&store);
    let failing = |panics: bool, id: i64| {
        let store = store.clone();
        async move {
            store
                .write(Command::Submit, 1, move |tx| -> Result<()> {
                    assert!(tx.rows.insert_task(&new_task(id, config, None), &mut tx.sums)?);
                    assert!(!panics, "as ordered");
                    Err(StoreError::Internal("as ordered".to_owned()))
                })
                .await
        }
    };
    let group = async {
        let calls = async {
            tokio::join!(
                create(&store, new_task(1, config, None)),
                failing(false, 2),
                create(&store, new_task(3, config, None)),
                failing(true, 4),
                create(&store, new_task(5, config, None)),
            )
        };
        // Sent once all five wait.
        let release = async { go.send(()).unwrap() };
        tokio::join!(calls, release).0
    };
    let (held, (one, two, three, four, five)) = tokio::join!(held, group);
    held.unwrap();
    assert!(is_created(&one) && is_created(&three) && is_created(&five));
    assert!(matches!(two, Err(StoreError::Internal(_))), "{two:?}");
    assert!(four.unwrap_err().to_string().contains("panicked: as ordered"));
    for (id, stands) in [(1, true), (2, false), (3, true), (4, false), (5, true)] {
        assert_eq!(store.task(TaskId::new(id)).await.unwrap().is_some(), stands, "{id}");
    }
    let audit = store.audit(NOW).await.unwrap();
    assert_eq!((audit.accepted, audit.ended), (3, 0), "what was rolled back is not counted");
    // Alone in its group, without a savepoint.
    assert!(failing(true, 6).await.is_err());
    assert!(store.task(TaskId::new(6)).await.unwrap().is_none());
    assert!(is_created(&create(&store, new_task(7, config, None)).await));
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_works_again_once_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let full = SqliteOptions { pages_max: Some(120), ..options(dir.path()) };
    let store = SqliteStore::open(&full, NOW).unwrap();
    let config = make_config(&store, "a").await.id;
    let mut id = 0;
    let failure = loop {
        id += 1;
        assert!(id < 10_000, "the disk never got full");
        let batch = (0..100).map(|n| submit(new_task((id << 22) + n, config, None))).collect();
        if let Err(failure) = store.submit(batch, NOW).await {
            break failure;
        }
    };
    assert!(matches!(failure, StoreError::Unavailable { .. }), "{failure:?}");
    // A whole group is answered alike.
    let many = (0..20).map(|n| {
        let batch = (0..100).map(|m| submit(new_task(((20_000 + n) << 22) + m, config, None))).collect();
        store.submit(batch, NOW)
    });
    for answer in join_all(many).await {
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    }
    let audit = store.audit(NOW).await.unwrap();
    assert_eq!(audit.accepted, (id - 1) * 100);
    assert_eq!(audit.open.iter().map(|(_, count)| count).sum::<i64>(), audit.accepted);
    // Space again.
    store
        .write(Command::Check, 1, |tx| {
            tx.conn.prepare("PRAGMA max_page_count = 1000000")?.one([], |_| Ok(()))
        })
        .await
        .unwrap();
    assert!(is_created(&create(&store, new_task(90_000 << 22, config, None)).await));
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_waits_when_the_store_closes_is_done_and_what_comes_later_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    let (go, held) = hold(&store);
    let group = async {
        let calls = async { tokio::join!(create(&store, new_task(1, config, None)), store.close()).0 };
        let release = async { go.send(()).unwrap() };
        tokio::join!(calls, release).0
    };
    let (held, created) = tokio::join!(held, group);
    held.unwrap();
    assert!(is_created(&created), "{created:?}");
    let late = create(&store, new_task(2, config, None)).await;
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
    let late = store.task(TaskId::new(1)).await;
    assert!(matches!(late, Err(StoreError::Unavailable { .. })), "{late:?}");
    assert!(!dir.path().join("tsp.db-wal").exists(), "the log is folded into the file");
    drop(store);
    assert!(open(dir.path()).task(TaskId::new(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_config_change_holds_for_the_next_command_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    let by = Actor::system();
    let (go, held) = hold(&store);
    let group = async {
        let calls = async {
            tokio::join!(
                create(&store, new_task(1, config, None)),
                store.hold_config(config, tsp_store::catalog::Hold::Disable, &by, NOW),
                create(&store, new_task(2, config, None)),
            )
        };
        let release = async { go.send(()).unwrap() };
        tokio::join!(calls, release).0
    };
    let (held, (before, disabled, after)) = tokio::join!(held, group);
    held.unwrap();
    disabled.unwrap();
    assert!(is_created(&before));
    assert!(matches!(after, Ok(IdempotencyResult::Fresh(SubmitOutcome::ConfigDisabled))), "{after:?}");
    assert!(!store.config_cache().config(config).unwrap().spec.enabled);
}

#[tokio::test]
async fn the_sums_balance_at_every_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "a").await.id;
    let by = Actor::system();
    let working = async {
        for id in 1..=200 {
            let lonely = create(&store, new_task(id, config, None));
            let batch = (1..5).map(|n| submit(new_task((id << 22) + n, config, None))).collect();
            let (created, batched) = tokio::join!(lonely, store.submit(batch, NOW));
            assert!(is_created(&created));
            batched.unwrap();
            let cancel = store.change(Subject::Id(TaskId::new(id)), TaskCommand::Cancel, &by, NOW);
            assert!(matches!(cancel.await, Ok(CommandResult::Done { .. })));
        }
    };
    let watching = async {
        for _ in 0..200 {
            let audit = store.audit(NOW).await.unwrap();
            let open: i64 = audit.open.iter().map(|(_, count)| count).sum();
            assert_eq!(audit.accepted, open + audit.ended);
        }
    };
    tokio::join!(working, watching);
    let audit = store.audit(NOW).await.unwrap();
    assert_eq!((audit.accepted, audit.ended), (1_000, 200));
}
