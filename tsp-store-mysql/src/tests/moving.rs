//! Moving a shard while it is in use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::Notify;
use tsp_core::config::{OnDuplicateKey, TaskConfig};
use tsp_core::task::{EndResult, NewTask, Origin, Status, Task};
use tsp_core::{NodeId, TaskId, Verdict};
use tsp_store::attempts::{AttemptStore as _, BeginRequest, BeginResult, Finish};
use tsp_store::catalog::{AppSaved, Catalog as _, ConfigSaved, ExpectedVersion, NewApp, SaveConfig};
use tsp_store::cluster::{Heartbeat, LeaseStore as _, NewNode, NodeLease, Renewal, ShardGroup};
use tsp_store::error::StoreError;
use tsp_store::fetching::{AuditorStore as _, BareRow, ClaimRequest, FetcherStore as _, Owner};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, Submit, TaskStore as _};

use crate::tests::fixture::{HOUR, NOW, id, key_at, name, shard, spec};
use crate::tests::site::{connect, options, sql};
use crate::{MoveStep, MySqlOptions, MySqlStore, SourceOptions};

const SHARDS: u16 = 2;
const MOVED: u16 = 1;

/// A store that was made for one test: shard 0 on `one`, shard 1 on `two`.
async fn fresh() -> MySqlOptions {
    let server = peers::MariaDb::shared();
    let url = |hint: &str| server.url(&server.create_database(hint));
    let source =
        |name: &str, shard| SourceOptions { name: name.to_owned(), url: url(name), shards: shard..=shard };
    let sources = vec![source("one", 0), source("two", 1)];
    let options = MySqlOptions {
        connections: 6,
        sources,
        allow_unsynced: true,
        ..options(url("meta"), "", SHARDS, [5; 32])
    };
    MySqlStore::migrate(&options, NOW).await.unwrap();
    options
}

/// A process that submits, or one that does all that fetchers and workers do.
struct Client {
    store: MySqlStore,
    node: NodeId,
    config: Arc<TaskConfig>,
}

impl Client {
    async fn new(options: &MySqlOptions) -> Self {
        let store = MySqlStore::open(options).await.unwrap();
        let new = NewNode { name: "n".to_owned(), roles: vec![], version: "t".to_owned(), address: None };
        let node = store.join(new, HOUR).await.unwrap();
        let known = store.config_cache().all_configs();
        let config = match known.first() {
            Some(config) => config.clone(),
            None => Self::config(&store).await,
        };
        Self { store, node, config }
    }

    async fn config(store: &MySqlStore) -> Arc<TaskConfig> {
        let new = NewApp { name: name("shop"), description: String::new(), owner: String::new() };
        let app = match store.create_app(new, None, &Actor::system(), NOW).await.unwrap() {
            IdempotencyResult::Fresh(AppSaved::Saved(app)) => app.id,
            other => panic!("{other:?}"),
        };
        let save = SaveConfig { app, spec: spec("plain"), expected: ExpectedVersion::Absent };
        match store.save_config(save, None, &Actor::system(), NOW).await.unwrap() {
            IdempotencyResult::Fresh(ConfigSaved::Created(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    /// What a process does four times a second.
    async fn follow(&self) {
        let _ = self.store.follow().await;
        let heartbeat = Heartbeat { config_seq: self.store.config_cache().seq(), ..Heartbeat::default() };
        assert!(matches!(self.store.renew(self.node, HOUR, heartbeat).await, Ok(Renewal::Alive { .. })));
    }

    async fn submit(&self, number: i64, key: Option<&str>) -> Result<TaskId, StoreError> {
        let new = NewTask {
            id: id(MOVED, number),
            config: self.config.id,
            key: key.map(|key| key_at(self.config.id, MOVED, self.store.shards(), key)),
            execute_at: NOW,
            payload: Some("{\"ä\": \"'\\\\\"}".into()),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, NOW));
        let submit =
            Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency: None };
        for answer in self.store.submit(vec![submit], NOW).await? {
            drop(answer);
        }
        Ok(id(MOVED, number))
    }

    async fn owner(&self) -> Option<Owner> {
        let renewed = self.store.renew_leases(self.node, HOUR).await.ok()?;
        let mine = |shard_group: &ShardGroup| shard_group.shard == shard(MOVED);
        if let Some((_, owner)) = renewed.held.into_iter().find(|(shard_group, _)| mine(shard_group)) {
            return Some(owner);
        }
        let shard_groups = self.store.shard_groups(&[name("default")]).await.ok()?;
        let seen = shard_groups.rows.into_iter().find(|row| mine(&row.shard_group))?;
        self.store.take(&seen, self.node, HOUR).await.ok()?
    }

    /// One turn of a fetcher and a worker: how many tasks have ended.
    async fn turn(&self, open: &mut HashMap<TaskId, Finish>) -> usize {
        self.follow().await;
        let Some(owner) = self.owner().await else { return 0 };
        let fetcher_store =
            self.store.fetcher_store(ShardGroup { group: name("default"), shard: shard(MOVED) });
        let in_flight = fetcher_store.in_flight(None, 1_000).await.unwrap_or_default();
        let queued = in_flight.rows.iter().filter(|row| row.status == Status::Queued);
        let _ = fetcher_store
            .return_to_scheduled(owner, queued.map(|row| (row.id, row.version)).collect(), NOW)
            .await;
        let request = ClaimRequest { config: self.config.id, due_by: NOW, limit: 40 };
        let claimed = fetcher_store.claim(owner, vec![request], NOW).await.unwrap_or_default();
        let attempt_store = self.store.attempt_store(Arc::new(NodeLease::for_ever()));
        let bare = |row: &BareRow| BeginRequest { id: row.id, version: row.version, row: None, token: None };
        let batch: Vec<_> = claimed.bare.iter().map(bare).collect();
        for begun in attempt_store.begin(self.node, batch, NOW).await {
            if let Ok(BeginResult::Run(row)) = begun {
                let verdict = Verdict::done();
                let finish = Finish {
                    id: row.id,
                    attempt: row.attempt,
                    verdict,
                    ended_at: None,
                    jitter_fraction: 0.5,
                    row: Some(row),
                };
                open.insert(finish.id, finish);
            }
        }
        // As a worker does: until it is answered that it is saved.
        let batch: Vec<Finish> = open.values().cloned().collect();
        let before = open.len();
        let saved = attempt_store.finish(self.node, batch.clone(), NOW).await;
        for (finish, saved) in batch.iter().zip(saved) {
            if saved.is_ok() {
                open.remove(&finish.id);
            }
        }
        before - open.len()
    }
}

async fn ended(store: &MySqlStore, id: TaskId) -> bool {
    let task = store.task(id).await.unwrap();
    task.is_some_and(|task| task.result == Some(EndResult::Succeeded) && task.attempt == 1)
}

async fn source_name(options: &MySqlOptions) -> (String, Option<String>) {
    let sources_of_shards = MySqlStore::shard_sources(options).await.unwrap();
    let source_name = sources_of_shards.into_iter().find(|source_name| source_name.shard == MOVED).unwrap();
    (source_name.source, source_name.moving_to)
}

fn at(source: &str) -> (String, Option<String>) {
    (source.to_owned(), None)
}

/// What the parts of the test tell each other.
#[derive(Default)]
struct Progress {
    finished: AtomicUsize,
    moves: AtomicUsize,
    submitted: Notify,
}

const MOVES: [&str; 4] = ["one", "two", "one", "two"];
/// The moves, and the submitter's end.
const OVER: usize = MOVES.len() + 1;

/// The ids that were accepted.
async fn submit_all(client: &Client, progress: &Progress) -> Vec<TaskId> {
    let mut number = 1;
    let mut all = Vec::new();
    while progress.moves.load(Ordering::Relaxed) < MOVES.len() {
        // Keys repeat as soon as they are free.
        let key = format!("key-{}", number % 50);
        match client.submit(number, (number % 2 == 0).then_some(&key)).await {
            Ok(id) => all.push(id),
            Err(error) => {
                assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
                client.follow().await;
                continue;
            }
        }
        number += 1;
        if number % 20 == 0 {
            client.follow().await;
        }
        progress.submitted.notify_one();
    }
    progress.moves.fetch_add(1, Ordering::Relaxed);
    all
}

async fn work_all(client: &Client, progress: &Progress) {
    let mut open = HashMap::new();
    let fetcher_store =
        client.store.fetcher_store(ShardGroup { group: name("default"), shard: shard(MOVED) });
    loop {
        let ended = client.turn(&mut open).await;
        progress.finished.fetch_add(ended, Ordering::Relaxed);
        if progress.moves.load(Ordering::Relaxed) == OVER
            && open.is_empty()
            && fetcher_store.earliest_due().await.is_ok_and(|earliest_due| earliest_due.is_empty())
            && fetcher_store.in_flight(None, 1).await.is_ok_and(|page| page.rows.is_empty())
        {
            return;
        }
    }
}

async fn move_all(options: &MySqlOptions, progress: &Progress) {
    for to in MOVES {
        let before = progress.finished.load(Ordering::Relaxed);
        while progress.finished.load(Ordering::Relaxed) < before + 30 {
            progress.submitted.notified().await;
        }
        let mut steps = Vec::new();
        let mut on_step = |step| {
            steps.push(step);
            true
        };
        MySqlStore::move_shard(options, MOVED, to, &mut on_step).await.unwrap();
        assert_eq!(steps.last(), Some(&MoveStep::Dropped), "{steps:?}");
        assert_eq!(source_name(options).await, at(to));
        progress.moves.fetch_add(1, Ordering::Relaxed);
    }
}

/// Each task that was accepted ends once, whatever the shard does meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_moves_back_and_forth_while_it_is_used() {
    let options = fresh().await;
    let (works, submits) = (Client::new(&options).await, Client::new(&options).await);
    let progress = Progress::default();
    let all = Box::pin(async {
        let submitted = submit_all(&submits, &progress);
        tokio::join!(submitted, work_all(&works, &progress), move_all(&options, &progress)).0
    });
    let all = tokio::time::timeout(Duration::from_mins(5), all).await.expect("nothing is stuck");
    let (mut done, mut held) = (0, 0);
    for id in &all {
        // A task that met its key in use was not made.
        if ended(&works.store, *id).await {
            done += 1;
        } else {
            assert!(works.store.task(*id).await.unwrap().is_none(), "{id} is there and has not ended once");
            held += 1;
        }
    }
    assert!(done > 100 && held < all.len() / 2, "{done} of {}", all.len());
    let fetcher_store = works.store.fetcher_store(ShardGroup { group: name("default"), shard: shard(MOVED) });
    let audit = fetcher_store.audit(NOW).await.unwrap();
    assert_eq!((audit.accepted, audit.ended, audit.open.len()), (done, done, 0));
}

type Steps = BTreeMap<&'static str, fn(MoveStep) -> bool>;

fn all_steps() -> Steps {
    let mut steps: Steps = BTreeMap::new();
    steps.insert("begun", |step| step == MoveStep::Begun);
    steps.insert("copied", |step| matches!(step, MoveStep::Copied(_)));
    steps.insert("renamed", |step| step == MoveStep::Renamed);
    steps.insert("complete", |step| step == MoveStep::Complete);
    steps.insert("installed", |step| step == MoveStep::Installed);
    steps.insert("switched", |step| step == MoveStep::Switched);
    steps.insert("known", |step| step == MoveStep::Known);
    steps
}

/// Does it while a process follows what happens.
async fn with_follower<T>(client: &Client, work: impl Future<Output = T>) -> T {
    let done = Notify::new();
    let working = async {
        let value = work.await;
        done.notify_one();
        value
    };
    let follows = async {
        let mut done = std::pin::pin!(done.notified());
        while futures::poll!(done.as_mut()).is_pending() {
            client.follow().await;
        }
        client.follow().await;
    };
    tokio::join!(working, follows).0
}

async fn interrupt(client: &Client, options: &MySqlOptions, to: &str, at: fn(MoveStep) -> bool) {
    let mut on_step = |step| !at(step);
    let moving = MySqlStore::move_shard(options, MOVED, to, &mut on_step);
    let error = with_follower(client, moving).await.unwrap_err();
    assert!(error.to_string().contains("broken off"), "{error}");
}

async fn finish(client: &Client, options: &MySqlOptions, to: &str) {
    let mut on_step = |_| true;
    with_follower(client, MySqlStore::move_shard(options, MOVED, to, &mut on_step)).await.unwrap();
    assert_eq!(source_name(options).await, at(to));
}

#[tokio::test]
async fn a_move_that_was_interrupted_goes_on() {
    let options = fresh().await;
    let client = Client::new(&options).await;
    let mut known = Vec::new();
    let mut targets = ["one", "two"].into_iter().cycle();
    for (number, (step, at)) in all_steps().into_iter().enumerate() {
        let number = i64::try_from(number).unwrap();
        known.push(client.submit(number * 2 + 1, Some(step)).await.unwrap());
        let to = targets.next().unwrap();
        interrupt(&client, &options, to, at).await;
        // Where it is in use it takes tasks, and where it stands still it says so and loses nothing.
        let more = client.submit(number * 2 + 2, None).await;
        let stands_still = ["renamed", "complete", "installed"].contains(&step);
        assert_eq!(more.is_err(), stands_still, "{step}: {more:?}");
        known.extend(more);
        let other = MySqlStore::move_shard(&options, MOVED, "three", &mut |_| true).await.unwrap_err();
        assert!(other.to_string().contains("is being moved to"), "{step}: {other}");
        finish(&client, &options, to).await;
        for id in &known {
            let task = client.store.task(*id).await.unwrap();
            assert_eq!(task.map(|task| task.status), Some(Status::Scheduled), "{step}: {id}");
        }
        let audit = client.store.fetcher_store(ShardGroup { group: name("default"), shard: shard(MOVED) });
        assert_eq!(audit.audit(NOW).await.unwrap().accepted, i64::try_from(known.len()).unwrap(), "{step}");
    }
}

#[tokio::test]
async fn a_move_is_taken_back_until_the_copy_is_in_place() {
    let options = fresh().await;
    let client = Client::new(&options).await;
    let task = client.submit(1, Some("kept")).await.unwrap();
    let owner = client.owner().await.unwrap();
    for (step, at_step) in all_steps() {
        if step == "known" {
            continue;
        }
        interrupt(&client, &options, "one", at_step).await;
        let undone = MySqlStore::undo_move(&options, MOVED, &mut |_| true).await;
        if ["installed", "switched"].contains(&step) {
            assert!(undone.is_err(), "{step}");
            finish(&client, &options, "one").await;
            finish(&client, &options, "two").await;
        } else {
            undone.unwrap();
        }
        assert_eq!(source_name(&options).await, at("two"), "{step}");
        client.follow().await;
        assert_eq!(client.store.task(task).await.unwrap().unwrap().status, Status::Scheduled, "{step}");
    }
    let next = client.owner().await.unwrap();
    assert!(next.epoch > owner.epoch, "{next:?} after {owner:?}");
    let none = MySqlStore::undo_move(&options, MOVED, &mut |_| true).await.unwrap_err();
    assert!(none.to_string().contains("not being moved"), "{none}");
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused() {
    let options = fresh().await;
    let refused = async |shard, to: &str| {
        MySqlStore::move_shard(&options, shard, to, &mut |_| true).await.unwrap_err().to_string()
    };
    assert!(refused(9, "one").await.contains("no shard 9"));
    assert!(refused(0, "three").await.contains("there are one, two"));
    let twin = SourceOptions { name: "twin".to_owned(), ..options.sources[0].clone() };
    let mut twice = options.clone();
    twice.sources.push(twin);
    let error = MySqlStore::move_shard(&twice, 0, "twin", &mut |_| true).await.unwrap_err().to_string();
    assert!(error.contains("same database"), "{error}");
    MySqlStore::move_shard(&options, 0, "one", &mut |_| true).await.expect("it is there already");
}

/// A table that is not listed would be left behind.
#[tokio::test]
async fn every_table_of_a_shard_is_moved() {
    let options = fresh().await;
    MySqlStore::move_shard(&options, MOVED, "one", &mut |_| true).await.unwrap();
    let database =
        |at: usize| options.sources[at].url.rsplit('/').next().and_then(|end| end.split('?').next());
    let left = sql(&mut connect(database(1).unwrap()).await, "SHOW TABLES LIKE '%\\_001'").await;
    assert!(left.is_empty(), "{} tables are left", left.len());
    let mut conn = connect(database(0).unwrap()).await;
    let own = sql(&mut conn, "SHOW TABLES LIKE '%\\_000'").await.len();
    assert_eq!(sql(&mut conn, "SHOW TABLES LIKE '%\\_001'").await.len(), own);
    let mut made = Vec::new();
    for table in ["task_000", "task_001"] {
        let text: String = sql(&mut conn, &format!("SHOW CREATE TABLE {table}")).await[0].get(1);
        made.push(text.replace(table, "task"));
    }
    assert!(made[0] == made[1] && made[1].contains("STORED"), "{made:?}");
}

#[tokio::test]
async fn a_shard_does_not_stand_still_because_the_target_fails() {
    let options = fresh().await;
    let client = Client::new(&options).await;
    let task = client.submit(1, Some("kept")).await.unwrap();
    let database = options.sources[0].url.rsplit('/').next().and_then(|end| end.split('?').next()).unwrap();
    let mut steps = Vec::new();
    let mut on_step = |step| {
        if step == MoveStep::Renamed {
            peers::MariaDb::shared().sql(&format!("DROP TABLE {database}.copy_history_001")).unwrap();
        }
        steps.push(step);
        true
    };
    let error = MySqlStore::move_shard(&options, MOVED, "one", &mut on_step).await.unwrap_err().to_string();
    assert!(error.contains("is back where it was"), "{error}");
    assert_eq!(steps.last(), Some(&MoveStep::Undone), "{steps:?}");
    assert_eq!(source_name(&options).await, at("two"));
    client.submit(2, None).await.expect("it is in use again");
    finish(&client, &options, "one").await;
    assert_eq!(client.store.task(task).await.unwrap().unwrap().status, Status::Scheduled);
}

/// Its tables have other names meanwhile.
#[tokio::test]
async fn a_shard_is_not_upgraded_on_its_way() {
    let options = fresh().await;
    let client = Client::new(&options).await;
    interrupt(&client, &options, "one", |step| step == MoveStep::Renamed).await;
    MySqlStore::migrate(&options, NOW).await.expect("there is nothing to be done");
    let database = options.sources[1].url.rsplit('/').next().and_then(|end| end.split('?').next()).unwrap();
    let mut conn = connect(database).await;
    sql(&mut conn, "CREATE TABLE kept AS SELECT * FROM schema_version WHERE part = 'shard_001'").await;
    sql(&mut conn, "DELETE FROM schema_version WHERE part = 'shard_001'").await;
    let refused = MySqlStore::migrate(&options, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("shard 1 was being moved") && refused.contains("--to 'one'"), "{refused}");
    sql(&mut conn, "INSERT INTO schema_version SELECT * FROM kept").await;
    finish(&client, &options, "one").await;
}
