//! Schedules: cursors, and the one step of one schedule (cron reference, section 11).

use rusqlite::{Connection, OptionalExtension, Row, params};
use tsp_core::schedule::{Overlap, OverlapDecision, overlap_decision};
use tsp_core::task::Task;
use tsp_core::{ConfigId, TaskId, Timestamp};

use crate::error::{Result, StoreError};
use crate::schedule::{Cursor, Fire, Fired, Owner, SlotTask};

use super::claim::owns;
use super::fault::{exactly_one, one_or_none};
use super::row::{all, first};
use super::tx::Tx;

const CURSOR_ALL: &str = "-- cursor_all
SELECT config_id, next_fire_at, version, config_version, waiting, missed FROM cursor ORDER BY config_id";

const CURSOR_OF: &str = "-- cursor_of
SELECT config_id, next_fire_at, version, config_version, waiting, missed FROM cursor WHERE config_id = ?";

const CURSOR_MOVE: &str = "-- cursor_move
UPDATE cursor SET next_fire_at = ?1, version = ?2, config_version = ?3, waiting = ?4, missed = ?5
WHERE config_id = ?6 AND version = ?7";

/// A task of the schedule, or run by hand, that has not ended; `origin` 0 is
/// [`tsp_core::task::Origin::Submit`].
pub(super) const OPEN_OCCURRENCE: &str = "-- occurrence_open
SELECT 1 FROM task WHERE config_id = ? AND origin > 0 LIMIT 1";

const OCCURRENCE_FIND: &str = "-- occurrence_find
SELECT 1 FROM occurrence WHERE config_id = ? AND execute_at = ? AND origin = 0";

const OCCURRENCE_INSERT: &str = "-- occurrence_insert
INSERT INTO occurrence (config_id, execute_at, origin, task_id, late, made_at) VALUES (?, ?, 0, ?, ?, ?)
ON CONFLICT DO NOTHING";

pub(super) fn cursors(conn: &Connection) -> Result<Vec<Cursor>> {
    all(conn.prepare_cached(CURSOR_ALL)?.query([])?, read_cursor)
}

pub(super) fn cursors_of(conn: &Connection, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
    let mut cursors = Vec::with_capacity(configs.len());
    for config in configs {
        cursors.extend(first(conn.prepare_cached(CURSOR_OF)?.query([config.get()])?, read_cursor)?);
    }
    Ok(cursors)
}

fn read_cursor(row: &Row<'_>) -> Result<Cursor> {
    Ok(Cursor {
        config: ConfigId::new(row.get(0)?),
        next_fire_at: row.get::<_, Option<i64>>(1)?.map(Timestamp::from_ms),
        version: row.get(2)?,
        config_version: row.get(3)?,
        waiting: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_ms),
        missed: row.get(5)?,
    })
}

pub(super) fn fire(tx: &mut Tx<'_>, owner: Owner, fire: Fire, now: Timestamp) -> Result<Fired> {
    if !owns(tx, owner)? {
        return Ok(Fired::Deposed);
    }
    let Some(mut cursor) =
        first(tx.conn.prepare_cached(CURSOR_OF)?.query([fire.config.get()])?, read_cursor)?
    else {
        return Ok(Fired::Stale);
    };
    if !is_current(tx, &cursor, &fire) {
        return Ok(Fired::Stale);
    }
    let mut step = Step { made: Vec::new(), skipped: 0, waiting: cursor.waiting };
    if let Some(slot) = fire.waiting
        && step.waiting == Some(slot.task.execute_at)
        && !occurrence_open(tx.conn, fire.config)?
    {
        step.waiting = None;
        step.make(tx, slot, now)?;
    }
    for slot in fire.slots {
        step.slot(tx, slot, fire.overlap, now)?;
    }
    let expected = cursor.version;
    let Step { made, skipped, waiting } = step;
    cursor.next_fire_at = fire.next_fire_at;
    cursor.version += 1;
    cursor.config_version = fire.config_version;
    cursor.waiting = waiting;
    cursor.missed += fire.missed;
    move_cursor(tx.conn, &cursor, expected)?;
    Ok(Fired::Moved { cursor, made: made.into_iter().map(Box::new).collect(), skipped })
}

/// The step was computed from this cursor and from the config as it stands, which may fire.
fn is_current(tx: &Tx<'_>, cursor: &Cursor, fire: &Fire) -> bool {
    let config = tx.config(fire.config);
    let config_holds =
        config.is_some_and(|config| config.runnable() && config.version == fire.config_version);
    config_holds && cursor.version == fire.cursor_version && cursor.config_version <= fire.config_version
}

fn move_cursor(conn: &Connection, cursor: &Cursor, expected: i64) -> Result<()> {
    let changed = conn.prepare_cached(CURSOR_MOVE)?.execute(params![
        cursor.next_fire_at.map(Timestamp::ms),
        cursor.version,
        cursor.config_version,
        cursor.waiting.map(Timestamp::ms),
        cursor.missed,
        cursor.config.get(),
        expected,
    ])?;
    exactly_one(changed, "cursor_move")
}

fn occurrence_open(conn: &Connection, config: ConfigId) -> Result<bool> {
    let open: Option<i64> =
        conn.prepare_cached(OPEN_OCCURRENCE)?.query_row([config.get()], |row| row.get(0)).optional()?;
    Ok(open.is_some())
}

/// What a step has made so far.
struct Step {
    made: Vec<Task>,
    skipped: usize,
    waiting: Option<Timestamp>,
}

impl Step {
    /// One slot, by the rows as they are now, with what the slots before it made.
    fn slot(&mut self, tx: &mut Tx<'_>, slot: SlotTask, overlap: Overlap, now: Timestamp) -> Result<()> {
        let (config, at) = (slot.task.config, slot.task.execute_at);
        if self.waiting == Some(at) || occurrence_exists(tx.conn, config, at)? {
            return Ok(());
        }
        match overlap_decision(overlap, occurrence_open(tx.conn, config)?, self.waiting) {
            OverlapDecision::Make => return self.make(tx, slot, now),
            OverlapDecision::Skip => self.skip(tx, config, at, slot.late, now)?,
            OverlapDecision::Wait => {
                if let Some(before) = self.waiting.replace(at) {
                    // The one that waited gives way, and runs no more.
                    self.skip(tx, config, before, slot.late, now)?;
                }
            }
        }
        Ok(())
    }

    /// Inserts the occurrence and its task; one that exists is passed over.
    fn make(&mut self, tx: &mut Tx<'_>, slot: SlotTask, now: Timestamp) -> Result<()> {
        let SlotTask { mut task, late } = slot;
        if !insert_occurrence(tx.conn, task.config, task.execute_at, Some(task.id), late, now)? {
            return Ok(());
        }
        if !tx.hot.insert(&task, &mut tx.sums)? {
            // Another task holds its key: the slot is promised all the same, so it stands beside.
            task.key_slot = task.id.get();
            if !tx.hot.insert(&task, &mut tx.sums)? {
                return Err(StoreError::Internal(format!("the id of task {} is taken", task.id)));
            }
        }
        self.made.push(*task);
        Ok(())
    }

    /// Records a slot that overlap leaves out.
    fn skip(
        &mut self,
        tx: &Tx<'_>,
        config: ConfigId,
        at: Timestamp,
        late: bool,
        now: Timestamp,
    ) -> Result<()> {
        let new = insert_occurrence(tx.conn, config, at, None, late, now)?;
        self.skipped += usize::from(new);
        Ok(())
    }
}

fn occurrence_exists(conn: &Connection, config: ConfigId, at: Timestamp) -> Result<bool> {
    let found: Option<i64> = conn
        .prepare_cached(OCCURRENCE_FIND)?
        .query_row([config.get(), at.ms()], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

fn insert_occurrence(
    conn: &Connection,
    config: ConfigId,
    at: Timestamp,
    task: Option<TaskId>,
    late: bool,
    now: Timestamp,
) -> Result<bool> {
    let changed = conn.prepare_cached(OCCURRENCE_INSERT)?.execute(params![
        config.get(),
        at.ms(),
        task.map(TaskId::get),
        late,
        now.ms()
    ])?;
    one_or_none(changed, "occurrence_insert")
}
