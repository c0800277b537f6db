//! What the owner of the shards does, as the trait has it.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_core::task::Task;
use tsp_core::{ConfigId, NodeId, TaskId, Timestamp};
use tsp_store::backend::fire_chunks::fire_in_chunks;
use tsp_store::error::Result;
use tsp_store::fetching::{
    ClaimRequest, ClaimResult, Cursor, EarliestDue, FetchScope, FetcherStore, Fire, FireResult, FlightMark,
    InFlightPage, Owner,
};
use tsp_store::parks::{Park, ParkEvent};

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::fetching::claim;
use crate::fetching::fire;
use crate::fetching::parks;
use crate::fetching::rescue;
use crate::membership::nodes;

#[async_trait]
impl FetcherStore for SqliteStore {
    fn fetch_scope(&self) -> FetchScope {
        FetchScope::Whole
    }

    async fn dead_nodes(&self, among: &[NodeId]) -> Result<Vec<NodeId>> {
        let among = among.to_vec();
        self.read(Command::DeadNodes, move |conn| nodes::dead_nodes(conn, among)).await
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

    async fn fire(&self, owner: Owner, fires: Vec<Fire>, now: Timestamp) -> Vec<Result<FireResult>> {
        let take = |fires: Arc<[Fire]>| {
            let rows = fires.iter().map(|fire| fire.slots.len() + 1).sum();
            self.write(Command::Fire, rows, move |tx| fire::fire(tx, owner, &fires, now))
        };
        fire_in_chunks(fires, take).await
    }
}
