//! The change log, and the config caches that follow it.

use std::sync::Arc;

use futures::future::join_all;
use sqlx::Row as _;
use tsp_core::Millis;
use tsp_core::config::TaskConfig;
use tsp_store::catalog::{
    AppEdit, Catalog as _, ConfigSaved, DeleteResult, ExpectedVersion, Hold, SaveConfig,
};
use tsp_store::cluster::{LeaseStore as _, NewNode};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::Actor;

use crate::MySqlStore;
use crate::tests::fixture::{NOW, Process, name, spec};
use crate::tests::site::{connect, sql};

/// Of each of eight writers.
const CHANGES: usize = 25;

/// Makes a config and changes it, again and again; the last of it stays for an odd writer.
async fn write(store: &MySqlStore, writer: usize, app: tsp_core::AppId) {
    let by = Actor::system();
    let spec = spec(&format!("writer-{writer}"));
    let save = SaveConfig { app, spec, expected: ExpectedVersion::Absent };
    store.save_config(save, None, &by, NOW).await.unwrap();
    let config = store.config_cache().find_config(app, &name(&format!("writer-{writer}"))).unwrap();
    for round in 0..CHANGES {
        let hold = if round.is_multiple_of(2) { Hold::Pause { note: None } } else { Hold::Resume };
        let saved = store.hold_config(config.id, hold, &by, NOW).await.unwrap();
        let ConfigSaved::Updated(saved) = saved else { panic!("{saved:?}") };
        let version = store.config_cache().config(config.id).unwrap().version;
        assert!(version >= saved.version, "the cache has what was answered: {version} of {}", saved.version);
    }
    if writer.is_multiple_of(2) {
        let deleted = store.delete_config(config.id, ExpectedVersion::Any, &by, NOW).await.unwrap();
        assert_eq!(deleted, DeleteResult::Deleted);
    }
}

fn sorted(store: &MySqlStore) -> Vec<Arc<TaskConfig>> {
    let mut configs = store.config_cache().all_configs();
    configs.sort_by_key(|config| config.id);
    configs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_seen_in_the_order_of_their_numbers() {
    let one = Process::first().await;
    let others = [one.another().await, one.another().await];
    let follower = one.another().await;
    let app = one.app().await;
    let start = follower.store.follow().await.unwrap();
    for other in &others {
        assert_eq!(other.store.follow().await.unwrap(), start);
    }
    let stores = [&one.store, &others[0].store, &others[1].store];
    let writers = join_all((0..8).map(|writer| write(stores[writer % 3], writer, app)));
    let read = async {
        let mut log = connect(one.databases.meta()).await;
        let mut last = start;
        let end = start + i64::try_from(8 * (CHANGES + 1) + 4).unwrap();
        while last < end {
            let text = format!("SELECT seq FROM change_log WHERE seq > {last} ORDER BY seq");
            for row in sql(&mut log, &text).await {
                let seq: i64 = row.get(0);
                assert_eq!(seq, last + 1, "a number came after a later one");
                last = seq;
            }
            let applied = follower.store.follow().await.unwrap();
            assert!(applied >= last && follower.store.config_cache().seq() == applied);
        }
        last
    };
    let (_, last) = tokio::join!(writers, read);
    assert_eq!(follower.store.follow().await.unwrap(), last);
    let followed = sorted(&follower.store);
    let names: Vec<_> = followed.iter().map(|config| config.spec.name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for store in stores {
        assert_eq!(store.follow().await.unwrap(), last);
        assert_eq!(sorted(store), followed);
    }
    assert_eq!(sorted(&one.databases.open().await), followed, "and so does a new process");
    assert_eq!(follower.store.config_cache().changed_since(start).len(), 4);
}

#[tokio::test]
async fn whoever_misses_something_gets_what_was_committed_before() {
    let one = Process::first().await;
    let two = one.another().await;
    let app = one.app().await;
    for n in 0..5 {
        let spec = spec(&format!("config-{n}"));
        let save = SaveConfig { app, spec, expected: ExpectedVersion::Absent };
        let saved = one.store.save_config(save, None, &Actor::system(), NOW).await.unwrap();
        let IdempotencyResult::Fresh(ConfigSaved::Created(config)) = saved else { panic!("{saved:?}") };
        let misses = (0..20).map(|_| async {
            two.store.refresh().await.unwrap();
            two.store.config_cache().config(config.id).is_some()
        });
        assert!(join_all(misses).await.into_iter().all(|found| found), "round {n}");
    }
}

#[tokio::test]
async fn apps_are_followed_too() {
    let one = Process::first().await;
    let two = one.another().await;
    let app = one.app().await;
    assert!(two.store.config_cache().app_by_id(app).is_none());
    two.store.follow().await.unwrap();
    assert_eq!(two.store.config_cache().app_by_id(app), one.store.config_cache().app_by_id(app));
    let edit = AppEdit { owner: Some("ann".to_owned()), description: None };
    two.store.update_app(app, edit, &Actor::system(), NOW).await.unwrap();
    one.store.follow().await.unwrap();
    assert_eq!(one.store.config_cache().app_by_id(app).unwrap().owner, "ann");
    one.store.delete_app(app, &Actor::system(), NOW).await.unwrap();
    assert_eq!(two.store.follow().await.unwrap(), one.store.config_cache().seq());
    assert!(two.store.config_cache().app_by_id(app).is_none());
}

/// What this process has not followed yet is no excuse to work on an old config.
#[tokio::test]
async fn a_change_is_made_of_what_is_stored_not_of_the_config_cache() {
    let one = Process::first().await;
    let two = one.another().await;
    let app = one.app().await;
    let config = one.config(app, spec("close-order")).await;
    let saved = two.store.hold_config(config.id, Hold::Disable, &Actor::system(), NOW).await.unwrap();
    assert!(matches!(&saved, ConfigSaved::Updated(config) if config.version == 2), "{saved:?}");
    assert_eq!(
        two.store.config_cache().seq(),
        one.store.config_cache().seq() + 1,
        "and what came before is in its config cache"
    );
    let stale = SaveConfig { app, spec: spec("close-order"), expected: ExpectedVersion::Version(1) };
    let refused = one.store.save_config(stale, None, &Actor::system(), NOW).await.unwrap();
    assert_eq!(
        refused,
        tsp_store::idempotency::IdempotencyResult::Fresh(ConfigSaved::VersionMismatch { version: 2 })
    );
}

/// Of a release that is being rolled out beside this one.
#[tokio::test]
async fn a_change_of_a_kind_that_is_not_known_is_skipped() {
    let one = Process::first().await;
    let mut log = connect(one.databases.meta()).await;
    sql(&mut log, "UPDATE counter SET value = value + 1 WHERE name = 'change'").await;
    let line = "INSERT INTO change_log SELECT value, 'calendar', 1, 1, 0, 'system', 'create', NULL, NULL FROM counter";
    sql(&mut log, line).await;
    let app = one.app().await;
    let seq = one.store.config_cache().seq();
    assert_eq!(one.store.follow().await.unwrap(), seq);
    assert!(one.store.config_cache().app_by_id(app).is_some());
}

/// The config cache has a change of its own at once, but says no number before it has read what came earlier.
#[tokio::test]
async fn a_number_is_not_reached_over_one_that_was_not_read() {
    let one = Process::first().await;
    let two = one.another().await;
    let app = one.app().await;
    let config = one.config(app, spec("orders")).await;
    let seq = two.store.follow().await.unwrap();
    // A change of the first one that the second one cannot read.
    let hidden = one.config(app, spec("hidden")).await;
    let mut meta = connect(one.databases.meta()).await;
    let hide = |document: &str| {
        format!(
            "UPDATE config SET document = CONCAT('{document}', SUBSTRING(document, 2)) WHERE id = {}",
            hidden.id
        )
    };
    sql(&mut meta, &hide("!")).await;
    let paused = two.store.hold_config(config.id, Hold::Pause { note: None }, &Actor::system(), NOW).await;
    assert!(matches!(paused.unwrap(), ConfigSaved::Updated(_)));
    let config_cache = two.store.config_cache();
    assert!(config_cache.config(config.id).unwrap().paused.is_some(), "its own change it has");
    assert_eq!((config_cache.seq(), config_cache.finalised(), config_cache.newest()), (seq, seq, seq + 2));
    assert!(config_cache.changed_since(seq).len() == 1 && config_cache.config(hidden.id).is_none());
    sql(&mut meta, &hide("{")).await;
    assert_eq!(two.store.follow().await.unwrap(), seq + 2);
    assert_eq!((config_cache.seq(), config_cache.finalised()), (seq + 2, seq + 2));
    assert!(
        config_cache.config(hidden.id).is_some() && config_cache.config(config.id).unwrap().paused.is_some()
    );
}

/// Nobody waits for a process that has not joined.
#[tokio::test]
async fn who_joins_has_what_was_changed_since_it_read_its_config_cache() {
    let one = Process::first().await;
    let app = one.app().await;
    let config = one.config(app, spec("orders")).await;
    let store = one.databases.open().await;
    let saved = one.store.hold_config(config.id, Hold::Disable, &Actor::system(), NOW).await.unwrap();
    assert!(matches!(saved, ConfigSaved::Updated(_)));
    assert!(store.config_cache().config(config.id).unwrap().spec.enabled, "it has not looked since");
    let node = NewNode { name: "n".to_owned(), roles: Vec::new(), version: "test".to_owned(), address: None };
    store.join(node, Millis::from_hours(1)).await.unwrap();
    assert!(!store.config_cache().config(config.id).unwrap().spec.enabled);
    assert_eq!(store.config_cache().seq(), one.store.config_cache().seq());
}
