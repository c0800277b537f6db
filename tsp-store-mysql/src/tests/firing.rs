//! Steps of schedules whose cursor does not stand where their config does: the two are in different databases; and
//! how many statements they take.

use std::sync::Arc;

use sqlx::Row as _;
use tsp_core::Millis;
use tsp_core::config::{ConfigSpec, Kind, TaskConfig};
use tsp_core::schedule::{Every, Overlap, Schedule, Trigger};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::config_shard;
use tsp_store::catalog::{Catalog as _, ExpectedVersion, SaveConfig};
use tsp_store::error::StoreError;
use tsp_store::fetching::{AuditorStore as _, Cursor, FetcherStore as _, Fire, FireResult, SlotTask};
use tsp_store::tasks::{Actor, TaskStore as _};
use tsp_store_testing::fire_one;

use crate::tests::fixture::{HOUR, NOW, Process, id, shard, spec};
use crate::tests::site::{connect, sql};
use crate::{MySqlOptions, MySqlStore};

fn cron(name: &str) -> ConfigSpec {
    let every = Schedule::new(Trigger::Every(Every { interval: Millis::from_secs(10), anchor: NOW }));
    ConfigSpec { kind: Kind::Cron, schedule: Some(every), span: 1, ..spec(name) }
}

#[tokio::test]
async fn a_missing_cursor_is_made_and_one_without_its_schedule_fires_nothing() {
    let process = Process::first().await;
    let app = process.app().await;
    let config = process.config(app, cron("cron")).await;
    let shard = config_shard(config.id, process.store.shards()).get();
    let owner = process.take("default", shard, HOUR).await;
    let of = process.fetcher_store("default", shard);
    let mut conn = connect(process.databases.source_of(shard)).await;
    let fire = |config_version| Fire { config_version, ..Fire::without_slots(&config, 1, Some(NOW)) };

    sql(&mut conn, &format!("DELETE FROM cursor_{shard:03}")).await;
    let fired = fire_one(&of, owner, fire(1), NOW).await.unwrap();
    let FireResult::Moved { cursor, .. } = fired else { panic!("{fired:?}") };
    assert_eq!(of.cursors_of(&[config.id]).await.unwrap(), [cursor]);

    let bare = ConfigSpec { schedule: None, ..config.spec.clone() };
    let save = SaveConfig { app, spec: bare, expected: ExpectedVersion::Any };
    process.store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
    let values = format!("({}, 1, 0, 0)", config.id);
    let insert = "(config_id, version, config_version, missed) VALUES";
    sql(&mut conn, &format!("INSERT INTO cursor_{shard:03} {insert} {values}")).await;
    assert_eq!(fire_one(&of, owner, fire(2), NOW).await.unwrap(), FireResult::Stale);
    assert_eq!(of.cursors().await.unwrap(), []);
}

/// Crons of one shard, and a store that reaches it by one connection.
struct Herd {
    process: Process,
    narrow: MySqlStore,
    shard: u16,
    configs: Vec<Arc<TaskConfig>>,
}

impl Herd {
    /// About a quarter of so many crons.
    async fn of(all: usize) -> Self {
        let process = Process::first().await;
        let app = process.app().await;
        let config = process.config(app, cron("cron-0")).await;
        let mut meta = connect(process.databases.meta()).await;
        let copies = format!(
            "INSERT INTO config (app_id, name, version, document, created_at, updated_at)
            SELECT app_id, CONCAT('cron-', seq), version, REPLACE(document, 'cron-0', CONCAT('cron-', seq)),
                created_at, updated_at
            FROM config, seq_1_to_{all}"
        );
        sql(&mut meta, &copies).await;
        let options = MySqlOptions { connections: 1, ..process.databases.options() };
        let narrow = MySqlStore::open(&options).await.unwrap();
        let number = config_shard(config.id, narrow.shards());
        let mut configs = narrow.config_cache().all_configs();
        configs.retain(|config| config_shard(config.id, narrow.shards()) == number);
        configs.sort_unstable_by_key(|config| config.id);
        Self { process, narrow, shard: number.get(), configs }
    }

    fn slots(&self, config: usize, slots: std::ops::Range<i64>) -> Vec<SlotTask> {
        let config = &self.configs[config];
        let slot = |number| {
            let new = NewTask {
                id: id(self.shard, config.id.get() * 100 + number),
                config: config.id,
                key: None,
                execute_at: NOW.plus(Millis::from_secs(number)),
                payload: None,
                expire_after: None,
                origin: Origin::Schedule,
                extra: None,
            };
            SlotTask { task: Box::new(Task::new(new, NOW)), late: false }
        };
        slots.map(slot).collect()
    }

    /// A step of each, that makes this slot.
    fn fires(&self, cursor_version: i64, slot: i64) -> Vec<Fire> {
        let fire = |(index, config): (usize, &Arc<TaskConfig>)| Fire {
            slots: self.slots(index, slot..slot + 1),
            overlap: Overlap::QueueOne,
            ..Fire::without_slots(config, cursor_version, Some(NOW.plus(Millis::from_secs(slot + 1))))
        };
        self.configs.iter().enumerate().map(fire).collect()
    }

    /// How many statements the one connection has sent.
    async fn statements(&self) -> i64 {
        let on = self.narrow.context.shard(shard(self.shard)).unwrap();
        let mut session = on.conn().await.unwrap();
        let text = "-- counts\nSHOW SESSION STATUS LIKE 'Questions'";
        let rows = sqlx::raw_sql(text).fetch_all(session.raw().unwrap()).await.unwrap();
        rows[0].get::<String, _>(1).parse().expect("it is a number")
    }
}

fn cursors_after(fires: &[Fire], answers: Vec<tsp_store::Result<FireResult>>) -> Vec<Cursor> {
    assert_eq!(answers.len(), fires.len());
    let cursor = |(fire, answer): (&Fire, tsp_store::Result<FireResult>)| match answer.expect("fire") {
        FireResult::Moved { cursor, .. } if cursor.config == fire.config => cursor,
        other => panic!("{other:?}"),
    };
    fires.iter().zip(answers).map(cursor).collect()
}

#[tokio::test]
async fn a_hundred_crons_of_a_shard_fire_by_a_dozen_statements() {
    let herd = Herd::of(500).await;
    assert!(herd.configs.len() > 100);
    let herd = Herd { configs: herd.configs[..100].to_vec(), ..herd };
    let owner = herd.process.take("default", herd.shard, HOUR).await;
    let of = herd.narrow.fetcher_store(herd.process.seen("default", herd.shard).await.shard_group);
    // All but one of them have no cursor yet.
    let first: Vec<_> = herd.configs.iter().map(|config| Fire::without_slots(config, 1, Some(NOW))).collect();
    cursors_after(&first, of.fire(owner, first.clone(), NOW).await);
    // Each makes its slot, and the next one waits for it.
    for (version, waits) in [(2, false), (3, true)] {
        let before = herd.statements().await;
        let fires = herd.fires(version, version);
        let cursors = cursors_after(&fires, of.fire(owner, fires.clone(), NOW).await);
        let statements = herd.statements().await - before - 1;
        println!("100 crons fired by {statements} statements");
        // 100 tasks are 64 + 32 + 4.
        assert!(statements <= 14, "{statements}");
        let moved = |cursor: &Cursor| cursor.version == version + 1 && cursor.waiting.is_some() == waits;
        assert!(cursors.iter().all(moved), "{cursors:?}");
        assert_eq!(of.cursors_of(&[herd.configs[99].id]).await.unwrap(), cursors[99..]);
    }
    assert_eq!(of.audit(NOW).await.unwrap().accepted, 100);
}

#[tokio::test]
async fn ten_thousand_slots_of_a_cron_are_made_by_bounded_statements() {
    let herd = Herd::of(1).await;
    let owner = herd.process.take("default", herd.shard, HOUR).await;
    let of = herd.narrow.fetcher_store(herd.process.seen("default", herd.shard).await.shard_group);
    let slots = herd.slots(0, 0..10_000);
    let last = slots[9_999].task.id;
    let fire = Fire {
        overlap: Overlap::Allow,
        slots,
        ..Fire::without_slots(&herd.configs[0], 1, Some(NOW.plus(HOUR)))
    };
    let before = herd.statements().await;
    let fired = fire_one(&of, owner, fire, NOW).await.unwrap();
    let statements = herd.statements().await - before - 1;
    println!("10,000 slots made by {statements} statements");
    assert!(statements <= 130, "{statements}");
    assert!(matches!(&fired, FireResult::Moved { made, skipped: 0, .. } if made.len() == 10_000));
    assert!(herd.narrow.task(last).await.unwrap().is_some());
}

#[tokio::test]
async fn one_whose_id_is_taken_stops_no_other_of_its_transaction() {
    let herd = Herd::of(40).await;
    let owner = herd.process.take("default", herd.shard, HOUR).await;
    let of = herd.narrow.fetcher_store(herd.process.seen("default", herd.shard).await.shard_group);
    let mut fires = herd.fires(1, 0);
    fires[1].slots[0].task.id = fires[0].slots[0].task.id;
    let mut answers = of.fire(owner, fires.clone(), NOW).await;
    // Of the two with one id, whoever comes first has it.
    let failed: Vec<_> = answers.extract_if(.., |answer| answer.is_err()).collect();
    assert!(matches!(&failed[..], [Err(StoreError::Internal(_))]), "{failed:?}");
    assert_eq!(answers.len(), fires.len() - 1);
    assert!(answers.iter().all(|answer| matches!(answer, Ok(FireResult::Moved { .. }))), "{answers:?}");
    assert_eq!(of.audit(NOW).await.unwrap().accepted, i64::try_from(answers.len()).unwrap());
}
