//! What happens in one shard stays there.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tsp_core::config::ConfigSpec;
use tsp_core::task::Task;
use tsp_core::{Millis, TaskId, Verdict};
use tsp_store::attempts::{AttemptStore as _, BeginResult, Finish, FinishResult, WorkError, all};
use tsp_store::catalog::{Catalog as _, ConfigSaved, ExpectedVersion, SaveConfig};
use tsp_store::cluster::NodeLease;
use tsp_store::error::StoreError;
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::Actor;

use crate::MySqlAttemptStore;
use crate::connection::session::{Session, query};
use crate::tests::fixture::{HOUR, NOW, Process, message, spec};
use crate::tests::site::{connect, sql};

/// Two tasks in each of two shards of one data source, claimed.
async fn claimed(process: &Process) -> (MySqlAttemptStore, Vec<Box<Task>>) {
    let app = process.app().await;
    let config = process.config(app, spec("plain")).await;
    let mut rows = Vec::new();
    for shard in [0, 1] {
        for number in 1..=2 {
            process.submit(&config, shard, number).await;
        }
        let owner = process.take("default", shard, HOUR).await;
        rows.extend(process.claim(owner, &config, shard).await);
    }
    (process.attempt_store(NodeLease::for_ever()), rows)
}

fn finish(row: Box<Task>) -> Finish {
    Finish {
        id: row.id,
        attempt: row.attempt,
        verdict: Verdict::done(),
        ended_at: None,
        jitter_fraction: 0.5,
        row: Some(row),
    }
}

fn is_unavailable<T>(answer: &Result<T, WorkError>) -> bool {
    matches!(answer, Err(WorkError::Unavailable(_)))
}

#[tokio::test]
async fn a_shard_that_is_not_there_fails_its_own_elements_alone() {
    let process = Process::first().await;
    let (attempt_store, rows) = claimed(&process).await;
    let ids: Vec<TaskId> = rows.iter().map(|row| row.id).collect();
    let mut conn = connect(process.databases.source_of(1)).await;
    let away = "RENAME TABLE task_001 TO moved_task_001";
    let back = "RENAME TABLE moved_task_001 TO task_001";

    sql(&mut conn, away).await;
    let loaded = attempt_store.load(&ids).await;
    assert!(loaded[..2].iter().all(|row| matches!(row, Ok(Some(_)))), "{loaded:?}");
    assert!(loaded[2..].iter().all(is_unavailable), "{loaded:?}");
    let batch: Vec<_> = rows.iter().map(|row| message(row)).collect();
    let begun = attempt_store.begin(process.node, batch.clone(), NOW).await;
    assert!(begun[2..].iter().all(is_unavailable), "{begun:?}");
    sql(&mut conn, back).await;

    let mut running = Vec::new();
    for answer in
        begun.into_iter().take(2).chain(attempt_store.begin(process.node, batch[2..].to_vec(), NOW).await)
    {
        match answer.expect("it is back") {
            BeginResult::Run(row) => running.push(row),
            other => panic!("{other:?}"),
        }
    }
    sql(&mut conn, away).await;
    let outcomes: Vec<_> = running.into_iter().map(finish).collect();
    let finished = attempt_store.finish(process.node, outcomes.clone(), NOW).await;
    assert!(finished[..2].iter().all(|saved| matches!(saved, Ok(FinishResult::Saved(_)))), "{finished:?}");
    assert!(finished[2..].iter().all(is_unavailable), "{finished:?}");
    assert_eq!(attempt_store.executing(process.node, 0).await.expect("it is there"), []);
    assert!(is_unavailable(&attempt_store.executing(process.node, 1).await));
    sql(&mut conn, back).await;
    assert_eq!(attempt_store.executing(process.node, 1).await.expect("it is back").len(), 2);
    all(attempt_store.finish(process.node, outcomes[2..].to_vec(), NOW).await).expect("it is back");
}

/// However many calls wait for a table of one shard, the others of its data source have connections.
#[tokio::test]
async fn a_shard_that_is_locked_leaves_connections_to_the_others() {
    let process = Process::first().await;
    let (attempt_store, rows) = claimed(&process).await;
    let (free, locked): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.id.shard().get() == 0);
    let mut conn = connect(process.databases.source_of(1)).await;
    sql(&mut conn, "LOCK TABLES task_001 WRITE").await;
    let wait = locked.iter().cycle().take(40).map(|row| {
        let (attempt_store, id) = (attempt_store.clone(), row.id);
        async move { attempt_store.load(&[id]).await }
    });
    let others = async {
        for _ in 0..100 {
            // Those that wait have taken what they get.
            tokio::task::yield_now().await;
        }
        for row in &free {
            let load = timeout(Duration::from_secs(20), attempt_store.load(&[row.id])).await;
            assert!(all(load.expect("it waits for nobody")).is_ok());
        }
        sql(&mut conn, "UNLOCK TABLES").await;
    };
    let (loaded, ()) = tokio::join!(join_all(wait), others);
    assert!(loaded.into_iter().all(|row| all(row).is_ok()));
}

/// The open tasks of a config whose span changes are counted before the catalog is locked.
#[tokio::test]
async fn a_change_that_waits_for_a_shard_holds_up_no_other() {
    let process = Process::first().await;
    let app = process.app().await;
    process.config(app, spec("wide")).await;
    let database = process.databases.source_of(1);
    let mut conn = connect(database).await;
    sql(&mut conn, "LOCK TABLES task_001 WRITE").await;
    let narrow = ConfigSpec { span: 1, ..spec("wide") };
    let save = SaveConfig { app, spec: narrow, expected: ExpectedVersion::Any };
    let by = Actor::system();
    let saving = process.store.save_config(save, None, &by, NOW);
    let others = async {
        let mut look = connect(database).await;
        let waits = format!(
            "SELECT 1 FROM information_schema.PROCESSLIST \
             WHERE DB = '{database}' AND STATE = 'Waiting for table metadata lock'"
        );
        let counted = async { while sql(&mut look, &waits).await.is_empty() {} };
        timeout(Duration::from_secs(20), counted).await.expect("its tasks are counted");
        let saved = timeout(Duration::from_secs(20), process.config(app, spec("other"))).await;
        sql(&mut conn, "UNLOCK TABLES").await;
        saved.expect("it waits for nobody");
    };
    let (saved, ()) = tokio::join!(saving, others);
    assert!(matches!(saved, Ok(IdempotencyResult::Fresh(ConfigSaved::Updated(_)))), "{saved:?}");
}

/// `BEGIN` commits what is open.
#[tokio::test]
async fn nothing_begins_on_a_connection_whose_rollback_failed() {
    let process = Process::first().await;
    let shard = process.store.context.shard_of(crate::tests::fixture::id(0, 1)).expect("shard 0");
    let mut session: Session = shard.conn().await.expect("it is there");
    session.begin().expect("it is there");
    let me = query(&shard.sql("-- test_me\nSELECT CAST(CONNECTION_ID() AS SIGNED)"));
    let own: i64 = me.fetch_one(&mut session).await.expect("it is open").get(0).expect("an id");
    let mut conn = connect(process.databases.source_of(0)).await;
    sql(&mut conn, &format!("KILL {own}")).await;
    assert!(matches!(session.rollback().await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(session.begin(), Err(StoreError::Unavailable { .. })), "it is thrown away");
    drop(session);

    let mut session = shard.conn().await.expect("another one");
    session.begin().expect("it is good");
    assert!(session.begin().is_err(), "not before the first is over");
    session.rollback().await.expect("it is good");
    session.begin().expect("now it is");
    session.abandon().await;
}

/// Each outcome's text is bounded before it comes to a store; a store's own bound is far above it.
#[tokio::test]
async fn a_long_reason_is_saved_in_part() {
    let process = Process::first().await;
    let (attempt_store, rows) = claimed(&process).await;
    let batch = rows.iter().map(|row| message(row)).collect();
    let mut outcomes = Vec::new();
    for begun in all(attempt_store.begin(process.node, batch, NOW).await).expect("all is well") {
        let BeginResult::Run(row) = begun else { panic!("{begun:?}") };
        outcomes.push(Finish { verdict: Verdict::retry("x".repeat(70_000)), ..finish(row) });
    }
    let later = NOW.plus(Millis::from_ms(1));
    for saved in all(attempt_store.finish(process.node, outcomes, later).await).expect("all is well") {
        let FinishResult::Saved(row) = saved else { panic!("{saved:?}") };
        assert_eq!(row.last_outcome.expect("an outcome").reason.len(), 1_024);
    }
}
