//! Tests of what only this back end has. What every store means is in `conformance`.

pub(crate) mod files;
pub(crate) mod firing;
pub(crate) mod groups;
pub(crate) mod plans;
pub(crate) mod power;
pub(crate) mod retention;
pub(crate) mod rows;
pub(crate) mod search;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tsp_core::config::{ConfigSpec, HttpTarget, OnDuplicateKey, Secret, TaskConfig};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::{ConfigId, Name, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{AppSaved, Catalog as _, ConfigSaved, ExpectedVersion, NewApp, SaveConfig};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, Submit};

use crate::{SqliteOptions, SqliteStore, Synchronous};

const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

/// Lax about power loss, which no test here is about; on one shard every task is at home.
fn options(dir: &Path) -> SqliteOptions {
    let synchronous = Synchronous::Normal;
    SqliteOptions { synchronous, readers: 2, shards: 1, ..SqliteOptions::file(dir.join("tsp.db")) }
}

fn open(dir: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(&options(dir), NOW).unwrap()
}

fn spec(name: &str) -> ConfigSpec {
    let target = HttpTarget {
        secret_headers: BTreeMap::from([("authorization".to_owned(), Secret::new("Bearer hush"))]),
        ..HttpTarget::post("http://receiver.internal/")
    };
    let signing_secrets = vec![Secret::new("whsec_aHVzaA==")];
    ConfigSpec { signing_secrets, ..ConfigSpec::new(Name::new(name).unwrap(), target) }
}

/// Makes the app `shop` with a config of this name.
async fn make_config(store: &SqliteStore, name: &str) -> Arc<TaskConfig> {
    let by = Actor::system();
    let new = NewApp { name: Name::new("shop").unwrap(), description: String::new(), owner: String::new() };
    let app = match store.create_app(new, None, &by, NOW).await.unwrap() {
        IdempotencyResult::Fresh(AppSaved::Saved(app)) => app,
        other => panic!("{other:?}"),
    };
    let save = SaveConfig { app: app.id, spec: spec(name), expected: ExpectedVersion::Absent };
    match store.save_config(save, None, &by, NOW).await.unwrap() {
        IdempotencyResult::Fresh(ConfigSaved::Created(config)) => config,
        other => panic!("{other:?}"),
    }
}

fn new_task(id: i64, config: ConfigId, key: Option<&str>) -> Task {
    let new = NewTask {
        id: TaskId::new(id),
        config,
        key: key.map(|key| TaskKey::new(key).unwrap()),
        execute_at: NOW,
        payload: Some("{\"n\":1}".into()),
        expire_after: None,
        origin: Origin::Submit,
        extra: None,
    };
    Task::new(new, NOW)
}

fn submit(task: Task) -> Submit {
    Submit {
        task: Box::new(task),
        on_duplicate: OnDuplicateKey::Ignore,
        own_payload: true,
        idempotency: None,
    }
}

/// What a store means, in a file and in memory.
mod conformance {
    mod file {
        use std::sync::Arc;

        use crate::{SqliteOptions, SqliteStore};
        use tsp_store::WholeStore;
        use tsp_store_testing::conformance::StoreUnderTest;

        async fn make() -> StoreUnderTest {
            let dir = tempfile::tempdir().unwrap();
            let options = SqliteOptions { shards: 16, ..super::super::options(dir.path()) };
            let store = SqliteStore::open(&options, super::super::NOW).unwrap();
            StoreUnderTest { store: store as Arc<dyn WholeStore>, guard: Box::new(dir) }
        }

        tsp_store_testing::conformance_tests!(make);
    }

    mod memory {
        use std::sync::Arc;

        use crate::{SqliteOptions, SqliteStore};
        use tsp_store::WholeStore;
        use tsp_store_testing::conformance::StoreUnderTest;

        async fn make() -> StoreUnderTest {
            let store = SqliteStore::open(&SqliteOptions::memory(), super::super::NOW).unwrap();
            StoreUnderTest::from(store as Arc<dyn WholeStore>)
        }

        tsp_store_testing::conformance_tests!(make);
    }
}
