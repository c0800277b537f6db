//! What is filled in is there, and the stores read it as their own.

use std::sync::Arc;

use tsp_core::config::{ConfigSpec, HttpTarget, Kind, OnDuplicateKey, TaskConfig};
use tsp_core::ids::IdGenerator;
use tsp_core::schedule::{Every, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::task_key::{config_shard, key_shard};
use tsp_core::{ManualClock, Millis, Name, TaskKey, Timestamp};
use tsp_store::catalog::{AppSaved, ConfigSaved, ExpectedVersion, NewApp, SaveConfig};
use tsp_store::cluster::ShardGroup;
use tsp_store::fetching::{Audit, AuditorStore as _, ClaimRequest, FetcherStore, Owner};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand};
use tsp_store::{EmbeddedOwnership as _, Store};
use tsp_store_mysql::{MySqlOptions, MySqlStore, SourceOptions};
use tsp_store_sqlite::{SqliteOptions, SqliteStore};

use super::*;
use crate::cluster::SHARDS;
use crate::raw::Counter;
use crate::tasks::Keys;

const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);
const SLOT: i64 = 1_795_260_000_000;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// An app with these configs, by the order in which they were made.
async fn make_configs(store: &dyn Store, configs: &[&str], kind: Kind) -> Vec<Arc<TaskConfig>> {
    let by = Actor::system();
    let new = NewApp { name: name("bench"), description: String::new(), owner: String::new() };
    let IdempotencyResult::Fresh(AppSaved::Saved(app)) = store.create_app(new, None, &by, NOW).await.unwrap()
    else {
        panic!("the app was not made")
    };
    let mut made = Vec::new();
    for config in configs {
        let every = Every::new(Millis::from_hours(1), Timestamp::ZERO).unwrap();
        let schedule = (kind == Kind::Cron).then(|| Schedule::new(Trigger::Every(every)));
        let spec = ConfigSpec::new(name(config), HttpTarget::post("http://receiver.internal/"));
        let save = SaveConfig {
            app: app.id,
            spec: ConfigSpec { kind, schedule, ..spec },
            expected: ExpectedVersion::Absent,
        };
        let IdempotencyResult::Fresh(ConfigSaved::Created(config)) =
            store.save_config(save, None, &by, NOW).await.unwrap()
        else {
            panic!("`{config}` was not made")
        };
        made.push(config);
    }
    made
}

/// A task of each config.
async fn submit(store: &dyn Store, configs: &[Arc<TaskConfig>]) -> Vec<Task> {
    let mut ids = IdGenerator::new(0, Timestamp::ZERO, NOW.plus(Millis::from_days(1)));
    let mut made = Vec::new();
    for config in configs {
        let shard = key_shard(config.id, "first", config.spec.span, SHARDS);
        let new = NewTask {
            id: ids.next(shard, NOW).unwrap(),
            config: config.id,
            key: Some(TaskKey::new("first").unwrap()),
            execute_at: NOW.plus(Millis::from_days(100)),
            payload: Some("{\"n\":1}".into()),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, NOW));
        let submit =
            Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency: None };
        let answers = store.submit(vec![submit], NOW).await.unwrap();
        let [IdempotencyResult::Fresh(SubmitOutcome::Created(task))] = &answers[..] else {
            panic!("{answers:?}")
        };
        made.push((**task).clone());
    }
    made
}

async fn make_history(store: &dyn Store) -> Vec<Task> {
    let configs = make_configs(store, &["a", "b"], Kind::Delayed).await;
    let tasks = submit(store, &configs).await;
    for task in &tasks {
        let subject = Subject::Id(task.id);
        let changed = store.change(subject, TaskCommand::Cancel, &Actor::system(), NOW).await.unwrap();
        assert!(matches!(changed, CommandResult::Done { .. }), "{changed:?}");
    }
    tasks
}

/// Five copies of each.
async fn check_history(store: &dyn Store, tasks: &[Task]) {
    let keys = Keys::Ended { each: 1 };
    for task in tasks {
        let mut newer = None;
        for number in (0..5).rev() {
            let key = TaskKey::new(&keys.of(number)).unwrap();
            let copy = store.task_by_key(task.config, &key).await.unwrap().unwrap();
            assert_eq!((copy.status, copy.id.shard()), (Status::Ended, task.id.shard()));
            assert!(copy.id < newer.unwrap_or(task.id), "{copy:?}");
            assert_eq!((copy.payload.as_deref(), copy.version), (task.payload.as_deref(), 2));
            assert_eq!(store.task(copy.id).await.unwrap().as_ref(), Some(&copy));
            newer = Some(copy.id);
        }
        let none = TaskKey::new(&keys.of(5)).unwrap();
        assert_eq!(store.task_by_key(task.config, &none).await.unwrap(), None);
    }
}

fn check_sums(audit: &Audit, accepted: i64, ended: i64) {
    assert_eq!((audit.accepted, audit.ended), (accepted, ended));
    let open: i64 = audit.open.iter().map(|(_, rows)| rows).sum();
    assert_eq!(open, accepted - ended);
    assert!(audit.orphans.is_empty(), "{audit:?}");
}

fn open(file: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(&SqliteOptions::file(file), NOW).unwrap()
}

async fn own(store: &SqliteStore) -> Owner {
    store.take_shards(store.register_node("bench", NOW).await.unwrap(), NOW).await.unwrap()
}

fn mysql_options(databases: &Databases) -> MySqlOptions {
    let server = MariaDb::shared();
    let (clock, entropy) = (Arc::new(ManualClock::at(NOW)), Arc::new(Counter::default()));
    let sources = databases.sources(server).map(|(name, shards, url)| SourceOptions {
        name: name.to_owned(),
        url,
        shards,
    });
    let meta = server.url(&databases.meta);
    MySqlOptions {
        sources: sources.into(),
        allow_unsynced: true,
        ..MySqlOptions::new(meta, String::new(), SHARDS, [7; 32], clock, entropy)
    }
}

async fn cluster() -> (MySqlStore, Databases) {
    let databases = Databases::create(MariaDb::shared());
    let options = mysql_options(&databases);
    MySqlStore::migrate(&options, NOW).await.unwrap();
    (MySqlStore::open(&options).await.unwrap(), databases)
}

fn tables(databases: &Databases) -> Tables<'_> {
    Tables::Cluster { server: MariaDb::shared(), databases }
}

fn configs_of(store: &dyn Store) -> Vec<Arc<TaskConfig>> {
    let mut all = store.config_cache().all_configs();
    all.sort_by_key(|config| config.id);
    all
}

/// `herd-0` and its copies are alike but for what names them.
fn check_configs(store: &dyn Store) {
    let all = configs_of(store);
    let names: Vec<_> = all.iter().map(|config| config.spec.name.as_str().to_owned()).collect();
    assert_eq!(names, ["herd-0", "herd-1", "herd-2", "herd-3"]);
    for config in &all {
        let spec = ConfigSpec { name: name("herd-0"), ..config.spec.clone() };
        assert_eq!((&spec, config.version), (&all[0].spec, all[0].version));
    }
}

#[tokio::test]
async fn ended_tasks_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tsp.db");
    let store = open(&file);
    let tasks = make_history(&*store).await;
    store.close().await;
    drop(store);
    Tables::File(&file).add_history(&["a".to_owned(), "b".to_owned()], 10).unwrap();
    let store = open(&file);
    check_history(&*store, &tasks).await;
    check_sums(&store.audit(NOW).await.unwrap(), 12, 12);
    store.close().await;
}

#[tokio::test]
async fn ended_tasks_in_a_cluster() {
    let (store, databases) = cluster().await;
    let tasks = make_history(&store).await;
    tables(&databases).add_history(&["a".to_owned(), "b".to_owned()], 10).unwrap();
    check_history(&store, &tasks).await;
    for task in &tasks {
        let shard_group = ShardGroup { group: name("default"), shard: task.id.shard() };
        let audit = store.fetcher_store(shard_group).audit(NOW).await.unwrap();
        check_sums(&audit, audit.accepted, audit.accepted);
        assert!(audit.accepted == 6 || audit.accepted == 12, "{audit:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn open_tasks_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tsp.db");
    let store = open(&file);
    let configs = make_configs(&*store, &["a", "b"], Kind::Delayed).await;
    submit(&*store, &configs).await;
    store.close().await;
    drop(store);
    // Tasks with keys and, an hour later, tasks without.
    for (bare, hour) in [(false, 1), (true, 2)] {
        let due = |number: &str, place: &str| {
            format!("{} + {number} * 10 + {place}", NOW.plus(Millis::from_hours(hour)).ms())
        };
        let open_tasks = sqlite::OpenTasks { copies: if bare { 1 } else { 3 }, due: &due, bare };
        let added = sqlite::add_open(&file, open_tasks).unwrap();
        // Those that are there are copied, each of them.
        assert_eq!(added.len(), if bare { 8 } else { 2 });
    }
    let store = open(&file);
    let owner = own(&store).await;
    let due: Vec<_> = store.earliest_due().await.unwrap().iter().map(|first| first.due_at).collect();
    let hour = NOW.plus(Millis::from_hours(1));
    assert_eq!(due, [hour.plus(Millis::from_ms(10)), hour.plus(Millis::from_ms(11))]);
    let request = |hours, config: &Arc<TaskConfig>| ClaimRequest {
        config: config.id,
        due_by: NOW.plus(Millis::from_hours(hours)).plus(Millis::from_secs(1)),
        limit: 100,
    };
    for (hours, keyed) in [(1, true), (2, false)] {
        let requests = configs.iter().map(|config| request(hours, config)).collect();
        let claimed = store.claim(owner, requests, NOW).await.unwrap();
        assert_eq!(claimed.tasks.len(), if keyed { 6 } else { 8 });
        for task in &claimed.tasks {
            assert_eq!((task.key.is_some(), task.payload.is_some()), (keyed, keyed), "{task:?}");
            assert_eq!(task.status, Status::Queued);
        }
    }
    check_sums(&store.audit(NOW).await.unwrap(), 16, 0);
    store.close().await;
}

#[tokio::test]
async fn configs_and_cursors_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tsp.db");
    let store = open(&file);
    make_configs(&*store, &["herd-0"], Kind::Cron).await;
    store.close().await;
    drop(store);
    Tables::File(&file).add_configs("herd", 3).unwrap();
    Tables::File(&file).add_cursors("herd", SLOT).unwrap();
    let store = open(&file);
    check_configs(&*store);
    check_cursors(&*store, 3).await;
    store.close().await;
}

#[tokio::test]
async fn configs_and_cursors_in_a_cluster() {
    let (store, databases) = cluster().await;
    make_configs(&store, &["herd-0"], Kind::Cron).await;
    store.close().await;
    tables(&databases).add_configs("herd", 3).unwrap();
    tables(&databases).add_cursors("herd", SLOT).unwrap();
    let store = MySqlStore::open(&mysql_options(&databases)).await.unwrap();
    check_configs(&store);
    for config in &configs_of(&store)[1..] {
        let shard_group = ShardGroup { group: name("default"), shard: config_shard(config.id, SHARDS) };
        let fetcher_store = store.fetcher_store(shard_group);
        let cursors = fetcher_store.cursors_of(&[config.id]).await.unwrap();
        assert_eq!(cursors[0].next_fire_at, Some(Timestamp::from_ms(SLOT)));
        assert_eq!(cursors[0].config_version, config.version);
    }
    store.close().await;
}

/// So many stand at the slot.
async fn check_cursors(store: &dyn FetcherStore, wanted: usize) {
    let cursors = store.cursors().await.unwrap();
    let slot = Some(Timestamp::from_ms(SLOT));
    let there = cursors.iter().filter(|cursor| cursor.next_fire_at == slot && cursor.config_version == 1);
    assert_eq!(there.count(), wanted, "{cursors:?}");
}

#[test]
fn chunks_are_all_numbers_once() {
    assert_eq!(chunks(7, 3).collect::<Vec<_>>(), [(1, 3), (4, 6), (7, 7)]);
    assert_eq!(chunks(6, 3).collect::<Vec<_>>(), [(1, 3), (4, 6)]);
    assert_eq!(chunks(0, 3).count(), 0);
    assert_eq!(chunks(2, 0).count(), 2);
}

#[test]
fn a_disk_that_is_too_small_is_refused_before() {
    let refused = ensure_room(1 << 40, 1 << 20).unwrap_err().to_string();
    assert!(refused.contains("give fewer rows"), "{refused}");
}
