//! The store as a process sees it: through weather. Every method of every trait goes through it, and batches
//! of begin, finish and load fail by bulkheads.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::work::{AttemptStore, BeginRequest, BeginResult, Each, Finish, FinishResult, WorkError};
use tsp_core::{ConfigId, NodeId, ShardId, TaskId, TaskKey, Timestamp};
use tsp_store::fetching::{
    Audit, AuditorStore, ClaimRequest, ClaimResult, Cursor, EarliestDue, EmbeddedOwnership, FetchScope,
    FetcherStore, Fire, FireResult, FlightMark, InFlightPage, Owner, RetentionStore,
};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::parks::{Park, ParkEvent};
use tsp_store::search::{Page, TaskQuery};
use tsp_store::tasks::{
    Actor, CancelCount, CommandResult, Subject, Submit, SubmitOutcome, TaskCommand, TaskStore,
};
use tsp_store::{Result, StoreError, WholeStore, forward};
use tsp_store_testing::fire_one;

use crate::coverage::Move;
use crate::weather::{Kind, Weather};

#[derive(Clone)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<dyn WholeStore>,
    pub(crate) weather: Arc<Weather>,
}

impl FaultyStore {
    pub(crate) async fn read<T: Send, E: From<StoreError> + Send>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        self.weather.ask((call, Kind::Read), Vec::new(), work).await
    }

    pub(crate) async fn write<T: Send>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.weather.ask((call, Kind::Write), Vec::new(), work).await
    }

    async fn write_late<T: Send>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.may_be_late(call, Vec::new(), work).await
    }

    async fn may_be_late<T: Send, E: From<StoreError> + Send>(
        &self,
        call: &'static str,
        moves: Vec<Move>,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        self.weather.ask((call, Kind::MayBeLate), moves, work).await
    }

    /// A batch as a cluster does it: each shard by itself, with results for each element.
    async fn by_shard<I: Send, T: Send + 'static>(
        &self,
        call: (&'static str, Kind),
        batch: Vec<(TaskId, Vec<Move>, I)>,
        work: impl Fn(Vec<I>) -> BoxFuture<'static, Each<T>> + Send + Sync,
    ) -> Each<T> {
        let split = self.weather.may_split();
        let mut parts = BTreeMap::<Option<ShardId>, Vec<_>>::new();
        for (at, item) in batch.into_iter().enumerate() {
            parts.entry(split.then(|| item.0.shard())).or_default().push((at, item));
        }
        let mut answers = BTreeMap::new();
        for part in parts.into_values() {
            let (mut places, mut moves, mut items) = (Vec::new(), Vec::new(), Vec::new());
            for (at, (_, asked, item)) in part {
                places.push(at);
                moves.extend(asked);
                items.push(item);
            }
            let work = work(items);
            match self.weather.ask(call, moves, async move { Ok::<_, WorkError>(work.await) }).await {
                Ok(each) => answers.extend(places.into_iter().zip(each)),
                Err(error) => answers.extend(places.into_iter().map(|at| (at, Err(error.clone())))),
            }
        }
        answers.into_values().collect()
    }
}

#[async_trait]
impl TaskStore for FaultyStore {
    forward!(inner, by read: task task_by_key search attempts);

    async fn submit(
        &self,
        batch: Vec<Submit>,
        now: Timestamp,
    ) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
        let moves = batch.iter().map(Move::of_submit).collect();
        let inner = self.inner.clone();
        self.weather.ask(("submit", Kind::Write), moves, async move { inner.submit(batch, now).await }).await
    }

    async fn change(
        &self,
        subject: Subject,
        command: TaskCommand,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CommandResult> {
        let (inner, by, moves) = (self.inner.clone(), by.clone(), vec![Move::of_command(&command)]);
        let work = async move { inner.change(subject, command, &by, now).await };
        self.weather.ask(("change", Kind::Write), moves, work).await
    }

    async fn cancel_open(
        &self,
        config: ConfigId,
        limit: usize,
        by: &Actor,
        now: Timestamp,
    ) -> Result<CancelCount> {
        let (inner, by) = (self.inner.clone(), by.clone());
        let work = async move { inner.cancel_open(config, limit, &by, now).await };
        self.weather.ask(("cancel_open", Kind::Write), vec![Move::Cancel], work).await
    }
}

#[async_trait]
impl AttemptStore for FaultyStore {
    forward!(inner, by read: executing);

    async fn load(&self, ids: &[TaskId]) -> Each<Option<Box<Task>>> {
        let batch = ids.iter().map(|id| (*id, Vec::new(), *id)).collect();
        let work = |ids: Vec<TaskId>| -> BoxFuture<'static, _> {
            let inner = self.inner.clone();
            Box::pin(async move { inner.load(&ids).await })
        };
        self.by_shard(("load", Kind::Read), batch, work).await
    }

    async fn begin(&self, node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult> {
        let batch = batch.into_iter().map(|begin| (begin.id, vec![Move::Begin], begin)).collect();
        let work = |batch: Vec<BeginRequest>| -> BoxFuture<'static, _> {
            let (inner, weather) = (self.inner.clone(), self.weather.clone());
            Box::pin(async move {
                let answers = inner.begin(node, batch, now).await;
                weather.held.begun(&answers);
                answers
            })
        };
        self.by_shard(("begin", Kind::MayBeLate), batch, work).await
    }

    async fn finish(&self, node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> {
        let asked = |finish: Finish| (finish.id, vec![Move::of_verdict(&finish.verdict)], finish);
        let work = |batch: Vec<Finish>| -> BoxFuture<'static, _> {
            let inner = self.inner.clone();
            Box::pin(async move { inner.finish(node, batch, now).await })
        };
        self.by_shard(("finish", Kind::MayBeLate), batch.into_iter().map(asked).collect(), work).await
    }

    async fn release(&self, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, WorkError> {
        let inner = self.inner.clone();
        let moves = batch.iter().map(|_| Move::Release).collect();
        self.may_be_late("release", moves, async move { inner.release(batch, now).await }).await
    }

    async fn release_orphans(
        &self,
        node: NodeId,
        rows: Vec<(TaskId, u32)>,
        now: Timestamp,
    ) -> Result<Vec<Task>, WorkError> {
        let inner = self.inner.clone();
        let moves = rows.iter().map(|_| Move::ReleaseOrphans).collect();
        self.may_be_late("give_back", moves, async move { inner.release_orphans(node, rows, now).await })
            .await
    }
}

#[async_trait]
impl EmbeddedOwnership for FaultyStore {
    forward!(inner, by write: register_node take_shards);
}

#[async_trait]
impl FetcherStore for FaultyStore {
    forward!(inner: fetch_scope);
    forward!(inner, by read: dead_nodes in_flight next_deadline parks cursors cursors_of);
    forward!(inner, by write_late: save_parks);

    async fn earliest_due(&self) -> Result<Vec<EarliestDue>> {
        let inner = self.inner.clone();
        self.read("heads", async move { inner.earliest_due().await }).await
    }

    async fn claim(&self, owner: Owner, requests: Vec<ClaimRequest>, now: Timestamp) -> Result<ClaimResult> {
        let inner = self.inner.clone();
        let moves = requests.first().map(|_| Move::Claim).into_iter().collect();
        self.may_be_late("claim", moves, async move { inner.claim(owner, requests, now).await }).await
    }

    async fn return_to_scheduled(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, i64)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        let inner = self.inner.clone();
        let moves = rows.iter().map(|_| Move::ReturnToScheduled).collect();
        self.may_be_late("rearm", moves, async move { inner.return_to_scheduled(owner, rows, now).await })
            .await
    }

    async fn mark_worker_lost(
        &self,
        owner: Owner,
        rows: Vec<(TaskId, NodeId)>,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        let inner = self.inner.clone();
        let moves = rows.iter().map(|_| Move::MarkWorkerLost).collect();
        self.may_be_late("lose", moves, async move { inner.mark_worker_lost(owner, rows, now).await }).await
    }

    async fn end_waits(
        &self,
        owner: Owner,
        limit: usize,
        jitter_fraction: f64,
        now: Timestamp,
    ) -> Result<Vec<Task>> {
        let inner = self.inner.clone();
        let work = async move { inner.end_waits(owner, limit, jitter_fraction, now).await };
        self.may_be_late("end_waits", vec![Move::Deadline], work).await
    }

    async fn fire(&self, owner: Owner, fires: Vec<Fire>, now: Timestamp) -> Vec<Result<FireResult>> {
        // Each may fail alone.
        let each = fires.into_iter().map(|fire| {
            let inner = self.inner.clone();
            let moves = fire.slots.iter().map(|_| Move::Fire).collect();
            self.may_be_late("fire", moves, async move { fire_one(&*inner, owner, fire, now).await })
        });
        join_all(each).await
    }
}

#[async_trait]
impl RetentionStore for FaultyStore {
    async fn apply_retention(&self, limit: usize, now: Timestamp) -> Result<usize> {
        let inner = self.inner.clone();
        self.write_late("prune", async move { inner.apply_retention(limit, now).await }).await
    }
}

#[async_trait]
impl AuditorStore for FaultyStore {
    forward!(inner, by read: audit);
}
