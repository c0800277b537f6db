//! The store as one node of a cluster has it: rows that all share, fenced by the lease of their owner, and a book of
//! its own, which follows the changes that others make.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::transition::Note;
use tsp_core::work::{Begin, Begun, Finish, Finished};
use tsp_core::{AppId, Clock, ClusterClock, ConfigId, KeyId, Millis, NodeId, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, Catalog, ConfigSaved, Deleted, Expected, Hold, NewApp, NewKey,
    SaveConfig,
};
use tsp_store::cluster::{LeaseStore, NodeLease};
use tsp_store::idempotency::{Keep, Kept};
use tsp_store::memory::MemoryStore;
use tsp_store::parks::{Park, ParkNews};
use tsp_store::run::{Each, RunStore};
use tsp_store::schedule::{
    Audit, Claimed, Cursor, Fire, Fired, FlightMark, Head, InFlightPage, Owner, Ownership, Partition,
    ScheduleStore, Want,
};
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{Actor, Cancelled, Changed, Subject, Submit, Submitted, TaskStore, Wish};
use tsp_store::{Cause, ConfigBook, Result, StoreError};

use super::{ClusterBug, Ground};
use crate::weather::Why;

/// So long before the end of its lease a node commits nothing any more that it decided by its book.
const LEASE_MARGIN: Millis = Millis::from_secs(2);

pub(super) struct View {
    /// By the node's own book.
    pub(super) rows: MemoryStore,
    pub(super) ground: Arc<Ground>,
    pub(super) lease: Arc<NodeLease>,
    pub(super) clock: Arc<ClusterClock>,
}

impl View {
    fn has(&self, bug: ClusterBug) -> bool {
        self.ground.plan.bug == Some(bug)
    }

    /// What each transaction of an owner begins with.
    fn owns(&self, owner: Owner) -> bool {
        let ground = &self.ground;
        let leased = ground.leases.lease_check(&ground.pair, owner);
        let owns = leased || self.has(ClusterBug::LeaseNotAsked);
        ground.write_of(owner, owns);
        if owns {
            self.rows.hand_to(owner);
        }
        owns
    }

    /// What each transaction that goes by the book ends with.
    fn may_commit(&self) -> Result<()> {
        if self.lease.holds(self.clock.now().plus(LEASE_MARGIN)) {
            return Ok(());
        }
        Err(Cause::LeaseOver.because("the lease of this node is nearly over"))
    }

    /// Takes in what others have changed.
    pub(super) fn follow(&self) {
        let (book, truth) = (self.rows.book(), self.ground.store.book());
        for app in truth.apps(None, usize::MAX) {
            book.put_app(app);
        }
        let seq = truth.seq();
        for config in truth.changed_since(book.seq()) {
            book.put_config(config, seq);
        }
        book.reach(seq);
    }

    /// A node's own change is in its book at once, also when earlier ones of others are not.
    fn changed(&self, id: ConfigId) {
        let seq = self.ground.store.book().seq();
        self.ground.leases.set_config_seq(seq);
        if let Some(config) = self.ground.store.book().config(id) {
            self.rows.book().put_config(config, seq);
        }
    }
}

#[async_trait]
impl TaskStore for View {
    async fn submit(&self, batch: Vec<Submit>, now: Timestamp) -> Result<Vec<Kept<Submitted>>> {
        self.may_commit()?;
        let answers = self.rows.submit(batch, now).await?;
        for answer in &answers {
            if let Kept::Fresh(Submitted::Reset { task, .. }) = answer {
                self.ground.checker.lock().reopened(task.id);
            }
        }
        Ok(answers)
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.rows.task(id).await
    }

    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
        self.rows.task_by_key(config, key).await
    }

    async fn change(&self, subject: Subject, wish: Wish, by: &Actor, now: Timestamp) -> Result<Changed> {
        let cancels = wish == Wish::Cancel;
        let changed = self.rows.change(subject, wish.clone(), by, now).await?;
        if let Changed::Done { task, note } = &changed {
            // Here and not with the answer, which may be late: what comes after it in the rows is judged by it.
            let mut checker = self.ground.checker.lock();
            match note {
                Note::TooLate if cancels => checker.too_late(task, now),
                _ if cancels => checker.cancelled(task.id, now),
                _ if wish == Wish::Replay => checker.reopened(task.id),
                _ => {}
            }
        }
        Ok(changed)
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Cancelled> {
        self.rows.cancel_open(config, limit, by, now).await
    }

    async fn search(&self, query: TaskQuery) -> Result<Page> {
        self.rows.search(query).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>> {
        self.rows.attempts(id).await
    }
}

#[async_trait]
impl RunStore for View {
    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        self.rows.load(ids).await
    }

    async fn begin(&self, node: NodeId, batch: Vec<Begin>, now: Timestamp) -> Each<Begun> {
        if let Err(error) = self.may_commit() {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        self.rows.begin(node, batch, now).await
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<Finished> {
        if !self.has(ClusterBug::RescuedNodeFinishes) {
            return self.rows.finish(node, batch, now).await;
        }
        let mut answers = Vec::with_capacity(batch.len());
        for finish in batch {
            let row = self.rows.task(finish.id).await.ok().flatten();
            let attempt = row.as_ref().map_or(finish.attempt, |row| row.attempt);
            let node = row.and_then(|row| row.node).unwrap_or(node);
            answers.extend(self.rows.finish(node, vec![Finish { attempt, ..finish }], now).await);
        }
        answers
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        self.rows.release(batch, now).await
    }

    async fn executing(&self, node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>> {
        self.rows.executing(node, bulkhead).await
    }

    async fn give_back(&self, node: NodeId, rows: Vec<(TaskId, u32)>, now: Timestamp) -> Result<Vec<Task>> {
        self.rows.give_back(node, rows, now).await
    }
}

#[async_trait]
impl Ownership for View {
    async fn register_node(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        Err(StoreError::Internal(format!("`{name}` at {now}: nodes join by their leases")))
    }

    async fn take_shards(&self, node: NodeId, now: Timestamp) -> Result<Owner> {
        Err(StoreError::Internal(format!("{node} at {now}: shards are taken by their leases")))
    }
}

#[async_trait]
impl ScheduleStore for View {
    fn partition(&self) -> Partition {
        Partition::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        let rows = self.ground.leases.nodes().await?;
        let alive = |id: &NodeId| rows.iter().any(|row| row.id == *id && row.dead_at.is_none());
        Ok(among.iter().copied().filter(|id| !alive(id)).collect())
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.rows.heads().await
    }

    async fn claim(&self, owner: Owner, wants: Vec<Want>, now: Timestamp) -> Result<Claimed> {
        if !self.owns(owner) {
            return Ok(Claimed { deposed: true, ..Claimed::default() });
        }
        self.rows.claim(owner, wants, now).await
    }

    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        self.rows.in_flight(after, limit).await
    }

    async fn rearm(&self, owner: Owner, rows: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        if self.owns(owner) { self.rows.rearm(owner, rows, now).await } else { Ok(Vec::new()) }
    }

    async fn lose(&self, owner: Owner, rows: Vec<(TaskId, NodeId)>, now: Timestamp) -> Result<Vec<Task>> {
        if self.owns(owner) { self.rows.lose(owner, rows, now).await } else { Ok(Vec::new()) }
    }

    async fn end_waits(&self, owner: Owner, limit: usize, unit: f64, now: Timestamp) -> Result<Vec<Task>> {
        if self.owns(owner) { self.rows.end_waits(owner, limit, unit, now).await } else { Ok(Vec::new()) }
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        self.rows.next_deadline().await
    }

    async fn parks(&self, anew: bool, now: Timestamp) -> Result<Vec<Park>> {
        self.rows.parks(anew, now).await
    }

    async fn save_parks(&self, news: Vec<ParkNews>) -> Result<()> {
        self.rows.save_parks(news).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        self.rows.cursors().await
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        self.rows.cursors_of(configs).await
    }

    async fn fire(&self, owner: Owner, fire: Fire, now: Timestamp) -> Result<Fired> {
        self.may_commit()?;
        if self.owns(owner) { self.rows.fire(owner, fire, now).await } else { Ok(Fired::Deposed) }
    }

    async fn prune(&self, limit: usize, now: Timestamp) -> Result<usize> {
        self.rows.prune(limit, now).await
    }

    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        self.rows.audit(now).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.rows.next_due().await
    }
}

#[async_trait]
impl Catalog for View {
    fn book(&self) -> &Arc<ConfigBook> {
        self.rows.book()
    }

    fn shards(&self) -> u16 {
        self.rows.shards()
    }

    async fn refresh(&self) -> Result<()> {
        self.follow();
        Ok(())
    }

    async fn create_app(
        &self,
        app: NewApp,
        keep: Option<Keep<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<AppSaved>> {
        self.ground.store.create_app(app, keep, by, now).await
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        self.ground.store.update_app(id, edit, by, now).await
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        self.ground.store.delete_app(id, by, now).await
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        self.rows.create_key(key, by, now).await
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        self.rows.keys(app).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        self.rows.key_by_hash(hash).await
    }

    async fn delete_key(&self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        self.rows.delete_key(app, id, by, now).await
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        keep: Option<Keep<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Kept<ConfigSaved>> {
        let saved = self.ground.store.save_config(save, keep, by, now).await?;
        if let Kept::Fresh(ConfigSaved::Created(config) | ConfigSaved::Updated(config)) = &saved {
            self.changed(config.id);
        }
        Ok(saved)
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        if hold == Hold::Resume {
            // Before it is answered others may know it already.
            self.ground.held.let_go(id, Why::Paused);
        }
        let saved = self.ground.store.hold_config(id, hold, by, now).await?;
        self.changed(id);
        Ok(saved)
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: Expected,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Deleted> {
        self.ground.store.delete_config(id, expected, by, now).await
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        self.rows.parked(id, now).await
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        self.rows.unpark(id, now).await
    }

    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        self.rows.renew_id_slot(slot, until).await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.rows.audit_log(limit).await
    }

    async fn applied_by_all(&self, seq: i64) -> Result<bool> {
        if self.has(ClusterBug::BarrierDoesNotWait) {
            return Ok(true);
        }
        let rows = self.ground.leases.nodes().await?;
        Ok(rows.iter().filter(|row| row.dead_at.is_none()).all(|row| row.beat.config_seq >= seq))
    }
}
