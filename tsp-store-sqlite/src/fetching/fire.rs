//! Schedules: cursors, and steps of schedules (cron reference, section 11).

use rusqlite::params;
use tsp_core::schedule::step::{NewOccurrence, StepFindings};
use tsp_core::{ConfigId, Timestamp};
use tsp_store::backend::columns::cursor_columns;
use tsp_store::backend::row::read_cursor;
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{Cursor, Fire, FireResult, Owner};

use crate::catalog::configs::make_cursor;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;

statements! {
    CURSOR_ALL = concat!("-- cursor_all\nSELECT ", cursor_columns!(), " FROM cursor ORDER BY config_id");
    CURSOR_OF = concat!("-- cursor_of\nSELECT ", cursor_columns!(), " FROM cursor WHERE config_id = ?");

    CURSOR_MOVE = "-- cursor_move
    UPDATE cursor SET next_fire_at = ?1, version = ?2, config_version = ?3, waiting = ?4, missed = ?5
    WHERE config_id = ?6 AND version = ?7";

    /// A task of the schedule, or run by hand, that has not ended; `origin` 0 is
    /// [`tsp_core::task::Origin::Submit`].
    pub(crate) OPEN_OCCURRENCE = "-- occurrence_open
    SELECT 1 FROM task WHERE config_id = ? AND origin > 0 LIMIT 1"
        => "SEARCH task USING INDEX task_occurrence (config_id=?)";

    OCCURRENCE_FIND = "-- occurrence_find
    SELECT 1 FROM occurrence WHERE config_id = ? AND execute_at = ? AND origin = 0"
        => "SEARCH occurrence USING PRIMARY KEY (config_id=? AND execute_at=? AND origin=?)";

    OCCURRENCE_INSERT = "-- occurrence_insert
    INSERT INTO occurrence (config_id, execute_at, origin, task_id, late, made_at) VALUES (?, ?, 0, ?, ?, ?)
    ON CONFLICT DO NOTHING";
}

pub(crate) fn cursors(conn: Session<'_>) -> Result<Vec<Cursor>> {
    conn.prepare(CURSOR_ALL)?.all([], |row| read_cursor(row))
}

pub(crate) fn cursors_of(conn: Session<'_>, configs: &[ConfigId]) -> Result<Vec<Cursor>> {
    configs.iter().filter_map(|config| cursor_of(conn, *config).transpose()).collect()
}

fn cursor_of(conn: Session<'_>, config: ConfigId) -> Result<Option<Cursor>> {
    conn.prepare(CURSOR_OF)?.first([config.get()], |row| read_cursor(row))
}

pub(crate) fn fire(tx: &mut Tx<'_>, owner: Owner, fires: &[Fire], now: Timestamp) -> Result<Vec<FireResult>> {
    if !owns(tx, owner)? {
        return Ok(vec![FireResult::Deposed; fires.len()]);
    }
    fires.iter().map(|fire| fire_one(tx, fire, now)).collect()
}

fn fire_one(tx: &mut Tx<'_>, fire: &Fire, now: Timestamp) -> Result<FireResult> {
    let config = fire.config;
    if !fire.fits_config(tx.config(config).as_deref()) {
        return Ok(FireResult::Stale);
    }
    let cursor = match cursor_of(tx.conn, config)? {
        Some(cursor) => cursor,
        None => make_cursor(tx, config)?,
    };
    if !fire.fits_cursor(&cursor) {
        return Ok(FireResult::Stale);
    }
    let wanted = fire.wanted(&cursor);
    let open = wanted.open && tx.conn.prepare(OPEN_OCCURRENCE)?.exists([config.get()])?;
    let mut found = StepFindings { open, ..StepFindings::default() };
    for at in wanted.slots {
        if tx.conn.prepare(OCCURRENCE_FIND)?.exists([config.get(), at.ms()])? {
            found.handled.insert(at);
        }
    }
    let step = fire.step(cursor, found);
    for new in &step.occurrences {
        insert_occurrence(tx.conn, config, new, now)?;
    }
    for task in step.tasks() {
        if !tx.rows.insert_task(task, &mut tx.sums)? {
            return Err(StoreError::Internal(format!("the id of task {} is taken", task.id)));
        }
    }
    move_cursor(tx.conn, &step.cursor)?;
    Ok(step.into())
}

fn move_cursor(conn: Session<'_>, cursor: &Cursor) -> Result<()> {
    conn.prepare(CURSOR_MOVE)?.execute_one(params![
        cursor.next_fire_at.map(Timestamp::ms),
        cursor.version,
        cursor.config_version,
        cursor.waiting.map(Timestamp::ms),
        cursor.missed,
        cursor.config.get(),
        cursor.version - 1,
    ])
}

fn insert_occurrence(conn: Session<'_>, config: ConfigId, new: &NewOccurrence, now: Timestamp) -> Result<()> {
    conn.prepare(OCCURRENCE_INSERT)?.execute_one(params![
        config.get(),
        new.execute_at.ms(),
        new.task.as_ref().map(|task| task.id.get()),
        new.late,
        now.ms()
    ])
}
