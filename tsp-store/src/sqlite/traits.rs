//! The traits, each method one command.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::{AppId, ConfigId, KeyId, NodeId, TaskId, TaskKey, Timestamp};

use crate::attempts::{AttemptStore, Begin, BeginResult, Each, Finish, FinishResult, alike};
use crate::catalog::{
    ApiKey, AppEdit, AppSaved, AuditEntry, Catalog, ConfigSaved, Deleted, Expected, Hold, NewApp, NewKey,
    SaveConfig,
};
use crate::config_cache::ConfigCache;
use crate::error::Result;
use crate::fetching::{
    Audit, ClaimRequest, ClaimResult, Cursor, EarliestDue, EmbeddedOwnership, FetchScope, FetcherStore, Fire,
    FireResult, FlightMark, InFlightPage, Owner,
};
use crate::idempotency::{IdempotencyRequest, IdempotencyResult};
use crate::parks::{Park, ParkEvent};
use crate::search::{Page, TaskQuery};
use crate::tasks::{Actor, Cancelled, Changed, Subject, Submit, Submitted, TaskCommand, TaskStore};

use super::command::Command;
use super::idempotency::idempotent;
use super::{
    SqliteStore, apps, attempts, audit, claim, configs, fire, keys, parks, rescue, retention, search, submit,
    tasks,
};

/// Rows dropped in one transaction: others wait behind it.
const DROPPED_PER_COMMAND: usize = 200;

#[async_trait]
impl TaskStore for SqliteStore {
    async fn submit(&self, batch: Vec<Submit>, now: Timestamp) -> Result<Vec<IdempotencyResult<Submitted>>> {
        self.write(Command::Submit, batch.len(), move |tx| submit::submit(tx, batch, now)).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.read(Command::Task, move |conn| tasks::task(conn, id)).await
    }

    async fn task_by_key(&self, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
        let key = key.clone();
        self.read(Command::TaskByKey, move |conn| tasks::task_by_key(conn, config, &key)).await
    }

    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Changed> {
        let by = by.clone();
        self.write(Command::Change, 1, move |tx| tasks::change(tx, &subject, &command, &by, now)).await
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Cancelled> {
        let by = by.clone();
        self.write(Command::CancelOpen, limit, move |tx| tasks::cancel_open(tx, config, limit, &by, now))
            .await
    }

    async fn search(&self, query: TaskQuery) -> Result<Page> {
        let ids = self.shared.config_cache.in_scope(&query.scope);
        self.read(Command::Search, move |conn| search::search(conn, &query, &ids)).await
    }

    async fn attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>> {
        self.read(Command::Attempts, move |conn| tasks::attempts(conn, id)).await
    }
}

/// Each answer of a command, or the command's error for all `count` elements.
fn each<T>(answers: Result<Each<T>>, count: usize) -> Each<T> {
    alike(answers, count).into_iter().map(Result::flatten).collect()
}

#[async_trait]
impl AttemptStore for SqliteStore {
    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        let (count, ids) = (ids.len(), ids.to_vec());
        each(self.read(Command::Load, move |conn| attempts::load(conn, &ids)).await, count)
    }

    async fn begin(&self, node: NodeId, batch: Vec<Begin>, now: Timestamp) -> Each<BeginResult> {
        let count = batch.len();
        each(self.write(Command::Begin, count, move |tx| attempts::begin(tx, node, batch, now)).await, count)
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
        let count = batch.len();
        each(
            self.write(Command::Finish, count, move |tx| attempts::finish(tx, node, batch, now)).await,
            count,
        )
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
        self.write(Command::Release, batch.len(), move |tx| attempts::release(tx, batch, now)).await
    }

    async fn executing(&self, node: NodeId, _bulkhead: usize) -> Result<Vec<(TaskId, u32)>> {
        self.read(Command::Executing, move |conn| attempts::executing(conn, node)).await
    }

    async fn release_orphans(
        &self,
        node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        self.write(Command::ReleaseOrphans, rows.len(), move |tx| {
            rescue::release_orphans(tx, node, &rows, now)
        })
        .await
    }
}

#[async_trait]
impl EmbeddedOwnership for SqliteStore {
    async fn register_node(&self, name: &str, now: Timestamp) -> Result<NodeId> {
        let name = name.to_owned();
        self.write(Command::RegisterNode, 1, move |tx| claim::register_node(tx, &name, now)).await
    }

    async fn take_shards(&self, node: NodeId, now: Timestamp) -> Result<Owner> {
        self.write(Command::TakeShards, 1, move |tx| claim::take_shards(tx, node, now)).await
    }
}

#[async_trait]
impl FetcherStore for SqliteStore {
    fn fetch_scope(&self) -> FetchScope {
        FetchScope::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        let among = among.to_vec();
        self.read(Command::DeadNodes, move |conn| claim::dead_nodes(conn, among)).await
    }

    async fn earliest_due(&self) -> Result<Vec<EarliestDue>> {
        self.read(Command::EarliestDue, claim::earliest_due).await
    }

    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult> {
        let rows = requests.iter().fold(0, |rows: usize, request| rows.saturating_add(request.limit));
        self.write(Command::Claim, rows, move |tx| claim::claim(tx, owner, &requests, now)).await
    }

    async fn in_flight(&self, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
        self.read(Command::InFlight, move |conn| claim::in_flight(conn, after, limit)).await
    }

    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        self.write(Command::ReturnToScheduled, rows.len(), move |tx| {
            rescue::return_to_scheduled(tx, owner, rows, now)
        })
        .await
    }

    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        self.write(Command::MarkWorkerLost, rows.len(), move |tx| {
            rescue::mark_worker_lost(tx, owner, rows, now)
        })
        .await
    }

    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        self.write(Command::EndWaits, limit, move |tx| {
            rescue::end_waits(tx, owner, limit, jitter_fraction, now)
        })
        .await
    }

    async fn next_deadline(&self) -> Result<Option<Timestamp>> {
        self.read(Command::NextDeadline, rescue::next_deadline).await
    }

    async fn parks(&self, _reread: bool, now: Timestamp) -> Result<Vec<Park>> {
        self.read(Command::Parks, move |conn| parks::parks(conn, now)).await
    }

    async fn save_parks(&self, events: Vec<ParkEvent>) -> Result<()> {
        self.write(Command::SavePark, events.len(), move |tx| parks::save(tx, &events)).await
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        self.read(Command::Cursors, fire::cursors).await
    }

    async fn cursors_of(&self, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
        let configs = configs.to_vec();
        self.read(Command::CursorsOf, move |conn| fire::cursors_of(conn, &configs)).await
    }

    async fn fire(&self, owner: Owner, fire: Fire, now: Timestamp) -> Result<FireResult> {
        let rows = fire.slots.len() + 1;
        self.write(Command::Fire, rows, move |tx| fire::fire(tx, owner, fire, now)).await
    }

    async fn apply_retention(&self, limit: usize, now: Timestamp) -> Result<usize> {
        let (config_cache, scan) = (self.shared.config_cache.clone(), *self.retained_from.lock());
        let found = self
            .read(Command::RetentionFind, move |conn| retention::find(conn, &config_cache, scan, limit, now))
            .await?;
        *self.retained_from.lock() = found.scan;
        for victims in found.victims.chunks(DROPPED_PER_COMMAND) {
            let victims = victims.to_vec();
            self.write(Command::RetentionDrop, victims.len(), move |tx| {
                retention::drop_victims(tx, &victims)
            })
            .await?;
        }
        Ok(found.victims.len())
    }

    async fn audit(&self, now: Timestamp) -> Result<Audit> {
        self.read(Command::Audit, move |conn| audit::audit(conn, now)).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.read(Command::NextDue, audit::next_due).await
    }
}

#[async_trait]
impl Catalog for SqliteStore {
    fn config_cache(&self) -> &Arc<ConfigCache> {
        &self.shared.config_cache
    }

    fn shards(&self) -> u16 {
        self.shared.shards
    }

    async fn create_app(
        &self,
        app: NewApp,
        idempotency: Option<IdempotencyRequest<AppSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<AppSaved>> {
        let by = by.clone();
        self.write(Command::CreateApp, 1, move |tx| {
            idempotent(tx, idempotency, now, |tx| apps::create_app(tx, app, &by, now))
        })
        .await
    }

    async fn update_app(&self, id: AppId, edit: AppEdit, by: &Actor, now: Timestamp) -> Result<AppSaved> {
        let by = by.clone();
        self.write(Command::UpdateApp, 1, move |tx| apps::update_app(tx, id, edit, &by, now)).await
    }

    async fn delete_app(&self, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        let by = by.clone();
        self.write(Command::DeleteApp, 1, move |tx| apps::delete_app(tx, id, &by, now)).await
    }

    async fn create_key(&self, key: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
        let by = by.clone();
        self.write(Command::CreateKey, 1, move |tx| keys::create_key(tx, key, &by, now)).await
    }

    async fn keys(&self, app: Option<AppId>) -> Result<Vec<ApiKey>> {
        self.read(Command::Keys, move |conn| keys::keys(conn, app)).await
    }

    async fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
        let hash = *hash;
        self.read(Command::KeyByHash, move |conn| keys::key_by_hash(conn, &hash)).await
    }

    async fn delete_key(&self, app: Option<AppId>, id: KeyId, by: &Actor, now: Timestamp) -> Result<Deleted> {
        let by = by.clone();
        self.write(Command::DeleteKey, 1, move |tx| keys::delete_key(tx, app, id, &by, now)).await
    }

    async fn save_config(
        &self,
        save: SaveConfig,
        idempotency: Option<IdempotencyRequest<ConfigSaved>>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<IdempotencyResult<ConfigSaved>> {
        let by = by.clone();
        self.write(Command::SaveConfig, 1, move |tx| {
            idempotent(tx, idempotency, now, |tx| configs::save_config(tx, save, &by, now))
        })
        .await
    }

    async fn hold_config(&self, id: ConfigId, hold: Hold, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
        let by = by.clone();
        self.write(Command::HoldConfig, 1, move |tx| configs::hold_config(tx, id, hold, &by, now)).await
    }

    async fn delete_config(
        &self,
        id: ConfigId,
        expected: Expected,
        by: &Actor,
        now: Timestamp,
    ) -> Result<Deleted> {
        let by = by.clone();
        self.write(Command::DeleteConfig, 1, move |tx| configs::delete_config(tx, id, expected, &by, now))
            .await
    }

    async fn parked(&self, id: ConfigId, now: Timestamp) -> Result<Option<Park>> {
        self.read(Command::Parks, move |conn| parks::parked(conn, id, now)).await
    }

    async fn unpark(&self, id: ConfigId, now: Timestamp) -> Result<()> {
        if self.parked(id, now).await?.is_none() {
            return Ok(());
        }
        self.save_parks(vec![ParkEvent::Ended { config: id, at: now }]).await
    }

    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        self.write(Command::RenewIdSlot, 1, move |tx| claim::renew_id_slot(tx.conn, slot, until)).await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.read(Command::AuditLog, move |conn| audit::audit_log(conn, limit)).await
    }

    async fn refresh(&self) -> Result<()> {
        Ok(())
    }

    async fn applied_by_all(&self, _seq: i64) -> Result<bool> {
        Ok(true)
    }
}
