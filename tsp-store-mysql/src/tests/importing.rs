//! Carrying an embedded store over to a cluster.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;
use tsp_core::config::{
    AsyncPolicy, ConfigSpec, HttpTarget, Kind, OnDuplicateKey, Secret, Target, TaskConfig,
};
use tsp_core::outcome::{Outcome, RetryDelay};
use tsp_core::schedule::{Every, Overlap, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Status, Task};
use tsp_core::{AppId, IdGenerator, Millis, ShardId, TaskId, TaskKey, Verdict};
use tsp_store::attempts::{AttemptStore as _, BeginResult, Finish, all};
use tsp_store::catalog::{
    AppSaved, AuditLog as _, Catalog as _, ConfigSaved, ExpectedVersion, NewApp, NewKey, SaveConfig, Scope,
};
use tsp_store::cluster::{LeaseStore as _, NewNode, ShardGroup};
use tsp_store::error::StoreError;
use tsp_store::fetching::{
    AuditorStore as _, ClaimRequest, EmbeddedOwnership as _, FetcherStore as _, Fire, FireResult, Owner,
    SlotTask,
};
use tsp_store::id_source::IdSlots as _;
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};
use tsp_store::tasks::{Actor, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore as _};
use tsp_store::transfer::{Cell, ExportSource as _, TableColumns};
use tsp_store_sqlite::{SqliteOptions, SqliteStore, Synchronous};
use tsp_store_testing::fire_one;

use crate::tests::fixture::{NOW, message, name, spec};
use crate::tests::site::{connect, options, sql};
use crate::{ImportProgress, ImportReport, MySqlOptions, MySqlStore};

const SHARDS: u16 = 4;
const LATER: tsp_core::Timestamp = NOW.plus(Millis::from_mins(1));

/// An embedded store, and what was made in it.
struct Old {
    store: Arc<SqliteStore>,
    owner: Owner,
    ids: IdGenerator,
    plain: Arc<TaskConfig>,
    cron: Arc<TaskConfig>,
    made: Vec<TaskId>,
}

fn open(dir: &Path) -> Arc<SqliteStore> {
    let synchronous = Synchronous::Normal;
    let options = SqliteOptions { synchronous, shards: SHARDS, ..SqliteOptions::file(dir.join("tsp.db")) };
    SqliteStore::open(&options, NOW).unwrap()
}

async fn config(store: &SqliteStore, app: AppId, spec: ConfigSpec) -> Arc<TaskConfig> {
    let save = SaveConfig { app, spec, expected: ExpectedVersion::Absent };
    match store.save_config(save, None, &Actor::system(), NOW).await.unwrap() {
        IdempotencyResult::Fresh(ConfigSaved::Created(config)) => config,
        other => panic!("{other:?}"),
    }
}

impl Old {
    async fn make(dir: &Path) -> Self {
        let store = open(dir);
        let by = Actor::system();
        let new =
            |app: &str| NewApp { name: name(app), description: "ä ' \\".to_owned(), owner: String::new() };
        let mut apps = Vec::new();
        for app in ["gone", "shop"] {
            match store.create_app(new(app), None, &by, NOW).await.unwrap() {
                IdempotencyResult::Fresh(AppSaved::Saved(app)) => apps.push(app.id),
                other => panic!("{other:?}"),
            }
        }
        store.delete_app(apps[0], &by, NOW).await.unwrap();
        let target = Target::Http(Arc::new(HttpTarget {
            method: "POST".to_owned(),
            url: "http://receiver.internal/".to_owned(),
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::from([("authorization".to_owned(), Secret::new("Bearer hush"))]),
            tls: None,
        }));
        let asynchronous = AsyncPolicy { enabled: true, deadline: Millis::from_mins(15) };
        let secrets = vec![Secret::new("whsec_aHVzaA==")];
        let plain = ConfigSpec { target, asynchronous, signing_secrets: secrets, ..spec("plain") };
        let plain = config(&store, apps[1], plain).await;
        let every = Schedule::new(Trigger::Every(Every { interval: Millis::from_secs(10), anchor: NOW }));
        let cron = ConfigSpec { kind: Kind::Cron, schedule: Some(every), span: 1, ..spec("cron") };
        let cron = config(&store, apps[1], cron).await;
        for (number, app) in [(1, None), (2, Some(apps[1]))] {
            let key = NewKey {
                app,
                name: "ops ☕".to_owned(),
                scopes: vec![Scope::Read, Scope::Submit],
                hash: [number; 32],
                prefix: "tsp_".to_owned(),
                rate_limit: None,
                expires_at: Some(LATER),
            };
            store.create_key(key, &by, NOW).await.unwrap();
        }
        let node = store.register_node("old", NOW).await.unwrap();
        let owner = store.take_shards(node, NOW).await.unwrap();
        let ids = IdGenerator::new(0, NOW, LATER);
        Self { store, owner, ids, plain, cron, made: Vec::new() }
    }

    fn id(&mut self, shard: u16) -> TaskId {
        self.ids.next(ShardId::new(shard).unwrap(), NOW).unwrap()
    }

    /// On all shards in turn, every third with a key.
    async fn submit(&mut self, count: u16) -> Vec<TaskId> {
        let mut batch = Vec::new();
        let mut made = Vec::new();
        for number in 0..count {
            let text = format!("bestellung-{number}-ключ-\u{1f980}-'\\-{}", self.made.len());
            let key = number.is_multiple_of(3).then(|| TaskKey::new(&text).unwrap());
            let home =
                key.as_ref().map(|key| tsp_core::task_key::key_shard(self.plain.id, key.as_str(), 0, SHARDS));
            let id = self.id(home.map_or(number % SHARDS, ShardId::get));
            let new = NewTask {
                id,
                config: self.plain.id,
                key,
                execute_at: NOW,
                payload: Some(format!("{{\"n\":{number},\"t\":\"ä'\\\\\"}}").into()),
                expire_after: (number % 7 == 0).then_some(Millis::from_hours(1)),
                origin: Origin::Submit,
                extra: None,
            };
            let task = Box::new(Task::new(new, NOW));
            let render = |_: &SubmitOutcome| {
                Some(StoredAnswer { status: 201, body: "{\"ä\":1}".into(), location: None })
            };
            let idempotency = (number % 5 == 0).then(|| IdempotencyRequest {
                hash: hash(id),
                body_hash: [9; 32],
                expires_at: LATER,
                render: Box::new(render),
            });
            batch.push(Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency });
            made.push(id);
        }
        self.store.submit(batch, NOW).await.unwrap();
        self.made.extend(&made);
        made
    }

    async fn begin(&self, limit: usize) -> Vec<Box<Task>> {
        let mut begun = Vec::new();
        for message in self.claim(limit).await.iter().map(|task| message(task)) {
            let token = Some([3; 32]);
            let message = tsp_store::attempts::BeginRequest { token, ..message };
            for one in all(self.store.begin(self.owner.node, vec![message], NOW).await).unwrap() {
                let BeginResult::Run(row) = one else { panic!("{one:?}") };
                begun.push(row);
            }
        }
        begun
    }

    async fn claim(&self, limit: usize) -> Vec<Box<Task>> {
        let request = ClaimRequest { config: self.plain.id, due_by: NOW, limit };
        self.store.claim(self.owner, vec![request], NOW).await.unwrap().tasks
    }

    /// Of each kind some: ended in all ways, tried again, awaited, paused, claimed, begun.
    async fn live(&mut self) {
        self.submit(120).await;
        let accepted = Verdict::new(Outcome::Accepted, "202").with_status(202);
        let again =
            Verdict::new(Outcome::Retry(RetryDelay::Exactly(Millis::from_secs(30))), "503").with_status(503);
        for (at, row) in self.begin(60).await.into_iter().enumerate() {
            let verdict = match at % 4 {
                0 => Verdict { excerpt: Some("antwort ✓".into()), ..Verdict::done() },
                1 => Verdict::fail("gone for good").with_status(410),
                2 => accepted.clone(),
                _ => again.clone(),
            };
            let finish = Finish {
                id: row.id,
                attempt: row.attempt,
                verdict,
                ended_at: None,
                jitter_fraction: 0.5,
                row: Some(row),
            };
            all(self.store.finish(self.owner.node, vec![finish], NOW).await).unwrap();
        }
        let by = Actor::system();
        for (id, command) in [
            (self.made[100], TaskCommand::Pause),
            (self.made[101], TaskCommand::Cancel),
            (self.made[102], TaskCommand::Pause),
        ] {
            self.store.change(Subject::Id(id), command, &by, NOW).await.unwrap();
        }
        self.fire().await;
        self.begin(5).await;
        self.claim(5).await;
        self.store.renew_id_slot(0, LATER).await.unwrap();
    }

    async fn fire(&mut self) {
        let cursor = self.store.cursors().await.unwrap().remove(0);
        let home = tsp_core::task_key::config_shard(self.cron.id, SHARDS).get();
        let mut slots = Vec::new();
        for number in 1..=3 {
            let new = NewTask {
                id: self.id(home),
                config: self.cron.id,
                key: None,
                execute_at: NOW.plus(Millis::from_secs(number * 10)),
                payload: None,
                expire_after: None,
                origin: Origin::Schedule,
                extra: None,
            };
            self.made.push(new.id);
            slots.push(SlotTask { task: Box::new(Task::new(new, NOW)), late: number == 1 });
        }
        let fire = Fire {
            overlap: Overlap::Allow,
            slots,
            missed: 2,
            ..Fire::without_slots(&self.cron, cursor.version, Some(LATER))
        };
        let fired = fire_one(&*self.store, self.owner, fire, NOW).await.unwrap();
        assert!(matches!(fired, FireResult::Moved { .. }), "{fired:?}");
    }
}

fn hash(id: TaskId) -> [u8; 32] {
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = id.get().to_le_bytes()[at % 8].wrapping_mul(31).wrapping_add(u8::try_from(at).unwrap());
    }
    hash
}

/// A cluster that was just made.
async fn cluster() -> (MySqlOptions, String) {
    let server = peers::MariaDb::shared();
    let (meta, main) = (server.create_database("meta"), server.create_database("main"));
    let options = options(server.url(&meta), server.url(&main), SHARDS, [5; 32]);
    let options = MySqlOptions { connections: 4, allow_unsynced: true, ..options };
    MySqlStore::migrate(&options, NOW).await.unwrap();
    (options, meta)
}

async fn import(options: &MySqlOptions, old: &SqliteStore) -> Result<ImportReport, StoreError> {
    MySqlStore::import_embedded(options, old, LATER, &mut |_| true).await
}

async fn compare(old: &Old, new: &MySqlStore) {
    for id in &old.made {
        let (here, there) = (old.store.task(*id).await.unwrap(), new.task(*id).await.unwrap());
        assert!(here.is_some() && here == there, "{here:?}\n{there:?}");
        assert_eq!(old.store.attempts(*id).await.unwrap(), new.attempts(*id).await.unwrap());
        let task = here.unwrap();
        if let Some(key) = task.key {
            assert_eq!(new.task_by_key(task.config, &key).await.unwrap().map(|task| task.id), Some(*id));
        }
    }
    let (mut here, mut there) = (old.store.config_cache().all_configs(), new.config_cache().all_configs());
    here.sort_by_key(|config| config.id);
    there.sort_by_key(|config| config.id);
    assert_eq!(here, there, "with their secrets, under another key");
    assert_eq!(old.store.keys(None).await.unwrap(), new.keys(None).await.unwrap());
    let app = old.plain.app_id;
    assert_eq!(old.store.keys(Some(app)).await.unwrap(), new.keys(Some(app)).await.unwrap());
    assert!(new.key_by_hash(&[1; 32]).await.unwrap().is_some());
    let log = new.audit_log(100).await.unwrap();
    assert!(!log.is_empty() && log == old.store.audit_log(100).await.unwrap());
    let wanted = old.store.audit(NOW).await.unwrap();
    let (mut accepted, mut ended, mut open, mut cursors) = (0, 0, 0, Vec::new());
    for number in 0..SHARDS {
        let shard_group = ShardGroup { group: name("default"), shard: ShardId::new(number).unwrap() };
        let audit = new.fetcher_store(shard_group).audit(NOW).await.unwrap();
        let here: i64 = audit.open.iter().map(|(_, count)| count).sum();
        assert_eq!(audit.accepted, audit.ended + here, "shard {number}");
        accepted += audit.accepted;
        ended += audit.ended;
        open += here;
        cursors.extend(audit.cursors);
    }
    let all: i64 = wanted.open.iter().map(|(_, count)| count).sum();
    assert_eq!((accepted, ended, open), (wanted.accepted, wanted.ended, all));
    assert_eq!(cursors, old.store.cursors().await.unwrap());
}

#[tokio::test]
async fn everything_is_imported_and_the_old_store_serves_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::make(dir.path()).await;
    old.live().await;
    let (options, _) = cluster().await;
    let report = import(&options, &old.store).await.unwrap();
    let rows = |table: &str| -> i64 {
        let found = report.tables.iter().find(|one| one.table == table);
        found.unwrap().rows.iter().sum()
    };
    assert!(!report.before);
    assert_eq!((rows("app"), rows("config"), rows("api_key"), rows("occurrence")), (1, 2, 2, 3));
    assert_eq!(rows("task") + rows("history"), i64::try_from(old.made.len()).unwrap());
    assert!(rows("attempt") > 10 && rows("idempotency") == 24, "{report:?}");

    let new = MySqlStore::open(&options).await.unwrap();
    compare(&old, &new).await;
    for id in &old.made {
        let status = new.task(*id).await.unwrap().unwrap().status;
        assert!(![Status::Queued, Status::Executing].contains(&status), "{id}: {status:?}");
    }
    // A repeat of a call gets its first answer, an id is not made twice, and nor is one of a row that is gone.
    let again = old.made[0];
    let idempotency = IdempotencyRequest {
        hash: hash(again),
        body_hash: [9; 32],
        expires_at: LATER,
        render: Box::new(|_| None),
    };
    let task = Box::new(Task::clone(&new.task(again).await.unwrap().unwrap()));
    let submit = Submit {
        task,
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: Some(idempotency),
    };
    let answers = new.submit(vec![submit], NOW).await.unwrap();
    assert!(
        matches!(&answers[0], IdempotencyResult::Replayed(answer) if answer.status == 201),
        "{answers:?}"
    );
    assert!(new.renew_id_slot(0, NOW).await.unwrap() >= LATER);
    let node = NewNode { name: "n".to_owned(), roles: vec![], version: "t".to_owned(), address: None };
    assert!(new.join(node, Millis::from_secs(5)).await.unwrap() > old.owner.node);
    let apps = NewApp { name: name("next"), description: String::new(), owner: String::new() };
    let made = new.create_app(apps, None, &Actor::system(), NOW).await.unwrap();
    let IdempotencyResult::Fresh(AppSaved::Saved(app)) = made else { panic!("{made:?}") };
    assert!(app.id > old.plain.app_id);

    assert!(import(&options, &old.store).await.unwrap().before);
    let node = old.store.register_node("late", NOW).await.unwrap();
    let refused = old.store.take_shards(node, NOW).await.unwrap_err().to_string();
    assert!(refused.contains("carried over to a cluster"), "{refused}");
    new.close().await;
}

/// Interrupted after each of its first pages, and in the middle of a page.
#[tokio::test]
async fn what_was_interrupted_goes_on_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Old::make(dir.path()).await;
    old.live().await;
    let (options, _) = cluster().await;
    let mut times = 0;
    loop {
        let (seen, mut pages) = (Notify::new(), 0);
        let mut on_page = |_: ImportProgress| {
            pages += 1;
            seen.notify_one();
            // Every second time the next page is under way when all stops.
            times % 2 == 1 || pages < 2
        };
        let done = tokio::select! {
            done = MySqlStore::import_embedded(&options, &*old.store, LATER, &mut on_page) => Some(done),
            () = async {
                seen.notified().await;
                tokio::task::yield_now().await;
            }, if times % 2 == 1 => None,
        };
        times += 1;
        match done {
            Some(Ok(report)) => {
                assert!(!report.before);
                break;
            }
            Some(Err(error)) => assert!(error.to_string().contains("broken off"), "{error}"),
            None => {}
        }
        let half = MySqlStore::open(&options).await.unwrap_err().to_string();
        assert!(half.contains("migrate-data"), "{half}");
    }
    assert!(times > 4, "{times}");
    let new = MySqlStore::open(&options).await.unwrap();
    compare(&old, &new).await;
    println!("{times} times");
}

#[tokio::test]
async fn a_cluster_that_is_not_empty_and_a_store_in_use_are_refused() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut one = Old::make(dirs[0].path()).await;
    let two = Old::make(dirs[1].path()).await;
    one.submit(20).await;
    let (options, meta) = cluster().await;
    let refused = async |old: &SqliteStore| import(&options, old).await.unwrap_err().to_string();

    let mut more = MySqlOptions { shards: 8, ..options.clone() };
    more.sources[0].shards = 0..=7;
    let shards = import(&more, &one.store).await.unwrap_err().to_string();
    assert!(shards.contains("4 shards and the cluster 8"), "{shards}");

    let mut conn = connect(&meta).await;
    sql(
        &mut conn,
        "INSERT INTO app (name, description, owner, created_at, updated_at) VALUES ('x', '', '', 0, 0)",
    )
    .await;
    let used = refused(&one.store).await;
    assert!(used.contains("in use already") && used.contains("`app`"), "{used}");
    sql(&mut conn, "DELETE FROM app").await;

    let running = MySqlStore::open(&options).await.unwrap();
    let node = NewNode { name: "web-1".to_owned(), roles: vec![], version: "t".to_owned(), address: None };
    let node = running.join(node, Millis::from_hours(1)).await.unwrap();
    let error = refused(&one.store).await;
    assert!(error.contains("processes of the cluster run: web-1"), "{error}");
    running.leave(node).await.unwrap();

    MySqlStore::import_embedded(&options, &*one.store, LATER, &mut |_| false).await.unwrap_err();
    let error = refused(&two.store).await;
    assert!(error.contains("another embedded store"), "{error}");
    one.store.register_node("served", LATER).await.unwrap();
    let error = refused(&one.store).await;
    assert!(error.contains("was served since"), "{error}");
}

/// A table that is not listed would be left behind; these are made again, or are about the old process alone.
#[tokio::test]
async fn every_table_is_imported_or_known_not_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let old = Old::make(dir.path()).await;
    let (options, _) = cluster().await;
    let report = import(&options, &old.store).await.unwrap();
    let own = [
        "settings",
        "schema_migration",
        "config_change",
        "node",
        "id_slot",
        "shard_epoch",
        "shard_lease",
        "balance",
    ];
    let schema = TableColumns { table: "sqlite_schema", columns: "name, type", keys: &["name"] };
    for row in old.store.page(schema, None, 1_000).await.unwrap() {
        let [Cell::Text(table), Cell::Text(kind)] = &*row else { panic!("{row:?}") };
        if kind != "table" || table.starts_with("sqlite_") {
            continue;
        }
        let table_import = report.tables.iter().any(|one| one.table == table);
        assert!(table_import || own.contains(&&**table), "table `{table}` is left behind");
    }
}
