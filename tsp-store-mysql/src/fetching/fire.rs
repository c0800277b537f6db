//! Schedules: cursors, and the one step of one schedule (cron reference, section 11).

use tsp_core::schedule::step::{Found, NewOccurrence};
use tsp_core::task::Task;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::backend::columns::cursor_columns;
use tsp_store::backend::row::read_cursor;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{Cursor, Fire, FireResult, Owner};

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::connection::statement_templates::{ROWS_MAX, padded_to_class};
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;
use crate::fetching::group_rows::GroupRows;
use crate::tasks::rows::insert_tasks;

pub(crate) const CURSOR_ALL: &str =
    concat!("-- cursor_all\nSELECT ", cursor_columns!(), " FROM cursor_{shard} ORDER BY config_id");

pub(crate) const CURSORS_OF: &str =
    concat!("-- cursors_of\nSELECT ", cursor_columns!(), " FROM cursor_{shard} WHERE config_id IN ({list})");

const CURSOR_LOCK: &str = concat!(
    "-- cursor_lock\nSELECT ",
    cursor_columns!(),
    " FROM cursor_{shard} WHERE config_id = ? FOR UPDATE"
);

/// The cursor of a schedule that no step was taken of.
pub(crate) const CURSOR_INSERT: &str = concat!(
    "-- cursor_insert\nINSERT INTO cursor_{shard} (",
    cursor_columns!(),
    ") VALUES (?, NULL, 1, 0, NULL, 0) ON DUPLICATE KEY UPDATE config_id = config_id"
);

const CURSOR_MOVE: &str = "-- cursor_move
UPDATE cursor_{shard} SET next_fire_at = ?, version = ?, config_version = ?, waiting = ?, missed = ?
WHERE config_id = ? AND version = ?";

/// A task of the schedule, or run by hand, that has not ended; `origin` 0 is
/// [`tsp_core::task::Origin::Submit`]. A cron config has no others, so the first row answers.
pub(crate) const OPEN_OCCURRENCE: &str = "-- occurrence_open
SELECT 1 FROM task_{shard} FORCE INDEX (claim) WHERE config_id = ? AND origin > 0 LIMIT 1";

const OCCURRENCE_FIND: &str = "-- occurrence_find
SELECT 1 FROM occurrence_{shard} WHERE config_id = ? AND execute_at = ? AND origin = 0";

const OCCURRENCE_INSERT: &str = "-- occurrence_insert
INSERT INTO occurrence_{shard} (config_id, execute_at, origin, task_id, late, made_at)
VALUES (?, ?, 0, ?, ?, ?)";

/// Those of configs that have a schedule, whether a step was taken of it or not.
pub(crate) async fn cursors(of: &GroupRows) -> Result<Vec<Cursor>> {
    let mut scheduled: Vec<ConfigId> = of
        .context
        .config_cache
        .all_configs()
        .into_iter()
        .filter(|config| config.spec.schedule.is_some() && of.schedules(config))
        .map(|config| config.id)
        .collect();
    if scheduled.is_empty() {
        return Ok(Vec::new());
    }
    scheduled.sort_unstable();
    let shard = &of.shard()?;
    let rows = shard
        .read("cursors", move |tx| {
            Box::pin(async move { query(&shard.sql(CURSOR_ALL)).fetch_all(tx.conn()).await })
        })
        .await?;
    let mut stored = rows.iter().map(read_cursor).collect::<Result<Vec<_>>>()?.into_iter().peekable();
    let mut cursors = Vec::with_capacity(scheduled.len());
    for config in scheduled {
        // Both are in the order of ids.
        while stored.next_if(|cursor| cursor.config < config).is_some() {}
        let cursor = stored.next_if(|cursor| cursor.config == config);
        cursors.push(cursor.unwrap_or_else(|| Cursor::new(config)));
    }
    Ok(cursors)
}

pub(crate) async fn cursors_of(of: &GroupRows, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
    let ids: Vec<i64> = configs.iter().map(|config| config.get()).collect();
    let (ids, shard) = (&ids, &of.shard()?);
    shard
        .read("cursors_of", move |tx| {
            Box::pin(async move {
                let mut cursors = Vec::with_capacity(ids.len());
                for chunk in ids.chunks(ROWS_MAX) {
                    let (n, chunk) = padded_to_class(chunk);
                    let look = Values::of_ids(chunk).ask(&shard.sql_list(CURSORS_OF, n))?;
                    for row in look.fetch_all(tx.conn()).await? {
                        cursors.push(read_cursor(&row)?);
                    }
                }
                Ok(cursors)
            })
        })
        .await
}

pub(crate) async fn fire(of: &GroupRows, owner: Owner, fire: &Fire, now: Timestamp) -> Result<FireResult> {
    let shard = &of.shard()?;
    shard
        .transact("fire", move |tx| {
            Box::pin(async move {
                if !owns(tx, of, owner).await? {
                    return Ok(FireResult::Deposed);
                }
                fire_on(tx, of, shard, fire, now).await
            })
        })
        .await
}

async fn fire_on(
    tx: &mut Tx<'_>,
    of: &GroupRows,
    on: &ShardDb,
    fire: &Fire,
    now: Timestamp,
) -> Result<FireResult> {
    // Of one whose schedule is here.
    let config = tx.config(&of.context.config_cache, fire.config).filter(|config| of.schedules(config));
    if !fire.fits_config(config.as_deref()) {
        return Ok(FireResult::Stale);
    }
    let cursor = lock_cursor(tx, on, fire.config).await?;
    if !fire.fits_cursor(&cursor) {
        return Ok(FireResult::Stale);
    }
    let wanted = fire.wanted(&cursor);
    let mut found =
        Found { open: wanted.open && occurrence_open(tx, on, fire.config).await?, ..Found::default() };
    for at in wanted.slots {
        // Nobody else makes occurrences of the schedule while this transaction has its cursor.
        let find = query(&on.sql(OCCURRENCE_FIND)).bind(fire.config.get()).bind(at.ms());
        if find.fetch_optional(tx.conn()).await?.is_some() {
            found.handled.insert(at);
        }
    }
    let step = fire.clone().step(cursor, found);
    for new in &step.occurrences {
        insert_occurrence(tx, on, fire.config, new, now).await?;
    }
    let tasks: Vec<&Task> = step.tasks().collect();
    let inserted = insert_tasks(tx, on, &tasks).await?;
    if let Some((task, _)) = tasks.iter().zip(inserted).find(|(_, inserted)| !inserted) {
        return Err(StoreError::Internal(format!("the id of task {} is taken", task.id)));
    }
    move_cursor(tx, on, &step.cursor).await?;
    Ok(step.into())
}

/// The cursor of a schedule, made if there is none yet: saving a config does not wait for its shard. Steps of one
/// schedule wait for each other here.
async fn lock_cursor(tx: &mut Tx<'_>, on: &ShardDb, config: ConfigId) -> Result<Cursor> {
    let lock = || query(&on.sql(CURSOR_LOCK)).bind(config.get());
    if let Some(row) = lock().fetch_optional(tx.conn()).await? {
        return read_cursor(&row);
    }
    query(&on.sql(CURSOR_INSERT)).bind(config.get()).execute(tx.conn()).await?;
    read_cursor(&lock().fetch_one(tx.conn()).await?)
}

async fn move_cursor(tx: &mut Tx<'_>, on: &ShardDb, cursor: &Cursor) -> Result<()> {
    let moved = query(&on.sql(CURSOR_MOVE))
        .bind(cursor.next_fire_at.map(Timestamp::ms))
        .bind(cursor.version)
        .bind(cursor.config_version)
        .bind(cursor.waiting.map(Timestamp::ms))
        .bind(cursor.missed)
        .bind(cursor.config.get())
        .bind(cursor.version - 1)
        .execute(tx.conn())
        .await?;
    exactly_one(moved, "cursor_move")
}

async fn occurrence_open(tx: &mut Tx<'_>, on: &ShardDb, config: ConfigId) -> Result<bool> {
    let found = query(&on.sql(OPEN_OCCURRENCE)).bind(config.get()).fetch_optional(tx.conn()).await?;
    Ok(found.is_some())
}

async fn insert_occurrence(
    tx: &mut Tx<'_>,
    on: &ShardDb,
    config: ConfigId,
    new: &NewOccurrence,
    now: Timestamp,
) -> Result<()> {
    let inserted = query(&on.sql(OCCURRENCE_INSERT))
        .bind(config.get())
        .bind(new.execute_at.ms())
        .bind(new.task.as_ref().map(|task| task.id.get()))
        .bind(i8::from(new.late))
        .bind(now.ms())
        .execute(tx.conn())
        .await?;
    exactly_one(inserted, "occurrence_insert")
}
