//! Several statements in one text.

use tsp_store::error::{Cause, Result, StoreError};

use crate::connection::db::{Db, ShardDb};
use crate::connection::session::{Answer, Session, Statement, query};
use crate::tests::fixture::{Process, id, shard, spec};
use crate::tests::site::{connect, sql};

const MARK: &str = "-- test_mark\nUPDATE task_{shard} SET epoch = ? WHERE id IN ({list})";
const MISSING: &str = "-- test_missing\nUPDATE missing_{shard} SET epoch = ?";
const END_OF_US: &str = "-- test_end\nKILL CONNECTION_ID()";

/// Two shards of one data source with tasks on them, and how many are marked.
struct Two {
    process: Process,
    shards: [ShardDb; 2],
}

impl Two {
    async fn start() -> Self {
        let process = Process::first().await;
        let app = process.app().await;
        let config = process.config(app, spec("plain")).await;
        for (shard, count) in [(0, 2), (1, 3)] {
            for number in 0..count {
                process.submit(&config, shard, number).await;
            }
        }
        let shards = [0, 1].map(|number| process.store.context.shard(shard(number)).unwrap());
        Self { process, shards }
    }

    fn db(&self) -> &Db {
        &self.shards[0].db
    }

    /// On both shards: of the first all tasks, of the second one that is not there, too.
    fn marks(&self) -> Vec<Statement<'static>> {
        let mark = |at: u16, count: i64| {
            let mark = query(&self.shards[usize::from(at)].sql(MARK)).bind(7);
            (0..count).fold(mark, |mark, number| mark.bind(id(at, number).get()))
        };
        vec![mark(0, 2), mark(1, 4)]
    }

    async fn marked(&self) -> usize {
        let mut conn = connect(self.process.databases.source_of(0)).await;
        let text =
            "SELECT id FROM task_000 WHERE epoch = 7 UNION ALL SELECT id FROM task_001 WHERE epoch = 7";
        sql(&mut conn, text).await.len()
    }
}

fn counts(answers: Result<Vec<Answer>>) -> Vec<u64> {
    answers.unwrap().iter().map(|answer| answer.matched).collect()
}

#[tokio::test]
async fn a_transaction_of_several_shards_is_one_text_with_a_count_for_each() {
    let two = Two::start().await;
    let mut session = two.db().conn().await.unwrap();
    session.begin().unwrap();
    assert_eq!(counts(session.ask_all("test_both", &two.marks()).await), [2, 3]);
    assert_eq!(two.marked().await, 0, "it is open");
    session.rollback().await.unwrap();
    assert_eq!(two.marked().await, 0);
    session.begin().unwrap();
    session.commit_with("test_both", &two.marks()).await.unwrap();
    assert_eq!(two.marked().await, 5);
}

#[tokio::test]
async fn a_statement_that_fails_is_the_last_and_nothing_is_kept() {
    let two = Two::start().await;
    let mut statements = two.marks();
    statements.insert(1, query(&two.shards[0].sql(MISSING)).bind(7));
    for whole in [false, true] {
        let mut session = two.db().conn().await.unwrap();
        session.begin().unwrap();
        let failed = if whole {
            session.commit_with("test_both", &statements).await
        } else {
            session.ask_all("test_both", &statements).await.map(|_| ())
        };
        assert!(failed.as_ref().err().is_some_and(|error| error.is(Cause::NoTable)), "{:?}", failed.err());
        drop(session);
        assert_eq!(two.marked().await, 0);
    }
    let mut session = two.db().conn().await.unwrap();
    session.begin().unwrap();
    assert!(session.commit_with("test_both", &statements).await.is_err());
    session.rollback().await.unwrap();
    session.begin().unwrap();
    session.commit_with("test_both", &two.marks()).await.unwrap();
    assert_eq!(two.marked().await, 5);
}

#[tokio::test]
async fn whether_a_broken_one_was_committed_is_not_known() {
    let two = Two::start().await;
    let mut statements = two.marks();
    statements.push(query(&two.shards[0].sql(END_OF_US)));
    let mut session = two.db().conn().await.unwrap();
    session.begin().unwrap();
    let broken = session.commit_with("test_both", &statements).await;
    assert!(matches!(broken, Err(StoreError::Unknown(_))), "{broken:?}");
}

/// A begin costs nothing: the first statement takes it along, and a transaction without one never was.
#[tokio::test]
async fn a_begin_goes_with_the_first_statement() {
    let two = Two::start().await;
    let mut session = two.db().conn().await.unwrap();
    let asked = async |session: &mut Session| {
        let text = "SHOW SESSION STATUS LIKE 'Questions'";
        let row = sqlx::raw_sql(text).fetch_one(session.raw().unwrap()).await.unwrap();
        sqlx::Row::get::<String, _>(&row, 1).parse::<u64>().unwrap()
    };
    let before = asked(&mut session).await;
    session.begin().unwrap();
    session.rollback().await.unwrap();
    session.begin().unwrap();
    session.commit().await.unwrap();
    assert_eq!(asked(&mut session).await - before, 1, "only the question itself");
    session.begin().unwrap();
    let [mark, _] = two.marks().try_into().unwrap_or_else(|_| panic!("two marks"));
    assert_eq!(mark.execute(&mut session).await.unwrap(), 2);
    assert_eq!(two.marked().await, 0, "it is open");
    session.commit().await.unwrap();
    assert_eq!(two.marked().await, 2);
}

/// What has not been answered at all is asked once more on another connection.
#[tokio::test]
async fn a_connection_that_died_idle_is_replaced() {
    let two = Two::start().await;
    let on = &two.shards[0];
    let pool = two.db().conn().await.unwrap();
    drop(pool);
    let mut conn = connect(two.process.databases.source_of(0)).await;
    let others =
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()";
    for row in sql(&mut conn, others).await {
        let id: i64 = sqlx::Row::get(&row, 0);
        sql(&mut conn, &format!("KILL {id}")).await;
    }
    let marked = on.transact("test_mark", |tx| {
        Box::pin(async move { query(&on.sql(MARK)).bind(7).bind(id(0, 0).get()).execute(tx.conn()).await })
    });
    assert_eq!(marked.await.unwrap(), 1);
}
