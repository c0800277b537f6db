//! Steps of schedules whose cursor does not stand where their config does.

use tsp_core::Millis;
use tsp_core::schedule::{Every, Schedule, Trigger};
use tsp_store::fetching::{EmbeddedOwnership as _, FetcherStore as _, Fire, FireResult};
use tsp_store_testing::fire_one;

use super::*;
use crate::connection::command::Command;

#[tokio::test]
async fn a_missing_cursor_is_made_and_one_without_its_schedule_fires_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = make_config(&store, "nightly").await;
    let node = store.register_node("n", NOW).await.unwrap();
    let owner = store.take_shards(node, NOW).await.unwrap();
    let every = Every { interval: Millis::from_secs(10), anchor: NOW };
    let schedule = Some(Schedule::new(Trigger::Every(every)));
    let save = async |schedule| {
        let spec = ConfigSpec { schedule, ..config.spec.clone() };
        let save = SaveConfig { app: config.app_id, spec, expected: ExpectedVersion::Any };
        store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
    };
    let edit = async |sql: &'static str| {
        let edit = store.write(Command::Check, 1, move |tx| tx.conn.prepare(sql)?.execute([]));
        assert_eq!(edit.await.unwrap(), 1);
    };
    let fire = async |config_version| {
        let fire = Fire { config_version, ..Fire::without_slots(&config, 1, Some(NOW)) };
        fire_one(&*store, owner, fire, NOW).await.unwrap()
    };

    save(schedule).await;
    edit("DELETE FROM cursor").await;
    let FireResult::Moved { cursor, .. } = fire(2).await else { panic!("it has a schedule") };
    assert_eq!(store.cursors().await.unwrap(), [cursor]);

    save(None).await;
    edit("INSERT INTO cursor (config_id, version, config_version, missed) SELECT id, 1, 0, 0 FROM config")
        .await;
    assert_eq!(fire(3).await, FireResult::Stale);
}
