//! Submits as no other back end does them: over data sources, in groups, from several processes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::Instant;
use tsp_core::config::{AsyncPolicy, ConfigSpec, HttpTarget, OnDuplicateKey, TaskConfig};
use tsp_core::outcome::OutcomeKind;
use tsp_core::retry::{Backoff, RetryPolicy};
use tsp_core::task::{LastOutcome, NewTask, Origin, Task};
use tsp_core::{IdGenerator, Millis, Name, NodeId, ShardId, TaskId, Timestamp};
use tsp_store::catalog::{AppSaved, Catalog as _, ConfigSaved, ExpectedVersion, NewApp, SaveConfig};
use tsp_store::error::StoreError;
use tsp_store::fetching::{ClaimRequest, FetcherStore as _};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};
use tsp_store::search::{Order, Scope, TaskQuery};
use tsp_store::tasks::{Actor, Submit, SubmitOutcome, TaskStore as _};
use tsp_store_testing::samples;

use crate::MySqlStore;
use crate::tasks::idempotency::{self, LookupResult, PendingAnswer};
use crate::tasks::rows::{insert_task, save};
use crate::tasks::update::update_rows;
use crate::tests::fixture::{HOUR, Process, key_at};
use crate::tests::site::{Databases, SHARDS, connect, sql};

const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

/// A store with one config that spreads over all shards.
struct Fixture {
    store: MySqlStore,
    databases: Arc<Databases>,
    config: Arc<TaskConfig>,
    ids: Mutex<IdGenerator>,
}

impl Fixture {
    async fn new() -> Self {
        let (store, databases) = Databases::store().await;
        let new = NewApp { name: name("trade"), description: String::new(), owner: String::new() };
        let app = match store.create_app(new, None, &Actor::system(), NOW).await.expect("create_app") {
            IdempotencyResult::Fresh(AppSaved::Saved(app)) => app,
            other => panic!("{other:?}"),
        };
        let save = SaveConfig { app: app.id, spec: spec("close-order"), expected: ExpectedVersion::Absent };
        let config = match store.save_config(save, None, &Actor::system(), NOW).await.expect("save_config") {
            IdempotencyResult::Fresh(ConfigSaved::Created(config)) => config,
            other => panic!("{other:?}"),
        };
        let ids = Mutex::new(IdGenerator::new(5, NOW.minus(Millis::from_secs(1)), Timestamp::MAX));
        Self { store, databases, config, ids }
    }

    fn task(&self, shard: u16, key: Option<&str>) -> Box<Task> {
        let shard = ShardId::new(shard).expect("a shard of the store");
        let new = NewTask {
            id: self.ids.lock().next(shard, NOW).expect("the slot never ends"),
            config: self.config.id,
            key: key.map(|key| key_at(self.config.id, shard.get(), SHARDS, key)),
            execute_at: NOW,
            payload: Some(Bytes::from_static(br#"{"order": 42, "items": [1, 2, 3]}"#)),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        Box::new(Task::new(new, NOW))
    }

    fn plain(&self, shard: u16) -> Submit {
        submit(self.task(shard, None))
    }

    /// Waits until so many submits wait for `shard`.
    async fn waiting(&self, shard: u16, wanted: usize) {
        let shard = ShardId::new(shard).expect("a shard of the store");
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.store.submits.waiting(shard) < wanted {
            assert!(Instant::now() < deadline, "{wanted} submits must stand in line");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a transaction waits for a lock on the data source of `shard`.
    async fn blocked(&self, shard: u16) {
        let database = self.databases.source_of(shard);
        let text = format!(
            "SELECT COUNT(*) FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST \
             ON PROCESSLIST.ID = trx_mysql_thread_id WHERE DB = '{database}' AND trx_state = 'LOCK WAIT'"
        );
        let mut conn = connect(database).await;
        let deadline = Instant::now() + Duration::from_secs(4);
        // InnoDB looks again only when nobody has asked for 100 ms; the lock is waited for 5 s.
        let mut look = tokio::time::interval(Duration::from_millis(110));
        look.tick().await;
        while sqlx::Row::get::<i64, _>(&sql(&mut conn, &text).await[0], 0) == 0 {
            assert!(Instant::now() < deadline, "a transaction must wait for the lock");
            look.tick().await;
        }
    }

    /// How many rows a table has over all shards.
    async fn count(&self, table: &str) -> i64 {
        let mut sum = 0;
        for shard in 0..SHARDS {
            let mut conn = connect(self.databases.source_of(shard)).await;
            let rows = sql(&mut conn, &format!("SELECT COUNT(*) FROM {table}_{shard:03}")).await;
            sum += sqlx::Row::get::<i64, _>(&rows[0], 0);
        }
        sum
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn spec(config: &str) -> ConfigSpec {
    ConfigSpec {
        retry: RetryPolicy {
            max_attempts: 3,
            backoff: Backoff::List(vec![Millis::from_mins(1)]),
            jitter: 0.0,
            max_age: None,
            non_retryable_status: Vec::new(),
        },
        asynchronous: AsyncPolicy { enabled: false, deadline: Millis::from_mins(1) },
        span: 0,
        ..ConfigSpec::new(name(config), HttpTarget::post("http://orders.internal/close"))
    }
}

fn submit(task: Box<Task>) -> Submit {
    Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency: None }
}

/// A key whose record is in `shard`.
fn request(shard: u16, number: u8) -> IdempotencyRequest<SubmitOutcome> {
    let mut hash = [number; 32];
    hash[..8].copy_from_slice(&u64::from(shard).to_le_bytes());
    IdempotencyRequest {
        hash,
        body_hash: [1; 32],
        expires_at: NOW.plus(Millis::from_mins(1)),
        render: Box::new(|submitted| match submitted {
            SubmitOutcome::Created(task) => Some(answer(task.id)),
            _ => None,
        }),
    }
}

fn answer(id: TaskId) -> StoredAnswer {
    StoredAnswer { status: 201, body: Bytes::from(id.to_string()), location: None }
}

fn created(answer: &IdempotencyResult<SubmitOutcome>) -> TaskId {
    match answer {
        IdempotencyResult::Fresh(SubmitOutcome::Created(task)) => task.id,
        other => panic!("a new task must be created: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_meanwhile_goes_with_the_next_transaction() {
    let fixture = Fixture::new().await;
    let held = fixture.task(0, Some("held"));
    let mut other = connect(fixture.databases.source_of(0)).await;
    // Somebody else holds the key, so the first transaction waits.
    let (config, key) = (fixture.config.id, held.key.clone().expect("it has one"));
    let hash = format!("UNHEX(LEFT(SHA2('{key}', 256), 32))");
    sql(&mut other, "BEGIN").await;
    sql(
        &mut other,
        &format!(
            "INSERT INTO task_000 (id, config_id, status, version, due_at, execute_at, first_due_at, \
             created_at, attempt, charged, losses, epoch, cancel_requested, origin, sharding_id, \
             sharding_count, task_key, key_hash, key_slot) \
             VALUES (1, {config}, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, '{key}', {hash}, 0)"
        ),
    )
    .await;
    let first = fixture.store.submit(vec![submit(held)], NOW);
    let rest = async {
        fixture.blocked(0).await;
        let more = join_all((0..20).map(|_| fixture.store.submit(vec![fixture.plain(0)], NOW)));
        // Its id is that of the task above, of another key: it fails alone.
        let mut bad = fixture.plain(0);
        bad.task.id = TaskId::new(1);
        let bad = fixture.store.submit(vec![bad], NOW);
        let release = async {
            fixture.waiting(0, 21).await;
            sql(&mut other, "COMMIT").await;
        };
        futures::join!(more, bad, release)
    };
    let (first, (more, bad, ())) = futures::join!(first, rest);
    assert!(
        matches!(first.as_deref(), Ok([IdempotencyResult::Fresh(SubmitOutcome::Existing(_))])),
        "{first:?}"
    );
    for answer in more {
        created(&answer.expect("its neighbour's fault is not its own")[0]);
    }
    assert!(matches!(bad, Err(StoreError::Internal(_))), "{bad:?}");
    assert_eq!(fixture.count("task").await, 21);
}

/// Two processes reset the same tasks in opposite order, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn opposite_orders_both_end() {
    let fixture = Fixture::new().await;
    let other = fixture.databases.open().await;
    let keys: Vec<String> = (0..40).map(|number| format!("order-{number}")).collect();
    let batch = |backwards: bool| {
        let mut batch: Vec<Submit> = keys
            .iter()
            .map(|key| Submit { on_duplicate: OnDuplicateKey::Reset, ..submit(fixture.task(1, Some(key))) })
            .collect();
        if backwards {
            batch.reverse();
        }
        batch
    };
    for _ in 0..10 {
        let (left, right) =
            futures::join!(fixture.store.submit(batch(false), NOW), other.submit(batch(true), NOW));
        assert_eq!(left.expect("submit").len(), keys.len());
        assert_eq!(right.expect("submit").len(), keys.len());
    }
    assert_eq!(fixture.count("task").await, 40);
}

/// The process dies after the first or the second of three transactions; the repeat makes the same task.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_submit_is_finished_by_its_repeat() {
    let fixture = Fixture::new().await;
    let context = &fixture.store.context;
    // Task on the first data source; the record on the second, and on the first.
    for (number, (record, with_task)) in (1u8..).zip([(3, false), (3, true), (1, false), (1, true)]) {
        let first = fixture.task(0, None);
        let id = first.id;
        let key = PendingAnswer::new(request(record, number)).key;
        assert_eq!(idempotency::reserve(context, key, id, NOW).await.expect("reserve"), LookupResult::New);
        if with_task {
            fixture.store.submit(vec![submit(first)], NOW).await.expect("submit");
        }
        let again = || Submit { idempotency: Some(request(record, number)), ..fixture.plain(2) };
        let answers = fixture.store.submit(vec![again()], NOW).await.expect("submit");
        assert_eq!(created(&answers[0]), id, "the repeat takes the id of the first try");
        let answers = fixture.store.submit(vec![again()], NOW).await.expect("submit");
        assert_eq!(answers, [IdempotencyResult::Replayed(answer(id))]);
    }
    assert_eq!(fixture.count("task").await, 4);
    assert_eq!(fixture.count("idempotency").await, 4);
}

/// Many callers of two processes with one key, record and task on one data source and on two.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_makes_one_task_whoever_asks() {
    let fixture = Fixture::new().await;
    let other = fixture.databases.open().await;
    for record in [0, 1, 2, 3] {
        let calls = (0..10u16).map(|number| {
            let store = if number % 2 == 0 { &fixture.store } else { &other };
            let new = Submit { idempotency: Some(request(record, 1)), ..fixture.plain(number % 2) };
            store.submit(vec![new], NOW)
        });
        let mut ids = BTreeSet::new();
        for answers in join_all(calls).await {
            match &answers.expect("submit")[0] {
                IdempotencyResult::Replayed(answer) => ids.insert(answer.body.clone()),
                answer => ids.insert(Bytes::from(created(answer).to_string())),
            };
        }
        assert_eq!(ids.len(), 1, "one key, one task: {ids:?}");
    }
    assert_eq!(fixture.count("task").await, 4);
}

/// A refusal leaves no record, wherever the record would be.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_leaves_no_record() {
    let fixture = Fixture::new().await;
    for record in [0, 3] {
        for key in ["order-1", "order-1"] {
            let task = fixture.task(0, Some(key));
            let on_duplicate = OnDuplicateKey::Ignore;
            let idempotency = IdempotencyRequest { render: Box::new(|_| None), ..request(record, 9) };
            let new = Submit { task, on_duplicate, own_payload: true, idempotency: Some(idempotency) };
            fixture.store.submit(vec![new], NOW).await.expect("submit");
        }
    }
    assert_eq!(fixture.count("idempotency").await, 0);
    assert_eq!(fixture.count("task").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_reported_and_does_not_stop_its_neighbours() {
    let fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(created(&fixture.store.submit(vec![fixture.plain(0)], NOW).await.expect("submit")[0]));
    }
    let mut conn = connect(fixture.databases.source_of(0)).await;
    sql(&mut conn, &format!("UPDATE task_000 SET origin = 99 WHERE id = {}", ids[1])).await;
    match fixture.store.task(ids[1]).await {
        Err(StoreError::Corrupt { table: "task", column: "origin", id, .. }) => assert_eq!(id, ids[1].get()),
        other => panic!("the row is bad: {other:?}"),
    }
    let query = TaskQuery {
        scope: Scope::Config(fixture.config.id),
        key: None,
        statuses: Vec::new(),
        results: Vec::new(),
        due_from: None,
        due_to: None,
        created_from: None,
        created_to: None,
        parent: None,
        order: Order::IdAsc,
        after: None,
        limit: 10,
    };
    let found: Vec<TaskId> =
        fixture.store.search(query).await.expect("search").tasks.iter().map(|task| task.id).collect();
    assert_eq!(found, [ids[0], ids[2]]);
    let done =
        fixture.store.cancel_open(fixture.config.id, 10, &Actor::system(), NOW).await.expect("cancel_open");
    assert_eq!((done.cancelled, done.left), (2, 1));
}

/// A claim does not look at all of a row.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_loaded_is_paused() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, crate::tests::fixture::spec("orders")).await;
    let mut ids = Vec::new();
    for number in 1..=3 {
        ids.push(process.submit(&config, 0, number).await);
    }
    let mut conn = connect(process.databases.source_of(0)).await;
    sql(&mut conn, &format!("UPDATE task_000 SET extra = '7' WHERE id = {}", ids[0])).await;
    sql(&mut conn, &format!("UPDATE task_000 SET expire_after = 0, extra = '7' WHERE id = {}", ids[2])).await;
    let owner = process.take("default", 0, HOUR).await;
    let request = ClaimRequest { config: config.id, due_by: NOW, limit: 10 };
    let claimed = process.fetcher_store("default", 0).claim(owner, vec![request], NOW).await.expect("claim");
    assert_eq!(claimed.bare.iter().map(|row| row.id).collect::<Vec<_>>(), ids[..2]);
    let loaded = process.load(&claimed).await;
    assert_eq!(loaded.iter().map(|task| task.id).collect::<Vec<_>>(), [ids[1]]);
    let rows = sql(&mut conn, "SELECT CAST(status AS SIGNED), version FROM task_000 ORDER BY id").await;
    let states = rows.iter().map(|row| (sqlx::Row::get(row, 0), sqlx::Row::get(row, 1)));
    assert_eq!(states.collect::<Vec<(i64, i64)>>(), [(40, 3), (10, 2), (40, 2)]);
}

/// Whatever a row holds, it is saved the same in a list and alone.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_saved_in_a_list_as_they_are_alone() {
    let fixture = Fixture::new().await;
    let texts = ["", "plain", "a \"quote\", a \\ and a \u{1f600}\n", r#"{"a": "\u0000\u00e9\ud83d\ude00"}"#];
    let large = "x".repeat(100_000);
    let mut payloads: Vec<Option<Bytes>> = vec![None, Some(Bytes::from_static(&[0xff, 0x00, 0xfe]))];
    payloads.extend(texts.iter().copied().chain([&*large]).map(|text| Some(Bytes::from(text.to_owned()))));
    let mut changed = Vec::new();
    for (number, payload) in (0u32..).zip(payloads) {
        let id = created(&fixture.store.submit(vec![fixture.plain(0)], NOW).await.expect("submit")[0]);
        let mut task = fixture.store.task(id).await.expect("task").expect("it was made");
        let text = texts[number as usize % texts.len()];
        task.version = 2;
        task.due_at = [Timestamp::MAX, Timestamp::from_ms(i64::MIN), NOW][number as usize % 3];
        task.attempt = u32::MAX - number;
        task.epoch = i64::MAX;
        task.node = (number % 2 == 0).then(|| NodeId::new(7));
        task.cancel_requested = number % 2 == 1;
        task.token = (number % 2 == 0).then_some([0xa5; 32]);
        task.last_outcome = (number % 3 > 0).then(|| LastOutcome {
            attempt: 1,
            kind: OutcomeKind::Retry,
            reason: text.to_owned().into(),
            http_status: (number % 2 == 0).then_some(503),
            at: NOW,
        });
        task.extra_mut().traceparent = Some(text.to_owned());
        task.payload = payload;
        changed.push(task);
    }
    let on = &fixture.store.context.shard(ShardId::default()).expect("a shard");
    let rows: Vec<(i64, &Task)> = changed.iter().map(|task| (1, task)).collect();
    let rows = &rows;
    let save = on.transact("test", move |tx| Box::pin(update_rows(tx, on, rows)));
    assert_eq!(save.await.expect("update_rows"), changed.len());
    for task in &changed {
        assert_eq!(fixture.store.task(task.id).await.expect("task").as_ref(), Some(task));
    }
    let stale = on.transact("test", move |tx| Box::pin(update_rows(tx, on, rows))).await;
    assert!(matches!(stale, Err(StoreError::Internal(_))), "they have another version now: {stale:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_column_is_read_as_it_was_written() {
    let fixture = Fixture::new().await;
    let task = &samples::open(*fixture.task(0, Some("order-1")));
    let on = &fixture.store.context.shard(ShardId::default()).expect("a shard");
    let insert = on.transact("test", move |tx| Box::pin(insert_task(tx, on, task)));
    assert!(insert.await.expect("insert_task"));
    assert_eq!(fixture.store.task(task.id).await.expect("task").as_ref(), Some(task));
    let end = &samples::end(task);
    let save = on.transact("test", move |tx| Box::pin(save(tx, on, task.version, end.clone())));
    assert!(save.await.expect("save").is_some());
    assert_eq!(fixture.store.task(task.id).await.expect("task").as_ref(), Some(&end.task));
    assert_eq!(fixture.store.attempts(task.id).await.expect("attempts"), end.closed.as_slice());
}

/// Printed, for who changes the writes; a busy machine is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn the_speed_of_submits() {
    const ROWS: u32 = 20_000;
    let fixture = Fixture::new().await;
    for (what, keyed) in [("warm-up", true), ("without keys", false), ("with keys", true)] {
        let batches = (0..ROWS / 500).map(|batch| {
            let shard = u16::try_from(batch % u32::from(SHARDS)).expect("a shard");
            let task =
                |number| fixture.task(shard, keyed.then(|| format!("{what}-{batch}-{number}")).as_deref());
            (0..500).map(|number| submit(task(number))).collect::<Vec<_>>()
        });
        let batches: Vec<_> = batches.collect();
        let started = Instant::now();
        for answers in join_all(batches.into_iter().map(|batch| fixture.store.submit(batch, NOW))).await {
            assert_eq!(answers.expect("submit").len(), 500);
        }
        let rate = f64::from(ROWS) / started.elapsed().as_secs_f64();
        println!("batches of 500, {what}: {rate:.0} rows/s");
    }
    let started = Instant::now();
    let callers = (0..200u16).map(|caller| {
        let fixture = &fixture;
        async move {
            for _ in 0..20 {
                fixture.store.submit(vec![fixture.plain(caller % SHARDS)], NOW).await.expect("submit");
            }
        }
    });
    join_all(callers).await;
    println!("one by one, 200 callers: {:.0} rows/s", 4_000.0 / started.elapsed().as_secs_f64());
}
