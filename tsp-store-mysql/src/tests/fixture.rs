//! What the tests of this back end stand on: a store with one config, and the owner of its shards.

use std::sync::Arc;

use tsp_core::config::{ConfigSpec, HttpTarget, OnDuplicateKey, TaskConfig};
use tsp_core::task::{NewTask, Origin, Task};
use tsp_core::task_key::is_home;
use tsp_core::{AppId, ConfigId, Millis, Name, NodeId, ShardId, TaskId, TaskKey, Timestamp};
use tsp_store::attempts::{AttemptStore as _, BeginRequest, all};
use tsp_store::catalog::{AppSaved, Catalog as _, ConfigSaved, ExpectedVersion, NewApp, SaveConfig};
use tsp_store::cluster::{LeaseStore as _, NewNode, NodeLease, ShardGroup, ShardGroupLease};
use tsp_store::fetching::{ClaimRequest, ClaimResult, FetcherStore as _, Owner};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Actor, Submit, TaskStore as _};

use crate::tests::site::{Databases, connect, sql};
use crate::{MySqlAttemptStore, MySqlFetcherStore, MySqlStore};

pub(super) const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

pub(super) const HOUR: Millis = Millis::from_hours(1);

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("it is a name")
}

pub(super) fn spec(config: &str) -> ConfigSpec {
    ConfigSpec { span: 0, ..ConfigSpec::new(name(config), HttpTarget::post("http://receiver.internal/")) }
}

/// An id on this shard; `number` makes it its own.
pub(super) fn id(shard: u16, number: i64) -> TaskId {
    TaskId::new(TaskId::first_at(NOW).get() + (number << 22) + (i64::from(shard) << 13))
}

/// A key that is at home on this shard, of a config that spreads over all of so many; each text has its own.
pub(super) fn key_at(config: ConfigId, number: u16, shards: u16, text: &str) -> TaskKey {
    let keys = (0..1_000).filter_map(|n: u32| TaskKey::new(&format!("{text}-{n}")).ok());
    let mut at_home = keys.filter(|key| is_home(config, Some(key), 0, shards, shard(number)));
    at_home.next().expect("keys are spread")
}

pub(super) fn shard(number: u16) -> ShardId {
    ShardId::new(number).expect("it is one")
}

/// The message of a claimed row.
pub(super) fn message(row: &Task) -> BeginRequest {
    BeginRequest { id: row.id, version: row.version, row: Some(Box::new(row.clone())), token: None }
}

/// One process of a cluster.
pub(super) struct Process {
    pub(super) store: MySqlStore,
    pub(super) node: NodeId,
    pub(super) databases: Arc<Databases>,
}

impl Process {
    /// The first one of an empty store.
    pub(super) async fn first() -> Self {
        let (store, databases) = Databases::store().await;
        Self::join(store, databases).await
    }

    /// One more.
    pub(super) async fn another(&self) -> Self {
        Self::join(self.databases.open().await, self.databases.clone()).await
    }

    pub(super) async fn join(store: MySqlStore, databases: Arc<Databases>) -> Self {
        let node = NewNode {
            name: "n".to_owned(),
            roles: vec!["fetcher".to_owned()],
            version: "test".to_owned(),
            address: None,
        };
        let node = store.join(node, HOUR).await.expect("join");
        Self { store, node, databases }
    }

    pub(super) fn attempt_store(&self, lease: NodeLease) -> MySqlAttemptStore {
        self.store.attempt_store(Arc::new(lease))
    }

    pub(super) fn fetcher_store(&self, group: &str, number: u16) -> MySqlFetcherStore {
        self.store.fetcher_store(ShardGroup { group: name(group), shard: shard(number) })
    }

    pub(super) async fn app(&self) -> AppId {
        let new = NewApp { name: name("shop"), description: String::new(), owner: String::new() };
        match self.store.create_app(new, None, &Actor::system(), NOW).await.expect("create_app") {
            IdempotencyResult::Fresh(AppSaved::Saved(app)) => app.id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn config(&self, app: AppId, spec: ConfigSpec) -> Arc<TaskConfig> {
        let save = SaveConfig { app, spec, expected: ExpectedVersion::Absent };
        match self.store.save_config(save, None, &Actor::system(), NOW).await.expect("save_config") {
            IdempotencyResult::Fresh(ConfigSaved::Created(config)) => config,
            other => panic!("{other:?}"),
        }
    }

    /// A task that is due at [`NOW`], on this shard.
    pub(super) async fn submit(&self, config: &TaskConfig, shard: u16, number: i64) -> TaskId {
        let new = NewTask {
            id: id(shard, number),
            config: config.id,
            key: None,
            execute_at: NOW,
            payload: Some("{}".into()),
            expire_after: None,
            origin: Origin::Submit,
            extra: None,
        };
        let task = Box::new(Task::new(new, NOW));
        let submit =
            Submit { task, on_duplicate: OnDuplicateKey::Ignore, own_payload: true, idempotency: None };
        self.store.submit(vec![submit], NOW).await.expect("submit");
        id(shard, number)
    }

    pub(super) async fn seen(&self, group: &str, number: u16) -> ShardGroupLease {
        let shard_groups = self.store.shard_groups(&[name(group)]).await.expect("shard_groups");
        let found = shard_groups.rows.into_iter().find(|row| row.shard_group.shard == shard(number));
        found.expect("every shard has a shard group")
    }

    /// Takes a shard group whose lease has expired.
    pub(super) async fn take(&self, group: &str, number: u16, lease: Millis) -> Owner {
        let seen = self.seen(group, number).await;
        let taken = self.store.take(&seen, self.node, lease).await.expect("take");
        taken.unwrap_or_else(|| panic!("{seen:?} is over"))
    }

    /// As if its holder had not renewed for long.
    pub(super) async fn end_lease(&self, number: u16) {
        let mut conn = connect(self.databases.source_of(number)).await;
        sql(&mut conn, &format!("UPDATE shard_lease SET lease_until = 0 WHERE shard = {number}")).await;
    }

    /// What was claimed, as a worker loads it.
    pub(super) async fn load(&self, claimed: &ClaimResult) -> Vec<Box<Task>> {
        let ids: Vec<TaskId> = claimed.bare.iter().map(|row| row.id).collect();
        let attempt_store = self.store.attempt_store(Arc::new(NodeLease::for_ever()));
        all(attempt_store.load(&ids).await).expect("load").into_iter().flatten().collect()
    }

    /// Claims what is due on a shard.
    pub(super) async fn claim(&self, owner: Owner, config: &TaskConfig, shard: u16) -> Vec<Box<Task>> {
        let request = ClaimRequest { config: config.id, due_by: NOW, limit: 1_000 };
        let claimed =
            self.fetcher_store("default", shard).claim(owner, vec![request], NOW).await.expect("claim");
        assert!(!claimed.deposed);
        self.load(&claimed).await
    }
}
