//! A store in memory that fails as one of several databases and several nodes would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tsp_core::config::TaskConfig;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::{AppId, ConfigId, KeyId, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{
    ApiKey, App, AppEdit, AppSaved, ConfigBarrier, ConfigSaved, DeleteResult, ExpectedVersion, Hold, NewApp,
    NewKey, SaveConfig,
};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::{Park, ParkEvent};
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{Actor, CancelCount, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand};
use tsp_store::{Catalog, Cause, ConfigCache, FetcherStore as _, Result, StoreError, TaskStore, forward};
use tsp_store_testing::memory::MemoryStore;

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) inner: MemoryStore,
    /// Shards whose database does not answer.
    away: Mutex<BTreeSet<u16>>,
    /// The last config change that the slowest node has applied.
    applied: AtomicI64,
    /// What the config cache lacks until it is refreshed: another node has made it.
    elsewhere: Mutex<Vec<OtherWriter>>,
    /// How often it was refreshed.
    refreshed: AtomicUsize,
    /// Somebody has asked how far the slowest node is.
    asked: Notify,
}

impl Cluster {
    /// Every change is applied at once.
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            inner: MemoryStore::new(shards),
            away: Mutex::default(),
            applied: AtomicI64::new(i64::MAX),
            elsewhere: Mutex::default(),
            refreshed: AtomicUsize::new(0),
            asked: Notify::new(),
        }
    }

    /// The shards whose database does not answer from now on.
    pub(crate) fn set_away(&self, shards: impl IntoIterator<Item = u16>) {
        *self.away.lock() = shards.into_iter().collect();
    }

    /// The slowest node has applied everything up to `seq`.
    pub(crate) fn set_applied(&self, seq: i64) {
        self.applied.store(seq, Ordering::SeqCst);
    }

    /// Returns when somebody waits for the slowest node.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The slowest node has applied all that was changed so far.
    pub(crate) fn catch_up(&self) {
        self.set_applied(self.config_cache().seq());
    }

    /// A replay by a node that does not know yet that the config is disabled.
    pub(crate) async fn replay_unaware(&self, task: TaskId, now: Timestamp) {
        let (config_cache, config) =
            (self.config_cache(), self.inner.task(task).await.ok().flatten().map(|row| row.config));
        let known = config.and_then(|config| config_cache.config(config)).expect("the task has a config");
        let mut before = TaskConfig::clone(&known);
        before.spec.enabled = true;
        config_cache.put_config(Arc::new(before), config_cache.seq());
        let done = self.inner.change(Subject::Id(task), TaskCommand::Replay, &Actor::system(), now).await;
        assert!(matches!(done, Ok(CommandResult::Done { .. })), "{done:?}");
        config_cache.put_config(known, config_cache.seq());
    }

    /// The app, with its configs, was made by another node, and this one does not know it.
    pub(crate) fn hide(&self, name: &str) {
        let config_cache = self.config_cache();
        let app = config_cache.app(name).expect("the app exists");
        let configs = config_cache.configs_of(app.id, None, usize::MAX);
        self.hide_configs(configs);
        config_cache.remove_app(app.id);
        self.elsewhere.lock().insert(0, OtherWriter::App(app));
    }

    /// As [`Cluster::hide`], of configs.
    pub(crate) fn hide_configs(&self, configs: impl IntoIterator<Item = Arc<TaskConfig>>) {
        for config in configs {
            self.config_cache().remove_config(config.id, self.config_cache().seq());
            self.elsewhere.lock().push(OtherWriter::Config(config));
        }
    }

    /// The receiver of a config asked for a wait.
    pub(crate) async fn park(&self, park: Park) {
        self.inner.save_parks(vec![ParkEvent::Asked(park)]).await.expect("never faulty");
    }

    pub(crate) fn refreshed(&self) -> usize {
        self.refreshed.swap(0, Ordering::SeqCst)
    }

    fn is_unavailable(&self, id: TaskId) -> bool {
        self.away.lock().contains(&id.shard().get())
    }
}

#[derive(Debug)]
enum OtherWriter {
    App(Arc<App>),
    Config(Arc<TaskConfig>),
}

fn away() -> StoreError {
    Cause::Away.because("the database of the shard does not answer")
}

#[async_trait]
impl TaskStore for Cluster {
    forward!(inner: task_by_key change cancel_open search attempts);

    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        let (bad, good): (Vec<Submit>, Vec<Submit>) =
            batch.into_iter().partition(|submit| self.is_unavailable(submit.task.id));
        if bad.is_empty() {
            return self.inner.submit(good, now).await;
        }
        if good.is_empty() {
            return Err(away());
        }
        self.inner.submit(good, now).await?;
        Err(StoreError::Unknown("a part of it is saved".to_owned()))
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        if self.is_unavailable(id) { Err(away()) } else { self.inner.task(id).await }
    }
}

#[async_trait]
impl Catalog for Cluster {
    forward!(inner:
        config_cache shards create_app update_app delete_app create_key keys key_by_hash delete_key
        save_config hold_config delete_config parked unpark
    );

    async fn refresh(&self) -> Result<()> {
        self.refreshed.fetch_add(1, Ordering::SeqCst);
        for made in self.elsewhere.lock().drain(..) {
            match made {
                OtherWriter::App(app) => self.config_cache().put_app(app),
                OtherWriter::Config(config) => {
                    self.config_cache().put_config(config, self.config_cache().seq());
                }
            }
        }
        self.inner.refresh().await
    }
}

#[async_trait]
impl ConfigBarrier for Cluster {
    async fn applied_by_all(&self, seq: i64) -> Result<bool> {
        let applied = self.applied.load(Ordering::SeqCst) >= seq;
        if !applied && seq < i64::MAX {
            self.asked.notify_one();
        }
        Ok(applied)
    }
}
