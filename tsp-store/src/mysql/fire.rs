//! Schedules: cursors, and the one step of one schedule (cron reference, section 11).

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;
use tsp_core::schedule::{Overlap, OverlapDecision, overlap_decision};
use tsp_core::task::Task;
use tsp_core::{ConfigId, TaskId, Timestamp};

use crate::error::{Result, StoreError};
use crate::schedule::{Cursor, Fire, Fired, Owner, SlotTask};

use super::bind::Values;
use super::db::ShardDb;
use super::fault::exactly_one;
use super::fence::owns;
use super::group_rows::GroupRows;
use super::hot::insert_task;
use super::session::query;
use super::text::{ROWS_MAX, padded};
use super::tx::Tx;

pub(super) const CURSOR_ALL: &str = "-- cursor_all
SELECT config_id, next_fire_at, version, config_version, waiting, missed FROM cursor_{shard} ORDER BY config_id";

pub(super) const CURSORS_OF: &str = "-- cursors_of
SELECT config_id, next_fire_at, version, config_version, waiting, missed FROM cursor_{shard}
WHERE config_id IN ({list})";

const CURSOR_LOCK: &str = "-- cursor_lock
SELECT config_id, next_fire_at, version, config_version, waiting, missed FROM cursor_{shard}
WHERE config_id = ? FOR UPDATE";

const CURSOR_INSERT: &str = "-- cursor_insert
INSERT INTO cursor_{shard} (config_id, next_fire_at, version, config_version, waiting, missed)
VALUES (?, NULL, ?, ?, NULL, 0) ON DUPLICATE KEY UPDATE config_id = config_id";

const CURSOR_MOVE: &str = "-- cursor_move
UPDATE cursor_{shard} SET next_fire_at = ?, version = ?, config_version = ?, waiting = ?, missed = ?
WHERE config_id = ? AND version = ?";

/// A task of the schedule, or run by hand, that has not ended; `origin` 0 is
/// [`tsp_core::task::Origin::Submit`]. A cron config has no others, so the first row answers.
pub(super) const OPEN_OCCURRENCE: &str = "-- occurrence_open
SELECT 1 FROM task_{shard} FORCE INDEX (claim) WHERE config_id = ? AND origin > 0 LIMIT 1";

const OCCURRENCE_FIND: &str = "-- occurrence_find
SELECT 1 FROM occurrence_{shard} WHERE config_id = ? AND execute_at = ? AND origin = 0";

const OCCURRENCE_INSERT: &str = "-- occurrence_insert
INSERT INTO occurrence_{shard} (config_id, execute_at, origin, task_id, late, made_at)
VALUES (?, ?, 0, ?, ?, ?)";

/// Of a schedule that no step was taken of: saving a config does not touch the shards, so the first step
/// makes the row.
fn new_cursor(config: ConfigId) -> Cursor {
    Cursor { config, next_fire_at: None, version: 1, config_version: 0, waiting: None, missed: 0 }
}

/// Those of configs that have a schedule, whether a step was taken of it or not.
pub(super) async fn cursors(of: &GroupRows) -> Result<Vec<Cursor>> {
    let mut scheduled: Vec<ConfigId> = of
        .core
        .book
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
        cursors.push(cursor.unwrap_or_else(|| new_cursor(config)));
    }
    Ok(cursors)
}

pub(super) async fn cursors_of(of: &GroupRows, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
    let ids: Vec<i64> = configs.iter().map(|config| config.get()).collect();
    let (ids, shard) = (&ids, &of.shard()?);
    shard
        .read("cursors_of", move |tx| {
            Box::pin(async move {
                let mut cursors = Vec::with_capacity(ids.len());
                for chunk in ids.chunks(ROWS_MAX) {
                    let (n, chunk) = padded(chunk);
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

pub(super) fn read_cursor(row: &MySqlRow) -> Result<Cursor> {
    Ok(Cursor {
        config: ConfigId::new(row.try_get(0)?),
        next_fire_at: row.try_get::<Option<i64>, _>(1)?.map(Timestamp::from_ms),
        version: row.try_get(2)?,
        config_version: row.try_get(3)?,
        waiting: row.try_get::<Option<i64>, _>(4)?.map(Timestamp::from_ms),
        missed: row.try_get(5)?,
    })
}

pub(super) async fn fire(of: &GroupRows, owner: Owner, fire: &Fire, now: Timestamp) -> Result<Fired> {
    let shard = &of.shard()?;
    shard
        .transact("fire", move |tx| {
            Box::pin(async move {
                if !owns(tx, of, owner).await? {
                    return Ok(Fired::Deposed);
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
) -> Result<Fired> {
    if !may_fire(tx, of, fire) {
        return Ok(Fired::Stale);
    }
    let mut cursor = lock_cursor(tx, on, fire.config).await?;
    if cursor.version != fire.cursor_version || cursor.config_version > fire.config_version {
        return Ok(Fired::Stale);
    }
    let mut step = Step { on, now, made: Vec::new(), skipped: 0, waiting: cursor.waiting };
    if let Some(slot) = &fire.waiting
        && step.waiting == Some(slot.task.execute_at)
        && !occurrence_open(tx, on, fire.config).await?
    {
        step.waiting = None;
        if !occurrence_exists(tx, on, fire.config, slot.task.execute_at).await? {
            step.make(tx, slot).await?;
        }
    }
    for slot in &fire.slots {
        step.slot(tx, slot, fire.overlap).await?;
    }
    let expected = cursor.version;
    let Step { made, skipped, waiting, .. } = step;
    cursor.next_fire_at = fire.next_fire_at;
    cursor.version += 1;
    cursor.config_version = fire.config_version;
    cursor.waiting = waiting;
    cursor.missed += fire.missed;
    move_cursor(tx, on, &cursor, expected).await?;
    Ok(Fired::Moved { cursor, made: made.into_iter().map(Box::new).collect(), skipped })
}

/// The step was computed from the config as it stands, which has a schedule here and may fire.
fn may_fire(tx: &mut Tx<'_>, of: &GroupRows, fire: &Fire) -> bool {
    tx.config(&of.core.book, fire.config).is_some_and(|config| {
        let runs = config.spec.schedule.is_some() && config.runnable() && of.schedules(&config);
        runs && config.version == fire.config_version
    })
}

/// The cursor of a schedule, made if there is none yet. Steps of one schedule wait for each other here.
async fn lock_cursor(tx: &mut Tx<'_>, on: &ShardDb, config: ConfigId) -> Result<Cursor> {
    let lock = || query(&on.sql(CURSOR_LOCK)).bind(config.get());
    if let Some(row) = lock().fetch_optional(tx.conn()).await? {
        return read_cursor(&row);
    }
    let new = new_cursor(config);
    let insert = query(&on.sql(CURSOR_INSERT)).bind(config.get()).bind(new.version).bind(new.config_version);
    insert.execute(tx.conn()).await?;
    read_cursor(&lock().fetch_one(tx.conn()).await?)
}

async fn move_cursor(tx: &mut Tx<'_>, on: &ShardDb, cursor: &Cursor, expected: i64) -> Result<()> {
    let moved = query(&on.sql(CURSOR_MOVE))
        .bind(cursor.next_fire_at.map(Timestamp::ms))
        .bind(cursor.version)
        .bind(cursor.config_version)
        .bind(cursor.waiting.map(Timestamp::ms))
        .bind(cursor.missed)
        .bind(cursor.config.get())
        .bind(expected)
        .execute(tx.conn())
        .await?;
    exactly_one(moved, "cursor_move")
}

async fn occurrence_open(tx: &mut Tx<'_>, on: &ShardDb, config: ConfigId) -> Result<bool> {
    let found = query(&on.sql(OPEN_OCCURRENCE)).bind(config.get()).fetch_optional(tx.conn()).await?;
    Ok(found.is_some())
}

/// What a step has made so far.
struct Step<'a> {
    on: &'a ShardDb,
    now: Timestamp,
    made: Vec<Task>,
    skipped: usize,
    waiting: Option<Timestamp>,
}

impl Step<'_> {
    /// One slot, by the rows as they are now, with what the slots before it made.
    async fn slot(&mut self, tx: &mut Tx<'_>, slot: &SlotTask, overlap: Overlap) -> Result<()> {
        let (config, at) = (slot.task.config, slot.task.execute_at);
        if self.waiting == Some(at) || occurrence_exists(tx, self.on, config, at).await? {
            return Ok(());
        }
        let open = overlap != Overlap::Allow && occurrence_open(tx, self.on, config).await?;
        match overlap_decision(overlap, open, self.waiting) {
            OverlapDecision::Make => self.make(tx, slot).await,
            OverlapDecision::Skip => self.skip(tx, config, at, slot.late).await,
            OverlapDecision::Wait => match self.waiting.replace(at) {
                // The one that waited gives way, and runs no more.
                Some(before) if !occurrence_exists(tx, self.on, config, before).await? => {
                    self.skip(tx, config, before, slot.late).await
                }
                _ => Ok(()),
            },
        }
    }

    /// Inserts an occurrence that is not there yet, and its task.
    async fn make(&mut self, tx: &mut Tx<'_>, slot: &SlotTask) -> Result<()> {
        let mut task = slot.task.clone();
        self.insert(tx, task.config, task.execute_at, Some(task.id), slot.late).await?;
        if !insert_task(tx, self.on, &task).await? {
            // Another task holds its key: the slot is promised all the same, so it stands beside.
            task.key_slot = task.id.get();
            if !insert_task(tx, self.on, &task).await? {
                return Err(StoreError::Internal(format!("the id of task {} is taken", task.id)));
            }
        }
        self.made.push(*task);
        Ok(())
    }

    /// Records a slot that overlap leaves out.
    async fn skip(&mut self, tx: &mut Tx<'_>, config: ConfigId, at: Timestamp, late: bool) -> Result<()> {
        self.insert(tx, config, at, None, late).await?;
        self.skipped += 1;
        Ok(())
    }

    async fn insert(
        &self,
        tx: &mut Tx<'_>,
        config: ConfigId,
        at: Timestamp,
        task: Option<TaskId>,
        late: bool,
    ) -> Result<()> {
        let inserted = query(&self.on.sql(OCCURRENCE_INSERT))
            .bind(config.get())
            .bind(at.ms())
            .bind(task.map(TaskId::get))
            .bind(i8::from(late))
            .bind(self.now.ms())
            .execute(tx.conn())
            .await?;
        exactly_one(inserted, "occurrence_insert")
    }
}

/// Nobody else makes occurrences of the schedule while this transaction has its cursor.
async fn occurrence_exists(tx: &mut Tx<'_>, on: &ShardDb, config: ConfigId, at: Timestamp) -> Result<bool> {
    let find = query(&on.sql(OCCURRENCE_FIND)).bind(config.get()).bind(at.ms());
    Ok(find.fetch_optional(tx.conn()).await?.is_some())
}
