//! New tasks: what becomes of a group of them in one transaction of one shard.

use std::collections::{HashMap, HashSet};

use tokio::sync::Mutex;
use tsp_core::config::OnDuplicateKey;
use tsp_core::task::Task;
use tsp_core::transition::OutcomeDetail;
use tsp_core::transition::submit::{Clash, admit, clash, is_repeated};
use tsp_core::{ConfigId, TaskId, TaskKey, Timestamp};
use tsp_store::backend::columns::open_columns;
use tsp_store::backend::row::read_task;
use tsp_store::backend::row_count::exactly;
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Submit, SubmitOutcome};

use crate::connection::bind::{Values, key_hash};
use crate::connection::db::ShardDb;
use crate::connection::row::Row;
use crate::connection::session::{Statement, query};
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::context::StoreContext;
use crate::tasks::idempotency::{self, LookupResult, PendingAnswer};
use crate::tasks::rows::{
    TASKS_DELETE, ended_from, ended_task, insert_few, insert_task, insert_tasks, open_task, save,
};

pub(crate) const CANONICAL: &str = concat!(
    "-- task_canonical\nSELECT ",
    open_columns!("task_key"),
    " FROM task_{shard} WHERE config_id = ? AND key_hash = ? AND key_slot = 0"
);
const CANONICAL_LOCK: &str = concat!(
    "-- task_canonical_lock\nSELECT ",
    open_columns!("task_key"),
    " FROM task_{shard} WHERE config_id = ? AND key_hash = ? AND key_slot = 0 FOR UPDATE"
);

const ENDED_AMONG: &str = "-- task_ended_among
SELECT id FROM history_{shard} WHERE id IN ({list}) AND ended_at >= ?";

/// A transaction is tried so often when others take its idempotency keys first.
const CLASHES_MAX: usize = 5;

/// One submit on its way.
pub(crate) struct Item {
    pub(crate) task: Box<Task>,
    on_duplicate: OnDuplicateKey,
    own_payload: bool,
    pub(crate) idempotency: Option<PendingAnswer>,
    pub(crate) now: Timestamp,
    /// Its id is promised already, so it is made on that shard even if that is not its key's home any more:
    /// beside what holds the key there.
    pub(crate) promised: bool,
}

impl Item {
    pub(crate) fn new(submit: Submit, now: Timestamp) -> Self {
        let Submit { task, on_duplicate, own_payload, idempotency } = submit;
        Self {
            task,
            on_duplicate,
            own_payload,
            idempotency: idempotency.map(PendingAnswer::new),
            now,
            promised: false,
        }
    }
}

/// What a transaction did with an item.
#[derive(Debug)]
pub(crate) enum ItemResult {
    Done(IdempotencyResult<SubmitOutcome>),
    /// The same idempotency key stands earlier in the group.
    Later,
    /// Its idempotency key was taken for another id, and it is not known what became of that.
    Started,
    /// It alone cannot be done.
    Failed(StoreError),
}

/// Does all of a group in one transaction of `on`, where their ids are. The answers are in their order.
pub(crate) async fn submit_group(
    context: &StoreContext,
    on: &ShardDb,
    items: &Mutex<Vec<Item>>,
) -> Result<Vec<ItemResult>> {
    for _ in 0..CLASHES_MAX {
        let clashed = std::sync::atomic::AtomicBool::new(false);
        let clash = &clashed;
        let done = on
            .transact("submit", move |tx| {
                Box::pin(async move {
                    let mut items = items.lock().await;
                    let taken = take(tx, context, on, &mut items).await?;
                    let Some(taken) = write_answers(tx, context, &mut items, taken).await? else {
                        clash.store(true, std::sync::atomic::Ordering::Relaxed);
                        return Err(Cause::Busy.because("others use the same idempotency keys"));
                    };
                    Ok(taken)
                })
            })
            .await;
        if done.is_ok() || !clashed.into_inner() {
            return done;
        }
    }
    Err(Cause::Busy.because("others use the same idempotency keys again and again"))
}

async fn take(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    on: &ShardDb,
    items: &mut [Item],
) -> Result<Vec<ItemResult>> {
    let kept = items.iter().filter_map(|item| Some((item.idempotency.as_ref()?.key, item.now))).collect();
    let found = idempotency::find(tx, context, kept).await?;
    let mut taken = known(tx, context, items, found);
    let mut new: Vec<usize> = (0..items.len()).filter(|at| taken[*at].is_none()).collect();
    // In one order for all, so that groups with the same keys wait for each other and do not deadlock.
    new.sort_by_cached_key(|at| items[*at].task.key.as_ref().map(key_hash));
    let tasks: Vec<&Task> = new.iter().map(|at| &*items[*at].task).collect();
    let (inserted, before) = insert_new(tx, on, &tasks).await?;
    for (at, inserted) in new.into_iter().zip(inserted) {
        let item = &mut items[at];
        let done = if before.contains(&item.task.id) {
            again(tx, on, &item.task).await.map_err(ItemError::from)
        } else if inserted {
            Ok(SubmitOutcome::Created(item.task.clone()))
        } else {
            clashing(tx, on, item).await
        };
        taken[at] = Some(match done {
            Ok(submitted) => ItemResult::Done(IdempotencyResult::Fresh(submitted)),
            Err(ItemError::Own(error)) => ItemResult::Failed(error),
            Err(ItemError::All(error)) => return Err(error),
        });
    }
    Ok(taken.into_iter().flatten().collect())
}

/// What needs no task: kept answers and refusals. The others get their key slots.
fn known(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    items: &mut [Item],
    mut found: HashMap<[u8; 32], LookupResult>,
) -> Vec<Option<ItemResult>> {
    let mut seen = HashSet::new();
    let mut taken = Vec::with_capacity(items.len());
    for item in items {
        taken.push(if idempotency::is_repeated_key(&mut seen, item.idempotency.as_ref()) {
            Some(ItemResult::Later)
        } else {
            match item.idempotency.as_ref().and_then(|idempotency| found.remove(&idempotency.key.hash)) {
                Some(LookupResult::Stored(kept)) => Some(ItemResult::Done(kept)),
                Some(LookupResult::Started(id)) if id != item.task.id => Some(ItemResult::Started),
                _ => refused(tx, context, item),
            }
        });
    }
    taken
}

fn refused(tx: &mut Tx<'_>, context: &StoreContext, item: &mut Item) -> Option<ItemResult> {
    let config = tx.config(&context.config_cache, item.task.config);
    match admit(&item.task, config.as_deref(), context.shards, item.promised) {
        Ok(key_slot) => {
            item.task.key_slot = key_slot;
            None
        }
        Err(refusal) => Some(ItemResult::Done(IdempotencyResult::Fresh(refusal.into()))),
    }
}

/// Of each task whether it was inserted, and the ids of those that had ended already.
async fn insert_new(tx: &mut Tx<'_>, on: &ShardDb, tasks: &[&Task]) -> Result<(Vec<bool>, HashSet<TaskId>)> {
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    if let Some(ended) = insert_few(tx, on, tasks, ended_among(on, &ids)?).await? {
        let before = take_back(tx, on, ended).await?;
        return Ok((vec![true; tasks.len()], before));
    }
    let inserted = insert_tasks(tx, on, tasks).await?;
    let made = ids.into_iter().zip(&inserted).filter(|(_, inserted)| **inserted);
    let ids: Vec<TaskId> = made.map(|(id, _)| id).collect();
    let mut before = HashSet::new();
    for chunk in ids.chunks(ROWS_MAX) {
        let ended = ended_among(on, chunk)?.fetch_all(tx.conn()).await?;
        before.extend(take_back(tx, on, ended).await?);
    }
    Ok((inserted, before))
}

fn ended_among<'v>(on: &ShardDb, ids: &[TaskId]) -> Result<Statement<'v>> {
    let from = ids.iter().map(|id| ended_from(*id)).min().unwrap_or_default();
    let mut values = Values::of_ids(ids.iter().map(|id| id.get()));
    values.put(from.ms());
    values.ask(&on.sql(ENDED_AMONG))
}

/// An id that has ended already was inserted all the same: its own end left the id free. Takes those back
/// and returns which they are. Nothing ends after this read, because ends delete a row that is now ours.
async fn take_back(tx: &mut Tx<'_>, on: &ShardDb, ended: Vec<Row>) -> Result<HashSet<TaskId>> {
    let ids = ended.iter().map(|row| row.get::<i64>(0)).collect::<Result<Vec<_>>>()?;
    if !ids.is_empty() {
        let delete = Values::of_ids(ids.iter().copied()).ask(&on.sql(TASKS_DELETE))?;
        exactly(ids.len(), delete.execute(tx.conn()).await?, "tasks_delete")?;
        tx.sums.accepted -= i64::try_from(ids.len()).unwrap_or(0);
    }
    Ok(ids.into_iter().map(TaskId::new).collect())
}

/// Whose an error is.
enum ItemError {
    /// The item's own: nothing was written for it, and the others go on.
    Own(StoreError),
    /// The transaction's.
    All(StoreError),
}

impl From<StoreError> for ItemError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Internal(_) | StoreError::Corrupt { .. } => Self::Own(error),
            _ => Self::All(error),
        }
    }
}

/// An open task has the id of this one, or holds its key.
async fn clashing(tx: &mut Tx<'_>, on: &ShardDb, item: &mut Item) -> Result<SubmitOutcome, ItemError> {
    if open_task(tx, on, item.task.id).await?.is_some() {
        return Ok(again(tx, on, &item.task).await?);
    }
    let task = &mut item.task;
    let holder = holder(tx, on, task, item.on_duplicate).await?;
    match clash(task, item.on_duplicate, item.own_payload, holder, item.now) {
        Clash::Insert { key_slot } => {
            task.key_slot = key_slot;
            if insert_task(tx, on, task).await? {
                return Ok(SubmitOutcome::Created(task.clone()));
            }
            let why = format!("task {} was refused and nobody holds its key", task.id);
            Err(ItemError::Own(StoreError::Internal(why)))
        }
        Clash::Existing(holder) => Ok(SubmitOutcome::Existing(holder)),
        Clash::Reset(change) => {
            let (id, after_current) = (change.task.id, change.outcome_detail == OutcomeDetail::AfterCurrent);
            // More than one statement: half of it must not be committed with the others.
            let saved = save(tx, on, change.task.version - 1, *change).await.map_err(ItemError::All)?;
            let changed = || StoreError::Internal(format!("task {id} changed while it was locked"));
            let task = saved.ok_or_else(|| ItemError::All(changed()))?;
            Ok(SubmitOutcome::Reset { task, after_current })
        }
    }
}

/// A repeated id is the same submit again (its first answer was lost), or a bug.
async fn again(tx: &mut Tx<'_>, on: &ShardDb, task: &Task) -> Result<SubmitOutcome> {
    let row = match open_task(tx, on, task.id).await? {
        Some(row) => Some(row),
        None => ended_task(tx, on, task.id).await?,
    };
    match row {
        Some(row) if is_repeated(task, &row) => Ok(SubmitOutcome::Created(Box::new(row))),
        _ => Err(StoreError::Internal(format!("task id {} is used already", task.id))),
    }
}

/// The open task that stands in the way of `task`, where it matters which. It stays, locked or not: the refused
/// insert has locked its entry in the index.
async fn holder(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    task: &Task,
    on_duplicate: OnDuplicateKey,
) -> Result<Option<Task>> {
    match (&task.key, on_duplicate) {
        (None, _) | (_, OnDuplicateKey::Add) => Ok(None),
        (Some(key), OnDuplicateKey::Reset) => canonical_by(tx, on, CANONICAL_LOCK, task.config, key).await,
        (Some(key), OnDuplicateKey::Ignore) => canonical(tx, on, task.config, key).await,
    }
}

/// The canonical open task of a key, if this shard has it.
pub(crate) async fn canonical(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    config: ConfigId,
    key: &TaskKey,
) -> Result<Option<Task>> {
    canonical_by(tx, on, CANONICAL, config, key).await
}

async fn canonical_by(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    template: &'static str,
    config: ConfigId,
    key: &TaskKey,
) -> Result<Option<Task>> {
    let found = query(&on.sql(template)).bind(config.get()).bind(key_hash(key).to_vec());
    let Some(row) = found.fetch_optional(tx.conn()).await? else { return Ok(None) };
    let task = read_task(&row)?;
    if task.key.as_ref() == Some(key) {
        return Ok(Some(task));
    }
    Err(StoreError::Internal(format!("the keys of tasks {} and `{key}` have the same hash", task.id)))
}

/// Puts the answers beside the work. `None`: somebody else took a key first.
async fn write_answers(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    items: &mut [Item],
    taken: Vec<ItemResult>,
) -> Result<Option<Vec<ItemResult>>> {
    let mut done = Vec::new();
    for (item, taken) in items.iter_mut().zip(&taken) {
        if let (Some(idempotency), ItemResult::Done(IdempotencyResult::Fresh(submitted))) =
            (&mut item.idempotency, taken)
        {
            done.push((idempotency, item.task.id, submitted.clone()));
        }
    }
    if !done.is_empty() && !idempotency::put(tx, context, done).await? {
        return Ok(None);
    }
    Ok(Some(taken))
}
