//! What callers and operators do with tasks.
use tsp_core::task::{AttemptRecord, Task};
use tsp_core::task_key::key_shard;
use tsp_core::transition::Change;
use tsp_core::transition::submit::reopen;
use tsp_core::{ConfigId, NodeId, TaskId, TaskKey, Timestamp};
use tsp_store::backend::columns::{attempt_columns, ended_columns};
use tsp_store::backend::row::{read_attempt, read_task};
use tsp_store::backend::row_count::exactly_one;
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::rules::only_attempt;
use tsp_store::tasks::{Actor, CommandResult, Subject, TaskCommand};

use crate::connection::bind::key_hash;
use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::context::{StoreContext, all_of};
use crate::tasks::rows::{ended_task, insert_attempts, insert_task, lock_task, open_task, save};
use crate::tasks::submit::canonical;

pub(crate) const LATEST_OF_KEY: &str = concat!(
    "-- task_latest_of_key\nSELECT ",
    ended_columns!("task_key"),
    " FROM history_{shard} FORCE INDEX (by_key) WHERE config_id = ? AND key_hash = ? AND task_key = ? \
     ORDER BY ended_at DESC, id DESC LIMIT 1"
);

const ATTEMPTS: &str = concat!(
    "-- attempts\nSELECT ",
    attempt_columns!(),
    " FROM attempt_{shard} WHERE task_id = ? ORDER BY attempt"
);

/// While a replay decides, nobody else replays the same.
const ENDED_LOCK: &str = concat!(
    "-- task_ended_lock\nSELECT ",
    ended_columns!("task_key"),
    " FROM history_{shard} WHERE id = ? AND ended_at = ? FOR UPDATE"
);
const LAST_NODE: &str = "-- last_node\nSELECT last_node FROM history_{shard} WHERE id = ? AND ended_at = ?";
const HISTORY_REOPEN: &str =
    "-- history_reopen\nDELETE FROM history_{shard} WHERE id = ? AND ended_at = ? AND version = ?";

/// A key is looked up again so often when its task is another one meanwhile.
const LOOKUPS_MAX: usize = 5;

pub(crate) async fn task(context: &StoreContext, id: TaskId) -> Result<Option<Task>> {
    // A number that no id can be names no shard of ours.
    let Ok(on) = context.shard_of(id) else { return Ok(None) };
    let on = &on;
    on.read("task", move |tx| Box::pin(row(tx, on, id))).await
}

/// Open or ended. A row that is moved between the two reads is found by the third.
async fn row(tx: &mut Tx<'_>, on: &ShardDb, id: TaskId) -> Result<Option<Task>> {
    if let Some(task) = open_task(tx, on, id).await? {
        return Ok(Some(task));
    }
    match ended_task(tx, on, id).await? {
        Some(task) => Ok(Some(task)),
        None => open_task(tx, on, id).await,
    }
}

/// The canonical open task is in the home shard of its key; ended ones are where the key's home was then.
pub(crate) async fn task_by_key(
    context: &StoreContext,
    config: ConfigId,
    key: &TaskKey,
) -> Result<Option<Task>> {
    // A config that is gone has no open tasks, so any shard is as good.
    let span = context.config(config).map_or(0, |config| config.spec.span);
    let home = key_shard(config, key.as_str(), span, context.shards);
    let on = &context.shard(home)?;
    let open = on.read("task_by_key", move |tx| Box::pin(canonical(tx, on, config, key))).await?;
    if open.is_some() {
        return Ok(open);
    }
    let looks = context.all_shards().into_iter().map(|on| async move {
        let on = &on;
        on.read("task_by_key", move |tx| Box::pin(latest_of_key(tx, on, config, key))).await
    });
    let found = all_of(looks).await?;
    Ok(found.into_iter().flatten().max_by_key(|task| (task.ended_at, task.id)))
}

async fn latest_of_key(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    config: ConfigId,
    key: &TaskKey,
) -> Result<Option<Task>> {
    let latest =
        query(&on.sql(LATEST_OF_KEY)).bind(config.get()).bind(key_hash(key).to_vec()).bind(key.as_str());
    latest.fetch_optional(tx.conn()).await?.as_ref().map(read_task).transpose()
}

pub(crate) async fn attempts(context: &StoreContext, id: TaskId) -> Result<Vec<AttemptRecord>> {
    let Ok(on) = context.shard_of(id) else { return Ok(Vec::new()) };
    let on = &on;
    on.read("attempts", move |tx| {
        Box::pin(async move {
            let rows = query(&on.sql(ATTEMPTS)).bind(id.get()).fetch_all(tx.conn()).await?;
            let mut records = rows.iter().map(read_attempt).collect::<Result<Vec<_>>>()?;
            if let Some(task) = ended_task(tx, on, id).await? {
                let node = last_node(tx, on, &task).await?;
                records.extend(only_attempt(&task, node));
            }
            Ok(records)
        })
    })
    .await
}

/// Who ran the attempt that ended a task.
async fn last_node(tx: &mut Tx<'_>, on: &ShardDb, task: &Task) -> Result<Option<NodeId>> {
    let sql = on.sql(LAST_NODE);
    let found = query(&sql).bind(task.id.get()).bind(task.ended_at.unwrap_or_default().ms());
    let Some(row) = found.fetch_optional(tx.conn()).await? else { return Ok(None) };
    Ok(row.get::<Option<i64>>(0)?.map(NodeId::new))
}

pub(crate) async fn change(
    context: &StoreContext,
    subject: &Subject,
    command: &TaskCommand,
    by: &Actor,
    now: Timestamp,
) -> Result<CommandResult> {
    let changed = match subject {
        Subject::Id(id) => change_one(context, *id, command, now).await?,
        Subject::Key(config, key) => change_by_key(context, *config, key, command, now).await?,
    };
    if let (CommandResult::Done { task, .. }, Some((action, detail))) = (&changed, command.audited()) {
        context.audit_entries(by, action, &[task.id], &detail, now).await;
    }
    Ok(changed)
}

/// A task that was open when its key was looked up and has ended before it was locked is not meant: the key
/// may have another one now.
async fn change_by_key(
    context: &StoreContext,
    config: ConfigId,
    key: &TaskKey,
    command: &TaskCommand,
    now: Timestamp,
) -> Result<CommandResult> {
    for _ in 0..LOOKUPS_MAX {
        let Some(found) = task_by_key(context, config, key).await? else {
            return Ok(CommandResult::NotFound);
        };
        let changed = change_one(context, found.id, command, now).await?;
        match &changed {
            CommandResult::Refused { task, .. } if found.is_open() && !task.is_open() => {}
            CommandResult::NotFound => {}
            _ => return Ok(changed),
        }
    }
    Err(Cause::Changed.because(format!("the task of key `{key}` is another one at each look")))
}

async fn change_one(
    context: &StoreContext,
    id: TaskId,
    command: &TaskCommand,
    now: Timestamp,
) -> Result<CommandResult> {
    let Ok(on) = context.shard_of(id) else { return Ok(CommandResult::NotFound) };
    let on = &on;
    on.transact("change", move |tx| Box::pin(change_row(tx, context, on, id, command, now))).await
}

async fn change_row(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    on: &ShardDb,
    id: TaskId,
    command: &TaskCommand,
    now: Timestamp,
) -> Result<CommandResult> {
    let Some(row) = locked(tx, on, id, *command == TaskCommand::Replay).await? else {
        return Ok(CommandResult::NotFound);
    };
    let change = match command.decide(&row, context.config(row.config).as_deref(), now) {
        Ok(change) => change,
        Err(why) => return Ok(CommandResult::Refused { task: Box::new(row), why }),
    };
    if !row.is_open() {
        return replay(tx, context, on, &row, change).await;
    }
    let outcome_detail = change.outcome_detail;
    match save(tx, on, row.version, change).await? {
        Some(task) => Ok(CommandResult::Done { task, outcome_detail }),
        None => Err(StoreError::Internal(format!("task {id} changed while it was locked"))),
    }
}

/// The row as nobody else changes it: an open one, else an ended one, locked if it is to be opened again.
async fn locked(tx: &mut Tx<'_>, on: &ShardDb, id: TaskId, reopen: bool) -> Result<Option<Task>> {
    if let Some(task) = lock_task(tx, on, id).await? {
        return Ok(Some(task));
    }
    let ended = match ended_task(tx, on, id).await? {
        Some(ended) if reopen => {
            let at = ended.ended_at.unwrap_or_default().ms();
            let row = query(&on.sql(ENDED_LOCK)).bind(id.get()).bind(at).fetch_optional(tx.conn()).await?;
            row.as_ref().map(read_task).transpose()?
        }
        ended => ended,
    };
    match ended {
        Some(task) => Ok(Some(task)),
        // Opened again between the two reads.
        None => lock_task(tx, on, id).await,
    }
}

/// Moves an ended row back to the open ones, unless an open task holds its key.
async fn replay(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    on: &ShardDb,
    ended: &Task,
    change: Change,
) -> Result<CommandResult> {
    let Change { mut task, outcome_detail, .. } = change;
    let config = tx.config(&context.config_cache, task.config);
    match reopen(&task, config.as_deref(), context.shards, None) {
        Ok(key_slot) => task.key_slot = key_slot,
        Err(refusal) => return Ok(refusal.into()),
    }
    let node = last_node(tx, on, ended).await?;
    let first = only_attempt(ended, node);
    if first.is_some()
        && let Some(extra) = &mut task.extra
    {
        extra.excerpt = None;
    }
    // First of all writes: if the key is taken, nothing else has been done.
    if !insert_task(tx, on, &task).await? {
        let holder = match &task.key {
            Some(key) => canonical(tx, on, task.config, key).await?.map(|holder| holder.id),
            None => None,
        };
        return match reopen(&task, config.as_deref(), context.shards, holder) {
            Err(refusal) => Ok(refusal.into()),
            Ok(_) => Err(StoreError::Internal(format!("task {} cannot be opened again", task.id))),
        };
    }
    // It is not the only one any more, so it gets its own row like the others.
    insert_attempts(tx, on, first.as_slice()).await?;
    let deleted = query(&on.sql(HISTORY_REOPEN))
        .bind(ended.id.get())
        .bind(ended.ended_at.unwrap_or_default().ms())
        .bind(ended.version)
        .execute(tx.conn())
        .await?;
    exactly_one(deleted, "history_reopen")?;
    tx.sums.dropped += 1;
    Ok(CommandResult::Done { task: Box::new(task), outcome_detail })
}
