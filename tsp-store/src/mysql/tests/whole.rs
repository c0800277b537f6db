//! All shards of a store under one owner, as the conformance suite wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::try_join_all;
use sqlx::Row as _;
use tokio::sync::Mutex;
use tsp_core::key::config_shard;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::{AppId, ConfigId, KeyId, Millis, Name, NodeId, ShardId, TaskId, TaskKey, Timestamp};

use super::super::{MySqlRunner, MySqlScheduler, MySqlStore};
use super::site::{Databases, SHARDS, connect, sql};
use crate::WholeStore;
use crate::book::ConfigBook;
use crate::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, Catalog, ConfigSaved, Deleted, Expected, Hold, NewApp, NewKey,
    SaveConfig,
};
use crate::cluster::{LeaseStore, NewNode, NodeLease, Pair};
use crate::conformance::Made;
use crate::error::Result;
use crate::idempotency::{Keep, Kept};
use crate::parks::{Park, ParkNews};
use crate::run::{Begin, Begun, Each, Finish, Finished, RunStore};
use crate::schedule::{
    Audit, Claimed, Cursor, Fire, Fired, FlightMark, Head, InFlightPage, Owner, Ownership, Partition,
    ScheduleStore, Want,
};
use crate::search::{Page, TaskQuery};
use crate::tasks::{Actor, Cancelled, Changed, Subject, Submit, Submitted, TaskStore, Wish};

/// Longer than any test.
const LEASE: Millis = Millis::from_hours(1);

pub(super) struct Whole {
    store: MySqlStore,
    runner: MySqlRunner,
    schedulers: Vec<MySqlScheduler>,
    databases: Arc<Databases>,
    /// A claim looks at all shards before it claims on each.
    claiming: Mutex<()>,
}

impl Whole {
    pub(super) async fn make() -> Made {
        let (store, databases) = Databases::store().await;
        let runner = store.runner(Arc::new(NodeLease::for_ever()));
        let shards = (0..SHARDS).filter_map(ShardId::new);
        let schedulers =
            shards.map(|shard| store.scheduler(Pair { group: default_group(), shard })).collect();
        let guard = databases.clone();
        let whole = Self { store, runner, schedulers, databases, claiming: Mutex::default() };
        Made { store: Arc::new(whole) as Arc<dyn WholeStore>, guard: Box::new(guard) }
    }

    fn of(&self, shard: ShardId) -> &MySqlScheduler {
        &self.schedulers[usize::from(shard.get())]
    }

    /// How many of a want's rows, the first of all shards, are on each shard.
    async fn shares(&self, want: Want) -> Vec<usize> {
        let mut due = Vec::new();
        for shard in 0..SHARDS {
            let mut conn = connect(self.databases.source_of(shard)).await;
            let (config, due_by, limit) = (want.config.get(), want.due_by.ms(), want.limit);
            let text = format!(
                "SELECT due_at, id FROM task_{shard:03} WHERE config_id = {config} AND status = 0 \
                 AND due_at <= {due_by} ORDER BY due_at, id LIMIT {limit}"
            );
            let rows = sql(&mut conn, &text).await;
            due.extend(rows.iter().map(|row| (row.get::<i64, _>(0), row.get::<i64, _>(1), shard)));
        }
        due.sort_unstable();
        let mut shares = vec![0; usize::from(SHARDS)];
        for (_, _, shard) in due.iter().take(want.limit) {
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
impl Ownership for Whole {
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
        let pairs = self.store.pairs(&[default_group()]).await?;
        assert!(pairs.away.is_empty(), "{pairs:?}");
        let mut owners = Vec::new();
        for seen in &pairs.rows {
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
impl ScheduleStore for Whole {
    fn partition(&self) -> Partition {
        Partition::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        self.schedulers[0].dead_nodes(among).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        let all = try_join_all(self.schedulers.iter().map(ScheduleStore::heads)).await?;
        let mut heads: BTreeMap<ConfigId, Timestamp> = BTreeMap::new();
        for head in all.into_iter().flatten() {
            let first = heads.entry(head.config).or_insert(head.due_at);
            *first = head.due_at.min(*first);
        }
        Ok(heads.into_iter().map(|(config, due_at)| Head { config, due_at }).collect())
    }

    async fn claim(&self, owner: Owner, wants: Vec<Want>, now: Timestamp) -> Result<Claimed> {
        let _claiming = self.claiming.lock().await;
        let mut all = Claimed::default();
        for want in &wants {
            let mut tasks = Vec::new();
            for (of, limit) in self.schedulers.iter().zip(self.shares(*want).await) {
                let claimed = of.claim(owner, vec![Want { limit, ..*want }], now).await?;
                all.deposed |= claimed.deposed;
                let ids: Vec<TaskId> = claimed.bare.iter().map(|row| row.id).collect();
                tasks.extend(crate::run::all(self.runner.load(&ids).await)?.into_iter().flatten());
                all.expired.extend(claimed.expired);
            }
            sort_by_due(&mut tasks);
            all.tasks.extend(tasks);
        }
        if all.deposed {
            return Ok(all);
        }
        let mut heads: BTreeMap<ConfigId, Option<Timestamp>> = BTreeMap::new();
        for of in &self.schedulers {
            let looks = wants.iter().map(|want| Want { limit: 0, ..*want }).collect();
            for (config, head) in of.claim(owner, looks, now).await?.heads {
                let first = heads.entry(config).or_insert(head);
                *first = [*first, head].into_iter().flatten().min();
            }
        }
        all.heads = heads.into_iter().collect();
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

    async fn rearm(&self, owner: Owner, rows: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        let mut changed = Vec::new();
        for (shard, part) in parts(rows, |(id, _)| id) {
            changed.extend(self.of(shard).rearm(owner, part, now).await?);
        }
        Ok(changed)
    }

    async fn lose(&self, owner: Owner, rows: Vec<(TaskId, NodeId)>, now: Timestamp) -> Result<Vec<Task>> {
        let mut changed = Vec::new();
        for (shard, part) in parts(rows, |(id, _)| id) {
            changed.extend(self.of(shard).lose(owner, part, now).await?);
        }
        Ok(changed)
    }

    async fn end_waits(&self, owner: Owner, limit: usize, unit: f64, now: Timestamp) -> Result<Vec<Task>> {
        let mut changed = Vec::new();
        for of in &self.schedulers {
            changed.extend(of.end_waits(owner, limit - changed.len(), unit, now).await?);
        }
        Ok(changed)
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        let all = try_join_all(self.schedulers.iter().map(ScheduleStore::next_deadline)).await?;
        Ok(all.into_iter().flatten().min())
    }

    async fn parks(&self, _: bool, now: Timestamp) -> Result<Vec<Park>> {
        Ok(try_join_all(self.schedulers.iter().map(|of| of.parks(false, now))).await?.concat())
    }

    async fn save_parks(&self, news: Vec<ParkNews>) -> Result<()> {
        for one in news {
            let (ParkNews::Asked(Park { config, .. }) | ParkNews::Ended { config, .. }) = one;
            self.of(config_shard(config, SHARDS)).save_parks(vec![one]).await?;
        }
        Ok(())
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        let mut all = try_join_all(self.schedulers.iter().map(ScheduleStore::cursors)).await?.concat();
        all.sort_by_key(|cursor| cursor.config);
        Ok(all)
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        Ok(try_join_all(self.schedulers.iter().map(|of| of.cursors_of(configs))).await?.concat())
    }

    async fn fire(&self, owner: Owner, fire: Fire, now: Timestamp) -> Result<Fired> {
        self.of(config_shard(fire.config, SHARDS)).fire(owner, fire, now).await
    }

    async fn prune(&self, limit: usize, now: Timestamp) -> Result<usize> {
        let mut pruned = 0;
        for of in &self.schedulers {
            pruned += of.prune(limit - pruned, now).await?;
        }
        Ok(pruned)
    }

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

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        let all = try_join_all(self.schedulers.iter().map(ScheduleStore::next_due)).await?;
        Ok(all.into_iter().flatten().min())
    }
}

#[async_trait]
impl RunStore for Whole {
    fn bulkheads(&self) -> usize {
        self.runner.bulkheads()
    }

    fn bulkhead(&self, task: TaskId) -> usize {
        self.runner.bulkhead(task)
    }

    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        self.runner.load(ids).await
    }

    async fn begin(&self, node: NodeId, batch: Vec<Begin>, now: Timestamp) -> Each<Begun> {
        self.runner.begin(node, batch, now).await
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<Finished> {
        self.runner.finish(node, batch, now).await
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        self.runner.release(batch, now).await
    }

    async fn executing(&self, node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>> {
        self.runner.executing(node, bulkhead).await
    }

    async fn give_back(&self, node: NodeId, rows: Vec<(TaskId, u32)>, now: Timestamp) -> Result<Vec<Task>> {
        self.runner.give_back(node, rows, now).await
    }
}

#[async_trait]
impl TaskStore for Whole {
    async fn submit(&self, batch: Vec<Submit>, now: Timestamp) -> Result<Vec<Kept<Submitted>>> {
        self.store.submit(batch, now).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.store.task(id).await
    }

    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
        self.store.task_by_key(config, key).await
    }

    async fn change(&self, subject: Subject, wish: Wish, by: &Actor, now: Timestamp) -> Result<Changed> {
        self.store.change(subject, wish, by, now).await
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Cancelled> {
        self.store.cancel_open(config, limit, by, now).await
    }

    async fn search(&self, query: TaskQuery) -> Result<Page> {
        self.store.search(query).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>> {
        self.store.attempts(id).await
    }
}

#[async_trait]
impl Catalog for Whole {
    fn book(&self) -> &Arc<ConfigBook> {
        self.store.book()
    }

    fn shards(&self) -> u16 {
        Catalog::shards(&self.store)
    }

    async fn create_app(
        &self,
        app: NewApp,
        keep: Option<Keep<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<AppSaved>> {
        self.store.create_app(app, keep, by, now).await
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        self.store.update_app(id, edit, by, now).await
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        self.store.delete_app(id, by, now).await
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        self.store.create_key(key, by, now).await
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        self.store.keys(app).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        self.store.key_by_hash(hash).await
    }

    async fn delete_key(&self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        self.store.delete_key(app, id, by, now).await
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        keep: Option<Keep<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<ConfigSaved>> {
        self.store.save_config(save, keep, by, now).await
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        self.store.hold_config(id, hold, by, now).await
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: Expected,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Deleted> {
        self.store.delete_config(id, expected, by, now).await
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        self.store.parked(id, now).await
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        self.store.unpark(id, now).await
    }

    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        self.store.renew_id_slot(slot, until).await
    }

    async fn refresh(&self) -> Result<()> {
        self.store.refresh().await
    }

    async fn applied_by_all(&self, seq: i64) -> Result<bool> {
        self.store.applied_by_all(seq).await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.store.audit_log(limit).await
    }
}
