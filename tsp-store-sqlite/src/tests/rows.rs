//! Each column is read as it was written; a bad row stops none of its neighbours.

use rusqlite::Connection;
use tsp_core::NodeId;
use tsp_core::task::Status;
use tsp_store::attempts::{AttemptStore as _, BeginRequest, BeginResult, all};
use tsp_store::error::StoreError;
use tsp_store::fetching::{ClaimRequest, ClaimResult, EmbeddedOwnership as _, FetcherStore as _};
use tsp_store::tasks::TaskStore as _;
use tsp_store_testing::samples;

use super::*;
use crate::connection::command::Command;
use crate::connection::session::Session;

#[tokio::test]
async fn each_column_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let task = samples::open(new_task(1, make_config(&store, "a").await.id, Some("k")));
    let insert = task.clone();
    let inserted = store.write(Command::Check, 1, move |tx| tx.rows.insert_task(&insert, &mut tx.sums));
    assert!(inserted.await.unwrap());
    assert_eq!(store.task(task.id).await.unwrap().as_ref(), Some(&task));
    let end = samples::end(&task);
    let (version, change) = (task.version, end.clone());
    let saved = store.write(Command::Check, 1, move |tx| tx.rows.save(version, change, &mut tx.sums));
    assert!(saved.await.unwrap().is_some());
    assert_eq!(store.task(task.id).await.unwrap(), Some(end.task));
    assert_eq!(store.attempts(task.id).await.unwrap(), end.closed.as_slice());
}

/// Its tables let any type in, as a file does that was damaged or changed by hand.
struct Fixture {
    _dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    config: ConfigId,
    node: NodeId,
}

impl Fixture {
    async fn new(tasks: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let config = make_config(&store, "a").await.id;
        for id in 1..=tasks {
            store.submit(vec![submit(new_task(id, config, None))], NOW).await.unwrap();
        }
        let node = store.register_node("n", NOW).await.unwrap();
        store.close().await;
        drop(store);
        let conn = Connection::open(dir.path().join("tsp.db")).unwrap();
        conn.execute_batch(
            "PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'task'; \
             PRAGMA writable_schema = RESET;",
        )
        .unwrap();
        drop(conn);
        let store = open(dir.path());
        Self { _dir: dir, store, config, node }
    }

    async fn edit(&self, sql: &'static str) {
        let edit = self.store.write(Command::Check, 1, move |tx| tx.conn.prepare(sql)?.execute([]));
        assert_eq!(edit.await.unwrap(), 1, "{sql}");
    }

    async fn claim(&self) -> ClaimResult {
        let owner = self.store.take_shards(self.node, NOW).await.unwrap();
        let request = ClaimRequest { config: self.config, due_by: NOW, limit: 100 };
        self.store.claim(owner, vec![request], NOW).await.unwrap()
    }

    async fn status(&self, id: i64) -> i64 {
        let sql = "SELECT status FROM task WHERE id = ?";
        let read = move |conn: Session<'_>| conn.prepare(sql)?.one([id], |row| row.get(0));
        self.store.read(Command::Check, read).await.unwrap()
    }
}

#[tokio::test]
async fn a_claim_quarantines_a_row_whatever_is_wrong_with_it() {
    let fixture = Fixture::new(9).await;
    fixture.edit("UPDATE task SET attempt = 'many' WHERE id = 2").await;
    fixture.edit("UPDATE task SET last_kind = 2, last_attempt = 1, last_at = 1 WHERE id = 3").await;
    fixture.edit("UPDATE task SET payload = 'text' WHERE id = 4").await;
    fixture.edit("UPDATE task SET version = 1.5 WHERE id = 5").await;
    fixture.edit("UPDATE task SET charged = -1 WHERE id = 6").await;
    fixture.edit("UPDATE task SET extra = x'00' WHERE id = 7").await;
    fixture.edit("UPDATE task SET status = 30 WHERE id = 8").await;
    let claimed: Vec<i64> = fixture.claim().await.tasks.iter().map(|task| task.id.get()).collect();
    assert_eq!(claimed, [1, 9]);
    for id in 2..=8 {
        assert_eq!(fixture.status(id).await, i64::from(Status::Paused.code()), "{id}");
    }
    match fixture.store.task(TaskId::new(2)).await {
        Err(StoreError::Corrupt { table: "task", column: "attempt", id: 2, .. }) => {}
        other => panic!("the row is bad: {other:?}"),
    }
}

#[tokio::test]
async fn a_bad_row_in_flight_does_not_hide_the_others() {
    let fixture = Fixture::new(4).await;
    let claimed = fixture.claim().await.tasks;
    let begin = |task: &Task| BeginRequest { id: task.id, version: task.version, row: None, token: None };
    let begins = claimed[2..].iter().map(|task| begin(task)).collect();
    for begun in all(fixture.store.begin(fixture.node, begins, NOW).await).unwrap() {
        assert!(matches!(begun, BeginResult::Run(_)), "{begun:?}");
    }
    fixture.edit("UPDATE task SET attempt = -1 WHERE id = 1").await;
    fixture.edit("UPDATE task SET attempt = 'many' WHERE id = 4").await;
    for limit in [1, 2, 9] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = fixture.store.in_flight(after, limit).await.unwrap();
            found.extend(page.rows.iter().map(|row| row.id.get()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [2, 3], "{limit} at once");
    }
    let executing = fixture.store.executing(fixture.node, 0).await.unwrap();
    assert_eq!(executing, [(TaskId::new(3), 1)]);
}
