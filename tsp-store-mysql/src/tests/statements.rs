//! Prepared statements: few, and none is ever closed, because that stalls the next one for 40 ms
//! (docs/reference/sql.md section 2). What a server does not prepare is sent as text.

use std::sync::Arc;

use peers::{MariaDb, MariaDbOptions};
use sqlx::Connection as _;
use sqlx::Row as _;
use tsp_core::Verdict;
use tsp_core::config::{OnDuplicateKey, TaskConfig};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_store::attempts::{AttemptStore as _, BeginResult, Finish, FinishResult, all};
use tsp_store::cluster::NodeLease;
use tsp_store::tasks::{Submit, TaskStore as _};

use crate::connection::db::Db;
use crate::connection::prepared::HOT;
use crate::connection::session::{Session, query};
use crate::tests::fixture::{HOUR, NOW, Process, id, message, shard, spec};
use crate::tests::site::{Databases, SHARDS, options};
use crate::{MySqlOptions, MySqlStore};

/// Batches of rows, each of several batch size classes.
const BATCHES: [usize; 5] = [1, 2, 7, 37, 101];

fn submit(config: &TaskConfig, shard: u16, number: usize) -> Submit {
    let new = NewTask {
        id: id(shard, i64::try_from(number).expect("few")),
        config: config.id,
        key: None,
        execute_at: NOW,
        payload: Some("it's \\ {}".into()),
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    };
    let task = Box::new(Task::new(new, NOW));
    Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency: None }
}

/// Tasks on all shards through submit, claim, begin and finish, batch by batch: the first of each batch is to be
/// retried.
async fn work(process: &Process) {
    let app = process.app().await;
    let config = process.config(app, spec("plain")).await;
    let attempt_store = process.attempt_store(NodeLease::for_ever());
    for shard in 0..SHARDS {
        let owner = process.take("default", shard, HOUR).await;
        let mut number = 0;
        for batch in BATCHES {
            let tasks = (number..number + batch).map(|number| submit(&config, shard, number)).collect();
            number += batch;
            process.store.submit(tasks, NOW).await.expect("submit");
            let messages =
                process.claim(owner, &config, shard).await.iter().map(|row| message(row)).collect();
            let mut finishes = Vec::new();
            for begun in all(attempt_store.begin(process.node, messages, NOW).await).expect("begin") {
                let BeginResult::Run(row) = begun else { panic!("{begun:?}") };
                let verdict = if finishes.is_empty() { Verdict::retry("later") } else { Verdict::done() };
                let (id, attempt) = (row.id, row.attempt);
                finishes.push(Finish {
                    id,
                    attempt,
                    verdict,
                    ended_at: None,
                    jitter_fraction: 0.5,
                    row: Some(row),
                });
            }
            assert_eq!(finishes.len(), batch);
            for done in all(attempt_store.finish(process.node, finishes, NOW).await).expect("finish") {
                assert!(matches!(done, FinishResult::Saved(_)), "{done:?}");
            }
        }
        let last = process.store.task(id(shard, 1)).await.expect("task").expect("it is there");
        assert_eq!(last.payload.as_deref(), Some(b"it's \\ {}".as_slice()));
    }
}

/// How many statements a connection has prepared and closed.
async fn prepared(session: &mut Session) -> [usize; 2] {
    let text = "-- counts\nSHOW SESSION STATUS WHERE Variable_name IN ('Com_stmt_prepare', 'Com_stmt_close')";
    let rows = sqlx::raw_sql(text).fetch_all(session.raw().unwrap()).await.unwrap();
    let count = |name: &str| {
        let row = rows.iter().find(|row| row.get::<String, _>(0) == name).expect("the server counts it");
        row.get::<String, _>(1).parse().expect("it is a number")
    };
    [count("Com_stmt_prepare"), count("Com_stmt_close")]
}

/// Of both connections of a pool.
async fn prepared_by_both(db: &Db) -> [[usize; 2]; 2] {
    let (mut one, mut two) = (db.conn().await.unwrap(), db.conn().await.unwrap());
    let counts = [prepared(&mut one).await, prepared(&mut two).await];
    let cached = one.raw().unwrap().cached_statements_size();
    assert_eq!(cached, counts[0][0], "each is prepared once and stays");
    counts
}

#[tokio::test]
async fn what_is_hot_is_prepared_once_and_nothing_is_closed() {
    let databases = Arc::new(Databases::take().await);
    let two = MySqlOptions { connections: 2, ..databases.options() };
    let process = Process::join(MySqlStore::open(&two).await.unwrap(), databases).await;
    work(&process).await;
    let context = &process.store.context;
    // Each source has half of the shards. A start asks meta a few questions.
    let most = HOT.len() * usize::from(SHARDS) / 2;
    for db in [context.shard(shard(0)).unwrap().db, context.shard(shard(SHARDS - 1)).unwrap().db] {
        let counts = prepared_by_both(&db).await;
        assert!(counts.iter().all(|[prepared, closed]| *prepared <= most && *closed == 0), "{counts:?}");
        assert!(counts.iter().any(|[prepared, _]| *prepared > 0), "{counts:?}");
    }
    let counts = prepared_by_both(&context.meta).await;
    assert!(counts.iter().all(|[prepared, closed]| *prepared <= 16 && *closed == 0), "{counts:?}");
}

/// A process of a store whose databases are on this server.
async fn process_on(server: &MariaDb, more: impl FnOnce(MySqlOptions) -> MySqlOptions) -> Process {
    let [meta, source] = ["meta", "one"].map(|hint| server.url(&server.create_database(hint)));
    let options = MySqlOptions { allow_unsynced: true, ..options(meta, source, SHARDS, [7; 32]) };
    let options = more(options);
    MySqlStore::migrate(&options, NOW).await.unwrap();
    let elsewhere = Arc::new(Databases::take().await);
    Process::join(MySqlStore::open(&options).await.unwrap(), elsewhere).await
}

#[tokio::test]
async fn a_server_that_allows_few_statements_or_no_more_serves() {
    let more = vec!["--max-prepared-stmt-count=500".to_owned()];
    let server = MariaDb::start_with(&MariaDbOptions { more, ..MariaDbOptions::default() }).unwrap();
    let count = || {
        let said = server.sql("SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'").unwrap();
        said.split_whitespace().last().unwrap().parse::<usize>().unwrap()
    };
    let many = process_on(&server, |options| options).await;
    work(&many).await;
    let beside = count();
    assert!(beside <= 16, "{beside} prepared, and there is no room for any of each shard");

    let alone = process_on(&server, |options| MySqlOptions { processes: 1, connections: 2, ..options }).await;
    // Others have used up all.
    server.sql("SET GLOBAL max_prepared_stmt_count = 0").unwrap();
    work(&alone).await;
    assert!(count() <= beside + 16);
}

#[tokio::test]
async fn values_are_the_same_bound_and_written() {
    // The first is one of those that are prepared.
    const BOUND: &str =
        "-- balance_add\nSELECT ?, ?, ? FROM balance_{shard} RIGHT JOIN (SELECT 1) AS one ON FALSE";
    const WRITTEN: &str =
        "-- written\nSELECT ?, ?, ? FROM balance_{shard} RIGHT JOIN (SELECT 1) AS one ON FALSE";
    let process = Process::first().await;
    let on = process.store.context.shard(shard(0)).unwrap();
    let mut session = on.conn().await.unwrap();
    let all: Vec<u8> = (0..=255).collect();
    let numbers = [Some(i64::MIN), Some(-1), Some(0), Some(i64::MAX), None];
    let texts = [Some("it's \\ % \"?\" {list}\n\0"), Some("\u{1F980} é"), Some(""), None];
    let bytes = [Some(&all[..]), Some(&[]), Some(b"\\'"), None];
    for (number, text, bytes) in numbers
        .into_iter()
        .flat_map(|number| texts.into_iter().zip(bytes).map(move |(text, bytes)| (number, text, bytes)))
    {
        for template in [BOUND, WRITTEN] {
            let ask = query(&on.sql(template)).bind(number).bind(text).bind(bytes);
            let row = ask.fetch_one(&mut session).await.unwrap();
            assert_eq!(row.get::<Option<i64>>(0).unwrap(), number, "{template}");
            assert_eq!(row.get::<Option<String>>(1).unwrap().as_deref(), text, "{template}");
            assert_eq!(row.get::<Option<Vec<u8>>>(2).unwrap().as_deref(), bytes, "{template}");
        }
    }
    session.raw().unwrap().ping().await.unwrap();
}
