//! Steps of schedules whose cursor does not stand where their config does: the two are in different databases.

use tsp_core::Millis;
use tsp_core::config::{ConfigSpec, Kind};
use tsp_core::schedule::{Every, Overlap, Schedule, Trigger};
use tsp_store::catalog::{Catalog as _, Expected, SaveConfig};
use tsp_store::fetching::{FetcherStore as _, Fire, FireResult};
use tsp_store::tasks::Actor;

use crate::tests::fixture::{HOUR, NOW, Process, spec};
use crate::tests::site::{connect, sql};

#[tokio::test]
async fn a_missing_cursor_is_made_and_one_without_its_schedule_fires_nothing() {
    let process = Process::first().await;
    let app = process.app().await;
    let every = Schedule::new(Trigger::Every(Every { interval: Millis::from_secs(10), anchor: NOW }));
    let cron = ConfigSpec { kind: Kind::Cron, schedule: Some(every), span: 1, ..spec("cron") };
    let config = process.config(app, cron).await;
    let shard = tsp_core::key::config_shard(config.id, process.store.shards()).get();
    let owner = process.take("default", shard, HOUR).await;
    let of = process.fetcher_store("default", shard);
    let mut conn = connect(process.databases.source_of(shard)).await;
    let fire = |config_version| Fire {
        config: config.id,
        cursor_version: 1,
        config_version,
        overlap: Overlap::Allow,
        slots: Vec::new(),
        waiting: None,
        missed: 0,
        next_fire_at: Some(NOW),
    };

    sql(&mut conn, &format!("DELETE FROM cursor_{shard:03}")).await;
    let fired = of.fire(owner, fire(1), NOW).await.unwrap();
    let FireResult::Moved { cursor, .. } = fired else { panic!("{fired:?}") };
    assert_eq!(of.cursors_of(&[config.id]).await.unwrap(), [cursor]);

    let bare = ConfigSpec { schedule: None, ..config.spec.clone() };
    let save = SaveConfig { app, spec: bare, expected: Expected::Any };
    process.store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
    let values = format!("({}, 1, 0, 0)", config.id);
    let insert = "(config_id, version, config_version, missed) VALUES";
    sql(&mut conn, &format!("INSERT INTO cursor_{shard:03} {insert} {values}")).await;
    assert_eq!(of.fire(owner, fire(2), NOW).await.unwrap(), FireResult::Stale);
    assert_eq!(of.cursors().await.unwrap(), []);
}
