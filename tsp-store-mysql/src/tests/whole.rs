//! All shards of a store under one owner, as the conformance suite wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use sqlx::Row as _;
use tokio::sync::Mutex;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::task_key::config_shard;
use tsp_core::work::Each;
use tsp_core::{AppId, ConfigId, KeyId, Millis, Name, NodeId, ShardId, TaskId, TaskKey, Timestamp};
use tsp_store::WholeStore;
use tsp_store::attempts::{
    AttemptStore, BeginRequest, BeginResult, Finish, FinishResult, WorkError, all as all_of,
};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, AuditLog, Catalog, ConfigBarrier, ConfigSaved, DeleteResult,
    ExpectedVersion, Hold, NewApp, NewKey, SaveConfig,
};
use tsp_store::cluster::{LeaseStore, NewNode, NodeLease, ShardGroup};
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{
    Audit, AuditorStore, ClaimRequest, ClaimResult, Cursor, EarliestDue, EmbeddedOwnership, FetchScope,
    FetcherStore, Fire, FireResult, FlightMark, InFlightPage, Owner, RetentionStore,
};
use tsp_store::forward;
use tsp_store::id_source::IdSlots;
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::{Park, ParkEvent};
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{
    Actor, CancelCount, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore,
};
use tsp_store_testing::conformance::StoreUnderTest;

use crate::tests::site::{Databases, SHARDS, connect, sql};
use crate::{MySqlAttemptStore, MySqlFetcherStore, MySqlStore};

/// Longer than any test.
const LEASE: Millis = Millis::from_hours(1);

pub(super) struct Whole {
    store: MySqlStore,
    attempt_store: MySqlAttemptStore,
    schedulers: Vec<MySqlFetcherStore>,
    databases: Arc<Databases>,
    /// A claim looks at all shards before it claims on each.
    claiming: Mutex<()>,
}

impl Whole {
    pub(super) async fn make() -> StoreUnderTest {
        let (store, databases) = Databases::store().await;
        let attempt_store = store.attempt_store(Arc::new(NodeLease::for_ever()));
        let shards = (0..SHARDS).filter_map(ShardId::new);
        let schedulers =
            shards.map(|shard| store.fetcher_store(ShardGroup { group: default_group(), shard })).collect();
        let guard = databases.clone();
        let whole = Self { store, attempt_store, schedulers, databases, claiming: Mutex::default() };
        StoreUnderTest { store: Arc::new(whole) as Arc<dyn WholeStore>, guard: Box::new(guard) }
    }

    fn of(&self, shard: ShardId) -> &MySqlFetcherStore {
        &self.schedulers[usize::from(shard.get())]
    }

    /// How many of a want's rows, the first of all shards, are on each shard.
    async fn shares(&self, request: ClaimRequest) -> Vec<usize> {
        let mut due = Vec::new();
        for shard in 0..SHARDS {
            let mut conn = connect(self.databases.source_of(shard)).await;
            let (config, due_by, limit) = (request.config.get(), request.due_by.ms(), request.limit);
            let text = format!(
                "SELECT due_at, id FROM task_{shard:03} WHERE config_id = {config} AND status = 0 \
                 AND due_at <= {due_by} ORDER BY due_at, id LIMIT {limit}"
            );
            let rows = sql(&mut conn, &text).await;
            due.extend(rows.iter().map(|row| (row.get::<i64, _>(0), row.get::<i64, _>(1), shard)));
        }
        due.sort_unstable();
        let mut shares = vec![0; usize::from(SHARDS)];
        for (_, _, shard) in due.iter().take(request.limit) {
            shares[usize::from(*shard)] += 1;
        }
        shares
    }
}

pub(super) fn default_group() -> Name {
    Name::new("default").expect("it is a name")
}

fn sort_by_due(tasks: &mut [Box<Task>]) {
    tasks.sort_by_key(|task| (task.due_at, task.id));
}

/// The parts of a batch by the shard of their id.
fn parts<T: Copy>(rows: Vec<T>, id: impl Fn(T) -> TaskId) -> BTreeMap<ShardId, Vec<T>> {
    let mut parts: BTreeMap<ShardId, Vec<T>> = BTreeMap::new();
    for row in rows {
        parts.entry(id(row).shard()).or_default().push(row);
    }
    parts
}

#[async_trait]
impl EmbeddedOwnership for Whole {
    async fn register_node(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        let mut conn = connect(self.databases.meta()).await;
        sql(&mut conn, &format!("UPDATE node SET dead_at = {} WHERE dead_at IS NULL", now.ms())).await;
        let node = NewNode {
            name: name.to_owned(),
            roles: vec!["fetcher".to_owned()],
            version: "test".to_owned(),
            address: None,
        };
        self.store.join(node, LEASE).await
    }

    /// By force, whoever has them.
    async fn take_shards(&self, node: NodeId, _: Timestamp) -> Result<Owner> {
        for source in self.databases.sources() {
            sql(&mut connect(source).await, "UPDATE shard_lease SET lease_until = 0").await;
        }
        let shard_groups = self.store.shard_groups(&[default_group()]).await?;
        assert!(shard_groups.away.is_empty(), "{shard_groups:?}");
        let mut owners = Vec::new();
        for seen in &shard_groups.rows {
            let taken = self.store.take(seen, node, LEASE).await?;
            owners.push(taken.unwrap_or_else(|| panic!("nobody else takes {seen:?}")));
        }
        assert_eq!(owners.len(), usize::from(SHARDS));
        let epochs: BTreeSet<i64> = owners.iter().map(|owner| owner.epoch).collect();
        assert_eq!(epochs.len(), 1, "each take raises each shard's by one: {owners:?}");
        Ok(owners[0])
    }
}

#[async_trait]
impl FetcherStore for Whole {
    fn fetch_scope(&self) -> FetchScope {
        FetchScope::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        self.schedulers[0].dead_nodes(among).await
    }

    async fn earliest_due(&self) -> Result<Vec<EarliestDue>> {
        let all = try_join_all(self.schedulers.iter().map(FetcherStore::earliest_due)).await?;
        let mut earliest_due: BTreeMap<ConfigId, Timestamp> = BTreeMap::new();
        for earliest in all.into_iter().flatten() {
            let first = earliest_due.entry(earliest.config).or_insert(earliest.due_at);
            *first = earliest.due_at.min(*first);
        }
        Ok(earliest_due.into_iter().map(|(config, due_at)| EarliestDue { config, due_at }).collect())
    }

    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult> {
        let _claiming = self.claiming.lock().await;
        let mut all = ClaimResult::default();
        for request in &requests {
            let mut tasks = Vec::new();
            for (of, limit) in self.schedulers.iter().zip(self.shares(*request).await) {
                let claimed = of.claim(owner, vec![ClaimRequest { limit, ..*request }], now).await?;
                all.deposed |= claimed.deposed;
                let ids: Vec<TaskId> = claimed.bare.iter().map(|row| row.id).collect();
                let rows = all_of(self.attempt_store.load(&ids).await);
                tasks.extend(
                    rows.map_err(|error| StoreError::Internal(error.to_string()))?.into_iter().flatten(),
                );
                all.expired.extend(claimed.expired);
            }
            sort_by_due(&mut tasks);
            all.tasks.extend(tasks);
        }
        if all.deposed {
            return Ok(all);
        }
        let mut earliest_due: BTreeMap<ConfigId, Option<Timestamp>> = BTreeMap::new();
        for of in &self.schedulers {
            let looks = requests.iter().map(|request| ClaimRequest { limit: 0, ..*request }).collect();
            for (config, earliest) in of.claim(owner, looks, now).await?.earliest_due {
                let first = earliest_due.entry(config).or_insert(earliest);
                *first = [*first, earliest].into_iter().flatten().min();
            }
        }
        all.earliest_due = earliest_due.into_iter().collect();
        sort_by_due(&mut all.expired);
        Ok(all)
    }

    /// Shard after shard. The last row of a page leads to what is left of its shard.
    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        let (first, mut after) =
            after.map_or((0, None), |mark| (usize::from(mark.id.shard().get()), Some(mark)));
        let mut page = InFlightPage::default();
        for of in self.schedulers.iter().skip(first) {
            let part = of.in_flight(after.take(), limit - page.rows.len()).await?;
            page.rows.extend(part.rows);
            if page.rows.len() >= limit {
                page.next = page.rows.last().map(FlightMark::from);
                break;
            }
        }
        Ok(page)
    }

    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        let mut changed = Vec::new();
        for (shard, part) in parts(rows, |(id, _)| id) {
            changed.extend(self.of(shard).return_to_scheduled(owner, part, now).await?);
        }
        Ok(changed)
    }

    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        let mut changed = Vec::new();
        for (shard, part) in parts(rows, |(id, _)| id) {
            changed.extend(self.of(shard).mark_worker_lost(owner, part, now).await?);
        }
        Ok(changed)
    }

    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        let mut changed = Vec::new();
        for of in &self.schedulers {
            changed.extend(of.end_waits(owner, limit - changed.len(), jitter_fraction, now).await?);
        }
        Ok(changed)
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        let all = try_join_all(self.schedulers.iter().map(FetcherStore::next_deadline)).await?;
        Ok(all.into_iter().flatten().min())
    }

    async fn parks(&self, _: bool, now: Timestamp) -> Result<Vec<Park>> {
        Ok(try_join_all(self.schedulers.iter().map(|of| of.parks(false, now))).await?.concat())
    }

    async fn save_parks(&self, events: Vec<ParkEvent>) -> Result<()> {
        for one in events {
            let (ParkEvent::Asked(Park { config, .. }) | ParkEvent::Ended { config, .. }) = one;
            self.of(config_shard(config, SHARDS)).save_parks(vec![one]).await?;
        }
        Ok(())
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        let mut all = try_join_all(self.schedulers.iter().map(FetcherStore::cursors)).await?.concat();
        all.sort_by_key(|cursor| cursor.config);
        Ok(all)
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        Ok(try_join_all(self.schedulers.iter().map(|of| of.cursors_of(configs))).await?.concat())
    }

    async fn fire(&self, owner: Owner, fires: Vec<Fire>, now: Timestamp) -> Vec<Result<FireResult>> {
        let mut by_shard: BTreeMap<ShardId, (Vec<usize>, Vec<Fire>)> = BTreeMap::new();
        let mut answers: Vec<_> = fires.iter().map(|_| Ok(FireResult::Stale)).collect();
        for (index, fire) in fires.into_iter().enumerate() {
            let (indexes, fires) = by_shard.entry(config_shard(fire.config, SHARDS)).or_default();
            indexes.push(index);
            fires.push(fire);
        }
        for (shard, (indexes, fires)) in by_shard {
            for (index, answer) in indexes.into_iter().zip(self.of(shard).fire(owner, fires, now).await) {
                answers[index] = answer;
            }
        }
        answers
    }
}

#[async_trait]
impl RetentionStore for Whole {
    async fn apply_retention(&self, limit: usize, now: Timestamp) -> Result<usize> {
        let mut removed = 0;
        for of in &self.schedulers {
            removed += of.apply_retention(limit - removed, now).await?;
        }
        Ok(removed)
    }
}

#[async_trait]
impl AuditorStore for Whole {
    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        let mut all = Audit::default();
        let (mut open, mut overdue) = (BTreeMap::new(), BTreeMap::new());
        for of in &self.schedulers {
            let audit = of.audit(now).await?;
            all.accepted += audit.accepted;
            all.ended += audit.ended;
            for (status, count) in audit.open {
                *open.entry(status).or_insert(0) += count;
            }
            for (config, count) in audit.overdue {
                *overdue.entry(config).or_insert(0) += count;
            }
        }
        all.cursors = self.cursors().await?;
        Ok(Audit { open: open.into_iter().collect(), overdue: overdue.into_iter().collect(), ..all })
    }
}

#[async_trait]
impl AttemptStore for Whole {
    forward!(attempt_store: bulkheads bulkhead load begin finish release executing release_orphans);
}

#[async_trait]
impl TaskStore for Whole {
    forward!(store: submit task task_by_key change cancel_open search attempts);
}

#[async_trait]
impl Catalog for Whole {
    forward!(store:
        config_cache create_app update_app delete_app create_key keys key_by_hash delete_key save_config
        hold_config delete_config parked unpark refresh
    );

    fn shards(&self) -> u16 {
        Catalog::shards(&self.store)
    }
}

#[async_trait]
impl ConfigBarrier for Whole {
    forward!(store: applied_by_all);
}

#[async_trait]
impl AuditLog for Whole {
    forward!(store: audit_log);
}

#[async_trait]
impl IdSlots for Whole {
    forward!(store: renew_id_slot);
}
