//! The store as one node of a cluster has it: rows that all share, fenced by the lease of their owner, and a config cache of
//! its own, which follows the changes that others make.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::transition::OutcomeDetail;
use tsp_core::work::{AttemptStore, BeginRequest, BeginResult, Each, Finish, FinishResult, WorkError};
use tsp_core::{AppId, Clock, ClusterClock, ConfigId, KeyId, Millis, NodeId, TaskId, TaskKey, Timestamp};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, AuditLog, Catalog, ConfigBarrier, ConfigSaved, DeleteResult,
    ExpectedVersion, Hold, NewApp, NewKey, SaveConfig,
};
use tsp_store::cluster::{LeaseStore, NodeLease};
use tsp_store::fetching::{
    Audit, AuditorStore, ClaimRequest, ClaimResult, Cursor, EarliestDue, EmbeddedOwnership, FetchScope,
    FetcherStore, Fire, FireResult, FlightMark, InFlightPage, Owner, RetentionStore,
};
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult};
use tsp_store::parks::{Park, ParkEvent};
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{
    Actor, CancelCount, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore,
};
use tsp_store::{Cause, ConfigCache, IdSlots, Result, StoreError, forward};
use tsp_store_testing::memory::MemoryStore;

use super::{ClusterBug, Environment};
use crate::weather::HoldReason;

/// So long before the end of its lease a node commits nothing any more that it decided by its config cache.
const LEASE_MARGIN: Millis = Millis::from_secs(2);

pub(super) struct View {
    /// By the node's own config cache.
    pub(super) rows: MemoryStore,
    pub(super) environment: Arc<Environment>,
    pub(super) lease: Arc<NodeLease>,
    pub(super) clock: Arc<ClusterClock>,
}

impl View {
    fn has(&self, bug: ClusterBug) -> bool {
        self.environment.plan.bug == Some(bug)
    }

    /// What each transaction of an owner begins with.
    fn owns(&self, owner: Owner) -> bool {
        let environment = &self.environment;
        let leased = environment.leases.lease_check(&environment.shard_group, owner);
        let owns = leased || self.has(ClusterBug::LeaseNotAsked);
        environment.write_of(owner, owns);
        if owns {
            self.rows.hand_to(owner);
        }
        owns
    }

    /// What each transaction that goes by the config cache ends with.
    fn may_commit(&self) -> Result<()> {
        if self.lease.holds(self.clock.now().plus(LEASE_MARGIN)) {
            return Ok(());
        }
        Err(Cause::LeaseOver.because("the lease of this node is nearly over"))
    }

    /// Takes in what others have changed.
    pub(super) fn follow(&self) {
        let (config_cache, truth) = (self.rows.config_cache(), self.environment.store.config_cache());
        for app in truth.apps(None, usize::MAX) {
            config_cache.put_app(app);
        }
        let seq = truth.seq();
        for config in truth.changed_since(config_cache.seq()) {
            config_cache.put_config(config, seq);
        }
        config_cache.reach(seq);
    }

    /// A node's own change is in its config cache at once, also when earlier ones of others are not.
    fn changed(&self, id: ConfigId) {
        let seq = self.environment.store.config_cache().seq();
        self.environment.leases.set_config_seq(seq);
        if let Some(config) = self.environment.store.config_cache().config(id) {
            self.rows.config_cache().put_config(config, seq);
        }
    }
}

#[async_trait]
impl TaskStore for View {
    forward!(rows: task task_by_key cancel_open search attempts);

    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        self.may_commit()?;
        let answers = self.rows.submit(batch, now).await?;
        for answer in &answers {
            if let IdempotencyResult::Fresh(SubmitOutcome::Reset { task, .. }) = answer {
                self.environment.checker.lock().reopened(task.id);
            }
        }
        Ok(answers)
    }

    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CommandResult> {
        let cancels = command == TaskCommand::Cancel;
        let changed = self.rows.change(subject, command.clone(), by, now).await?;
        if let CommandResult::Done { task, outcome_detail } = &changed {
            // Here and not with the answer, which may be late: what comes after it in the rows is judged by it.
            let mut checker = self.environment.checker.lock();
            match outcome_detail {
                OutcomeDetail::TooLate if cancels => checker.too_late(task, now),
                _ if cancels => checker.cancelled(task.id, now),
                _ if command == TaskCommand::Replay => checker.reopened(task.id),
                _ => {}
            }
        }
        Ok(changed)
    }
}

#[async_trait]
impl AttemptStore for View {
    forward!(rows: load release executing release_orphans);

    async fn begin(&self, node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult> {
        if let Err(error) = self.may_commit() {
            return batch.iter().map(|_| Err(error.clone().into())).collect();
        }
        self.rows.begin(node, batch, now).await
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
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
}

#[async_trait]
impl EmbeddedOwnership for View {
    async fn register_node(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        Err(StoreError::Internal(format!("`{name}` at {now}: nodes join by their leases")))
    }

    async fn take_shards(&self, node: NodeId, now: Timestamp) -> Result<Owner> {
        Err(StoreError::Internal(format!("{node} at {now}: shards are taken by their leases")))
    }
}

#[async_trait]
impl FetcherStore for View {
    forward!(rows:
        earliest_due in_flight next_deadline parks save_parks cursors cursors_of
    );

    fn fetch_scope(&self) -> FetchScope {
        FetchScope::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        let rows = self.environment.leases.nodes().await?;
        let alive = |id: &NodeId| rows.iter().any(|row| row.id == *id && row.dead_at.is_none());
        Ok(among.iter().copied().filter(|id| !alive(id)).collect())
    }

    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult> {
        if !self.owns(owner) {
            return Ok(ClaimResult { deposed: true, ..ClaimResult::default() });
        }
        self.rows.claim(owner, requests, now).await
    }

    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        if self.owns(owner) { self.rows.return_to_scheduled(owner, rows, now).await } else { Ok(Vec::new()) }
    }

    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        if self.owns(owner) { self.rows.mark_worker_lost(owner, rows, now).await } else { Ok(Vec::new()) }
    }

    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        if self.owns(owner) {
            self.rows.end_waits(owner, limit, jitter_fraction, now).await
        } else {
            Ok(Vec::new())
        }
    }

    async fn fire(&self, owner: Owner, fires: Vec<Fire>, now: Timestamp) -> Vec<Result<FireResult>> {
        if let Err(error) = self.may_commit() {
            return fires.iter().map(|_| Err(error.clone())).collect();
        }
        if self.owns(owner) {
            return self.rows.fire(owner, fires, now).await;
        }
        fires.iter().map(|_| Ok(FireResult::Deposed)).collect()
    }
}

#[async_trait]
impl RetentionStore for View {
    forward!(rows: apply_retention);
}

#[async_trait]
impl AuditorStore for View {
    forward!(rows: audit);
}

#[async_trait]
impl IdSlots for View {
    forward!(rows: renew_id_slot);
}

#[async_trait]
impl AuditLog for View {
    forward!(rows: audit_log);
}

#[async_trait]
impl Catalog for View {
    forward!(rows:
        config_cache shards create_key keys key_by_hash delete_key parked unpark
    );
    forward!(environment.store: create_app update_app delete_app delete_config);

    async fn refresh(&self) -> Result<()> {
        self.follow();
        Ok(())
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        idempotency: Option<IdempotencyRequest<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<ConfigSaved>> {
        let saved = self.environment.store.save_config(save, idempotency, by, now).await?;
        if let IdempotencyResult::Fresh(ConfigSaved::Created(config) | ConfigSaved::Updated(config)) = &saved
        {
            self.changed(config.id);
        }
        Ok(saved)
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        if hold == Hold::Resume {
            // Before it is answered others may know it already.
            self.environment.held.let_go(id, HoldReason::Paused);
        }
        let saved = self.environment.store.hold_config(id, hold, by, now).await?;
        self.changed(id);
        Ok(saved)
    }
}

#[async_trait]
impl ConfigBarrier for View {
    async fn applied_by_all(&self, seq: i64) -> Result<bool> {
        if self.has(ClusterBug::BarrierDoesNotWait) {
            return Ok(true);
        }
        let rows = self.environment.leases.nodes().await?;
        Ok(rows.iter().filter(|row| row.dead_at.is_none()).all(|row| row.heartbeat.config_seq >= seq))
    }
}
