//! What only this back end has: faults and the ledger. What every store means is in `conformance`.

use futures::FutureExt;
use tsp_core::config::{ConfigSpec, HttpTarget, TaskConfig};
use tsp_core::schedule::{Every, Schedule, Trigger};
use tsp_core::{Millis, Name, Timestamp};
use tsp_store::catalog::{
    AppSaved, AuditLog as _, Catalog, ConfigSaved, ExpectedVersion, NewApp, SaveConfig,
};
use tsp_store::fetching::{Cursor, EmbeddedOwnership as _, Fire, FireResult};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::Actor;

use super::*;
use crate::fire_one;

fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the memory store never waits")
}

fn new_app(name: &str) -> NewApp {
    NewApp { name: Name::new(name).unwrap(), description: String::new(), owner: String::new() }
}

#[test]
fn a_fault_before_changes_nothing_and_a_fault_after_changes_all_but_says_so() {
    let store = MemoryStore::new(4);
    let mut faults = vec![Fault::None, Fault::After, Fault::Before];
    store.set_faults(Box::new(move |call| {
        assert_eq!(call, "create_app");
        faults.pop().unwrap_or_default()
    }));
    let by = Actor::system();
    let before = now(store.create_app(new_app("before"), None, &by, Timestamp::ZERO));
    assert!(matches!(before, Err(StoreError::Unavailable { .. })), "{before:?}");
    assert!(store.config_cache().app("before").is_none());
    let after = now(store.create_app(new_app("after"), None, &by, Timestamp::ZERO));
    assert!(matches!(after, Err(StoreError::Unknown(_))), "{after:?}");
    assert!(store.config_cache().app("after").is_some());
    let fine = now(store.create_app(new_app("fine"), None, &by, Timestamp::ZERO));
    assert!(fine.is_ok(), "{fine:?}");
    assert_eq!(store.dump().audit_log.len(), 2);
}

#[test]
fn a_read_with_a_fault_is_only_unavailable() {
    let store = MemoryStore::new(1);
    store.set_faults(Box::new(|_| Fault::After));
    assert!(matches!(now(store.audit_log(1)), Err(StoreError::Unavailable { .. })));
    store.clear_faults();
    assert!(now(store.audit_log(1)).is_ok());
}

/// Where a cursor and its config are not written together one may be there without the other.
#[test]
fn a_missing_cursor_is_made_and_one_without_its_schedule_fires_nothing() {
    let store = MemoryStore::new(4);
    let by = Actor::system();
    let saved = now(store.create_app(new_app("trade"), None, &by, Timestamp::ZERO)).unwrap();
    let IdempotencyResult::Fresh(AppSaved::Saved(app)) = saved else { panic!("{saved:?}") };
    let node = now(store.register_node("n", Timestamp::ZERO)).unwrap();
    let owner = now(store.take_shards(node, Timestamp::ZERO)).unwrap();
    let every = Every { interval: Millis::from_secs(10), anchor: Timestamp::ZERO };
    let save = |schedule| {
        let target = HttpTarget::post("http://receiver.internal/");
        let spec = ConfigSpec { schedule, ..ConfigSpec::new(Name::new("nightly").unwrap(), target) };
        let save = SaveConfig { app: app.id, spec, expected: ExpectedVersion::Any };
        match now(store.save_config(save, None, &by, Timestamp::ZERO)).unwrap() {
            IdempotencyResult::Fresh(ConfigSaved::Created(config) | ConfigSaved::Updated(config)) => config,
            other => panic!("{other:?}"),
        }
    };
    let fire = |config: &TaskConfig| {
        let fire = Fire::without_slots(config, 1, Some(Timestamp::ZERO));
        now(fire_one(&store, owner, fire, Timestamp::ZERO)).unwrap()
    };
    let config = save(Some(Schedule::new(Trigger::Every(every))));
    store.lock().cursors.clear();
    assert!(matches!(fire(&config), FireResult::Moved { .. }));
    assert_eq!(store.dump().cursors[0].version, 2);
    let bare = save(None);
    store.lock().cursors.insert(bare.id, Cursor::new(bare.id));
    assert_eq!(fire(&bare), FireResult::Stale);
}

mod conformance {
    use std::sync::Arc;

    use crate::conformance::StoreUnderTest;
    use crate::memory::MemoryStore;
    use tsp_store::WholeStore;

    async fn make() -> StoreUnderTest {
        StoreUnderTest::from(Arc::new(MemoryStore::new(8)) as Arc<dyn WholeStore>)
    }

    crate::conformance_tests!(make);
}
