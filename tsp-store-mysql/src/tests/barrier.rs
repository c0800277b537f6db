//! A change of a config is applied by a node when nothing that was begun under the old one is left
//! (DESIGN.md section 6). Each test holds a transaction that has read the config, changes it in another
//! process, and lets go.

use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{Connection as _, Row as _};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tsp_core::config::{ConfigSpec, Kind, OnDuplicateKey, TaskConfig};
use tsp_core::schedule::{Every, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::task_key::{config_shard, key_shard};
use tsp_core::{ConfigId, Millis, TaskId, TaskKey};
use tsp_store::attempts::{AttemptStore as _, BeginRequest, BeginResult};
use tsp_store::catalog::{
    Catalog as _, ConfigBarrier as _, ConfigSaved, DeleteResult, ExpectedVersion, Hold, SaveConfig,
};
use tsp_store::cluster::{Heartbeat, LeaseStore as _, NewNode, NodeLease};
use tsp_store::error::{Cause, Result};
use tsp_store::fetching::{FetcherStore as _, Fire, FireResult, Owner, SlotTask};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore as _};

use crate::MySqlStore;
use crate::tests::fixture::{HOUR, NOW, Process, id, message, spec};
use crate::tests::site::{Databases, SHARDS, connect, sql};

/// Two processes of a cluster; the first one works, the second one changes its config.
struct Fixture {
    one: Process,
    two: Process,
    config: std::sync::Arc<TaskConfig>,
}

impl Fixture {
    async fn new(spec: ConfigSpec) -> Self {
        let one = Process::first().await;
        let two = one.another().await;
        let app = one.app().await;
        let config = one.config(app, spec).await;
        two.store.follow().await.unwrap();
        Self { one, two, config }
    }

    /// The second process changes the config, and the first one reads that. The number of the change.
    async fn hold(&self, hold: Hold) -> i64 {
        let saved = self.two.store.hold_config(self.config.id, hold, &Actor::system(), NOW).await.unwrap();
        assert!(matches!(saved, ConfigSaved::Updated(_)), "{saved:?}");
        self.read().await
    }

    async fn read(&self) -> i64 {
        let seq = self.two.store.config_cache().newest();
        assert_eq!(self.one.store.follow().await.unwrap(), seq);
        assert_eq!(self.one.store.config_cache().seq(), seq, "the config cache has it");
        seq
    }

    /// Whether everybody has applied the change, once all have said what they have.
    async fn applied(&self, seq: i64) -> bool {
        for process in [&self.one, &self.two] {
            let heartbeat =
                Heartbeat { config_seq: process.store.config_cache().finalised(), ..Heartbeat::default() };
            process.store.renew(process.node, HOUR, heartbeat).await.unwrap();
        }
        self.two.store.applied_by_all(seq).await.unwrap()
    }

    async fn open_rows(&self) -> i64 {
        let mut open = 0;
        for shard in 0..SHARDS {
            let mut conn = connect(self.one.databases.source_of(shard)).await;
            let text =
                format!("SELECT COUNT(*) FROM task_{shard:03} WHERE config_id = {}", self.config.id.get());
            open += sql(&mut conn, &text).await[0].get::<i64, _>(0);
        }
        open
    }
}

/// Somebody holds a row of a shard, so that whoever comes to it waits.
struct HeldRow {
    conn: MySqlConnection,
    database: String,
}

impl HeldRow {
    /// The sums of this process, which are the last that its transactions write.
    async fn sums(of: &Process, shard: u16) -> Self {
        let text = format!(
            "INSERT INTO balance_{shard:03} (node, accepted, ended, dropped) VALUES ({}, 0, 0, 0) \
             ON DUPLICATE KEY UPDATE node = node",
            of.node.get()
        );
        Self::by(&of.databases, shard, &text).await
    }

    async fn task(of: &Process, task: TaskId) -> Self {
        let shard = task.shard().get();
        let text = format!("SELECT id FROM task_{shard:03} WHERE id = {task} FOR UPDATE");
        Self::by(&of.databases, shard, &text).await
    }

    async fn by(databases: &Databases, shard: u16, text: &str) -> Self {
        let database = databases.source_of(shard).to_owned();
        let mut conn = connect(&database).await;
        sql(&mut conn, "BEGIN").await;
        sql(&mut conn, text).await;
        Self { conn, database }
    }

    /// Returns when a statement of this name has come to the row.
    async fn reached(&self, statement: &str) {
        let text = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
             WHERE DB = '{}' AND INFO LIKE '-- {statement}%'",
            self.database
        );
        let mut conn = connect(&self.database).await;
        let end = Instant::now() + Duration::from_secs(4);
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while sql(&mut conn, &text).await[0].get::<i64, _>(0) == 0 {
            assert!(Instant::now() < end, "`{statement}` must wait in {}", self.database);
            look.tick().await;
        }
    }

    async fn let_go(mut self) {
        sql(&mut self.conn, "ROLLBACK").await;
        self.conn.close().await.unwrap();
    }
}

fn task(config: ConfigId, id: TaskId, key: Option<&str>, origin: Origin) -> Box<Task> {
    let key = key.map(|key| TaskKey::new(key).unwrap());
    let execute_at = NOW;
    let new = NewTask { id, config, key, execute_at, payload: None, expire_after: None, origin, extra: None };
    Box::new(Task::new(new, NOW))
}

async fn submit(store: &MySqlStore, task: Box<Task>) -> Result<SubmitOutcome> {
    let submit = Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency: None };
    match store.submit(vec![submit], NOW).await?.remove(0) {
        IdempotencyResult::Fresh(submitted) => Ok(submitted),
        other => panic!("nothing was kept: {other:?}"),
    }
}

fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinSet<T> {
    JoinSet::from_iter([work])
}

async fn ended<T: 'static>(work: JoinSet<T>) -> T {
    work.join_all().await.remove(0)
}

#[tokio::test]
async fn a_submit_in_flight_is_waited_for_before_its_config_is_deleted() {
    let fixture = Fixture::new(spec("orders")).await;
    let held = HeldRow::sums(&fixture.one, 0).await;
    let (store, new) = (fixture.one.store.clone(), task(fixture.config.id, id(0, 1), None, Origin::Submit));
    let late = beside(async move { submit(&store, new).await });
    held.reached("balance_add").await;
    let seq = fixture.hold(Hold::Disable).await;
    assert!(!fixture.applied(seq).await, "a task may still come of it");
    held.let_go().await;
    assert_eq!(ended(late).await.unwrap(), SubmitOutcome::ConfigDisabled, "it was decided again");
    assert!(fixture.applied(seq).await);
    let deleted =
        fixture.two.store.delete_config(fixture.config.id, ExpectedVersion::Any, &Actor::system(), NOW).await;
    assert_eq!(deleted.unwrap(), DeleteResult::Deleted);
    assert_eq!(fixture.open_rows().await, 0);
}

#[tokio::test]
async fn a_submit_in_flight_makes_no_second_canonical_task_when_the_span_changes() {
    let fixture = Fixture::new(ConfigSpec { span: 1, ..spec("orders") }).await;
    let home = |key: &str, span| key_shard(fixture.config.id, key, span, SHARDS);
    let key = (0..1_000).map(|n| format!("order-{n}")).find(|key| home(key, 1) != home(key, 0)).unwrap();
    let (old, new) = (home(&key, 1).get(), home(&key, 0).get());
    let held = HeldRow::sums(&fixture.one, old).await;
    let (store, first) =
        (fixture.one.store.clone(), task(fixture.config.id, id(old, 1), Some(&key), Origin::Submit));
    let late = beside(async move { submit(&store, first).await });
    held.reached("balance_add").await;
    let save =
        SaveConfig { app: fixture.config.app_id, spec: spec("orders"), expected: ExpectedVersion::Any };
    let saved = fixture.two.store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
    assert!(matches!(saved, IdempotencyResult::Fresh(ConfigSaved::Updated(_))), "no task is open: {saved:?}");
    let seq = fixture.read().await;
    assert!(!fixture.applied(seq).await, "the old home may still get a task");
    let second = task(fixture.config.id, id(new, 2), Some(&key), Origin::Submit);
    assert!(matches!(submit(&fixture.two.store, second).await.unwrap(), SubmitOutcome::Created(_)));
    held.let_go().await;
    assert_eq!(ended(late).await.unwrap(), SubmitOutcome::NotAtHome);
    assert!(fixture.applied(seq).await);
    assert_eq!(fixture.open_rows().await, 1);
    let narrow = ConfigSpec { span: 1, ..spec("orders") };
    let save = SaveConfig { app: fixture.config.app_id, spec: narrow, expected: ExpectedVersion::Any };
    let refused = fixture.two.store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
    assert_eq!(refused, IdempotencyResult::Fresh(ConfigSaved::InUse(1)));
}

impl Fixture {
    async fn queued(&self) -> (Owner, BeginRequest) {
        self.one.submit(&self.config, 0, 1).await;
        let owner = self.one.take("default", 0, HOUR).await;
        let claimed = self.one.claim(owner, &self.config, 0).await;
        (owner, message(&claimed[0]))
    }

    fn begin(&self, message: BeginRequest) -> JoinSet<BeginResult> {
        let (attempt_store, node) = (self.one.attempt_store(NodeLease::for_ever()), self.one.node);
        beside(async move { attempt_store.begin(node, vec![message], NOW).await.remove(0).unwrap() })
    }
}

#[tokio::test]
async fn a_begin_in_flight_is_waited_for_before_a_pause_is_answered() {
    let fixture = Fixture::new(spec("orders")).await;
    let (_, message) = fixture.queued().await;
    let held = HeldRow::task(&fixture.one, message.id).await;
    let late = fixture.begin(message.clone());
    held.reached("tasks_begin").await;
    let seq = fixture.hold(Hold::Pause { note: None }).await;
    assert!(!fixture.applied(seq).await, "it may still begin");
    held.let_go().await;
    assert!(matches!(ended(late).await, BeginResult::Run(_)), "it began before the pause was answered");
    assert!(fixture.applied(seq).await);
    assert!(matches!(ended(fixture.begin(message)).await, BeginResult::Drop(_)));
}

#[tokio::test]
async fn a_begin_with_a_token_is_decided_again_under_its_locks() {
    let fixture = Fixture::new(spec("orders")).await;
    let (_, message) = fixture.queued().await;
    let message = BeginRequest { token: Some([7; 32]), ..message };
    let held = HeldRow::task(&fixture.one, message.id).await;
    let late = fixture.begin(message.clone());
    held.reached("tasks_lock").await;
    let seq = fixture.hold(Hold::Pause { note: None }).await;
    assert!(!fixture.applied(seq).await, "it may still begin");
    held.let_go().await;
    assert_eq!(ended(late).await, BeginResult::Wait(NOW));
    assert!(fixture.applied(seq).await);
    let row = fixture.one.store.task(message.id).await.unwrap().unwrap();
    assert_eq!((row.status, row.attempt), (Status::Queued, 0));
}

#[tokio::test]
async fn a_slot_in_flight_is_waited_for_before_a_disable_is_answered() {
    let every = Schedule::new(Trigger::Every(Every { interval: Millis::from_secs(10), anchor: NOW }));
    let cron =
        |name: &str| ConfigSpec { kind: Kind::Cron, schedule: Some(every.clone()), span: 1, ..spec(name) };
    let fixture = Fixture::new(cron("nightly")).await;
    let home = config_shard(fixture.config.id, SHARDS);
    let shard = home.get();
    let owner = fixture.one.take("default", shard, HOUR).await;
    let mut other = fixture.config.clone();
    for n in 0.. {
        other = fixture.one.config(fixture.config.app_id, cron(&format!("other-{n}"))).await;
        if config_shard(other.id, SHARDS) == home {
            break;
        }
    }
    let fires = [&fixture.config, &other].map(|config| {
        let task = task(config.id, id(shard, config.id.get()), None, Origin::Schedule);
        let slots = vec![SlotTask { task, late: false }];
        Fire { slots, ..Fire::without_slots(config, 1, Some(NOW.plus(Millis::from_secs(10)))) }
    });
    let held = HeldRow::sums(&fixture.one, shard).await;
    let of = fixture.one.fetcher_store("default", shard);
    let late = beside(async move { of.fire(owner, fires.to_vec(), NOW).await });
    held.reached("balance_add").await;
    let seq = fixture.hold(Hold::Disable).await;
    assert!(!fixture.applied(seq).await, "the slot may still be made");
    held.let_go().await;
    let answers = ended(late).await;
    assert!(matches!(&answers[..], [Ok(FireResult::Stale), Ok(FireResult::Moved { .. })]), "{answers:?}");
    assert!(fixture.applied(seq).await);
    assert_eq!(fixture.open_rows().await, 0);
}

#[tokio::test]
async fn a_replay_in_flight_leaves_no_task_without_a_config() {
    let fixture = Fixture::new(spec("orders")).await;
    let ended_task = fixture.one.submit(&fixture.config, 0, 1).await;
    let by = Actor::system();
    let cancel =
        fixture.one.store.change(Subject::Id(ended_task), TaskCommand::Cancel, &by, NOW).await.unwrap();
    assert!(matches!(cancel, CommandResult::Done { .. }));
    let held = HeldRow::sums(&fixture.one, 0).await;
    let store = fixture.one.store.clone();
    let late = beside(async move {
        store.change(Subject::Id(ended_task), TaskCommand::Replay, &Actor::system(), NOW).await.unwrap()
    });
    held.reached("balance_add").await;
    let seq = fixture.hold(Hold::Disable).await;
    assert!(!fixture.applied(seq).await, "it may still open again");
    held.let_go().await;
    assert_eq!(ended(late).await, CommandResult::ConfigDisabled);
    assert!(fixture.applied(seq).await);
    let deleted =
        fixture.two.store.delete_config(fixture.config.id, ExpectedVersion::Any, &by, NOW).await.unwrap();
    assert_eq!((deleted, fixture.open_rows().await), (DeleteResult::Deleted, 0));
}

/// The statement is at the server, whoever waits for its answer.
#[tokio::test]
async fn what_was_interrupted_counts_until_it_has_surely_ended() {
    let fixture = Fixture::new(spec("orders")).await;
    let (_, message) = fixture.queued().await;
    let held = HeldRow::task(&fixture.one, message.id).await;
    let mut late = fixture.begin(message.clone());
    held.reached("tasks_begin").await;
    late.shutdown().await;
    let seq = fixture.hold(Hold::Pause { note: None }).await;
    assert!(!fixture.applied(seq).await, "it may still begin");
    held.let_go().await;
    assert!(!fixture.applied(seq).await, "nobody knows whether it has begun");
}

/// As a process that was frozen between its last statement and the commit: nobody waits for it any more.
#[tokio::test]
async fn nothing_is_committed_by_the_config_cache_of_a_node_whose_lease_is_over() {
    let fixture = Fixture::new(spec("orders")).await;
    let store = fixture.one.databases.open().await;
    let node = NewNode { name: "n".to_owned(), roles: Vec::new(), version: "test".to_owned(), address: None };
    let lease = Millis::from_secs(2);
    let node = store.join(node, lease).await.unwrap();
    let frozen = Process { store: store.clone(), node, databases: fixture.one.databases.clone() };
    let held = HeldRow::sums(&frozen, 0).await;
    let new = task(fixture.config.id, id(0, 1), None, Origin::Submit);
    let (own, again) = (store.clone(), new.clone());
    let late = beside(async move { submit(&own, new).await });
    held.reached("balance_add").await;
    let end = Instant::now() + Duration::from_secs(4);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !store.nodes().await.unwrap().iter().any(|row| row.id == node && row.expired) {
        assert!(Instant::now() < end, "a short lease ends");
        look.tick().await;
    }
    held.let_go().await;
    let refused = ended(late).await.unwrap_err();
    assert!(refused.is(Cause::LeaseOver), "{refused}");
    assert_eq!(fixture.open_rows().await, 0);
    store.renew(node, HOUR, Heartbeat::default()).await.unwrap();
    assert!(
        matches!(submit(&store, again).await.unwrap(), SubmitOutcome::Created(_)),
        "nobody has marked it dead"
    );
}
