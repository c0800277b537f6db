//! Configs, their change log, and the cursor that a schedule needs.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use tsp_core::config::{ConfigSpec, Paused, TaskConfig};
use tsp_core::{ConfigId, Timestamp};

use crate::catalog::{ConfigSaved, Deleted, Expected, Hold, SaveConfig};
use crate::codec::{Secrets, config_to_json};
use crate::error::{Result, StoreError};
use crate::schedule::Cursor;
use crate::tasks::Actor;

use super::audit::log;
use super::fault::{exactly_one, one_or_none};
use super::tasks::open_count;
use super::tx::{BookEdit, Tx};

/// The newest changes of a config that stay in its log.
pub(super) const CHANGES_KEPT: i64 = 100;

const FIND: &str = "-- config_find\nSELECT id FROM config WHERE app_id = ? AND name = ?";

const INSERT: &str = "-- config_insert
INSERT INTO config (app_id, name, version, document, created_at, updated_at) VALUES (?1, ?2, 1, ?3, ?4, ?4)";

const UPDATE: &str = "-- config_update
UPDATE config SET version = ?1, document = ?2, paused_by = ?3, paused_at = ?4, paused_note = ?5,
    updated_at = ?6
WHERE id = ?7 AND version = ?8";

const CHANGE: &str = "-- config_change_insert
INSERT INTO config_change (config_id, version, at, actor, action, before_doc, after_doc)
VALUES (?, ?, ?, ?, ?, ?, ?)";

/// Each change drops what it pushes out, so that nobody has to look through all configs for it.
pub(super) const CHANGE_OLD: &str = "-- config_change_drop
DELETE FROM config_change WHERE config_id = ?1 AND seq <= (
    SELECT seq FROM config_change WHERE config_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)";

const CURSOR_INSERT: &str = "-- cursor_insert
INSERT INTO cursor (config_id, next_fire_at, version, config_version, waiting, missed)
VALUES (?, NULL, 1, 0, NULL, 0) ON CONFLICT DO NOTHING";

pub(super) fn save_config(
    tx: &mut Tx<'_>,
    save: SaveConfig,
    by: &Actor,
    now: Timestamp,
) -> Result<ConfigSaved> {
    let SaveConfig { app, spec, expected } = save;
    let Some(app) = tx.app(app) else { return Ok(ConfigSaved::NotFound) };
    let found: Option<i64> = tx
        .conn
        .prepare_cached(FIND)?
        .query_row(params![app.id.get(), spec.name.as_str()], |row| row.get(0))
        .optional()?;
    let Some(id) = found.map(ConfigId::new) else {
        if let Expected::Version(_) = expected {
            return Ok(ConfigSaved::NotFound);
        }
        let config = insert(tx, &app, spec, now)?;
        record(tx, by, "config.create", None, Some(&config), now)?;
        return Ok(ConfigSaved::Created(config));
    };
    let before =
        tx.config(id).ok_or_else(|| StoreError::Internal(format!("config {id} is not in the book")))?;
    match expected {
        Expected::Absent => return Ok(ConfigSaved::AlreadyExists),
        Expected::Version(version) if version != before.version => {
            return Ok(ConfigSaved::VersionMismatch { version: before.version });
        }
        Expected::Version(_) | Expected::Any => {}
    }
    if before.spec.kind != spec.kind {
        return Ok(ConfigSaved::KindChanged);
    }
    if before.spec.span != spec.span {
        let open = open_count(tx.conn, id)?;
        if open > 0 {
            return Ok(ConfigSaved::InUse(open));
        }
    }
    let config =
        TaskConfig { spec, version: before.version + 1, updated_at: now, ..TaskConfig::clone(&before) };
    let config = update(tx, &before, config, by, "config.update", now)?;
    Ok(ConfigSaved::Updated(config))
}

fn insert(
    tx: &Tx<'_>,
    app: &crate::catalog::App,
    spec: ConfigSpec,
    now: Timestamp,
) -> Result<Arc<TaskConfig>> {
    let document = sealed(tx, &spec)?;
    let changed = tx.conn.prepare_cached(INSERT)?.execute(params![
        app.id.get(),
        spec.name.as_str(),
        document,
        now.ms()
    ])?;
    exactly_one(changed, "config_insert")?;
    let config = Arc::new(TaskConfig {
        id: ConfigId::new(tx.conn.last_insert_rowid()),
        app_id: app.id,
        app: app.name.clone(),
        spec,
        paused: None,
        version: 1,
        created_at: now,
        updated_at: now,
    });
    settle_cursor(tx, &config)?;
    Ok(config)
}

/// Saves the new state of a config, and its line in the change log.
fn update(
    tx: &mut Tx<'_>,
    before: &TaskConfig,
    after: TaskConfig,
    by: &Actor,
    action: &'static str,
    now: Timestamp,
) -> Result<Arc<TaskConfig>> {
    let document = sealed(tx, &after.spec)?;
    let paused = after.paused.as_ref();
    let changed = tx.conn.prepare_cached(UPDATE)?.execute(params![
        after.version,
        document,
        paused.map(|paused| &paused.by),
        paused.map(|paused| paused.at.ms()),
        paused.and_then(|paused| paused.note.as_ref()),
        after.updated_at.ms(),
        after.id.get(),
        before.version,
    ])?;
    exactly_one(changed, "config_update")?;
    let after = Arc::new(after);
    settle_cursor(tx, &after)?;
    record(tx, by, action, Some(before), Some(&after), now)?;
    Ok(after)
}

/// A schedule has a cursor. One that exists is left alone: the fetcher sees by the config's version that it
/// must be computed anew.
fn settle_cursor(tx: &Tx<'_>, config: &TaskConfig) -> Result<()> {
    if config.spec.schedule.is_some() {
        make_cursor(tx, config.id)?;
    } else {
        delete_cursor(tx, config.id)?;
    }
    Ok(())
}

/// The cursor of a schedule that no step was taken of.
pub(super) fn make_cursor(tx: &Tx<'_>, config: ConfigId) -> Result<Cursor> {
    let changed = tx.conn.prepare_cached(CURSOR_INSERT)?.execute([config.get()])?;
    one_or_none(changed, "cursor_insert")?;
    Ok(Cursor::new(config))
}

fn delete_cursor(tx: &Tx<'_>, id: ConfigId) -> Result<()> {
    let changed = tx
        .conn
        .prepare_cached("-- cursor_delete\nDELETE FROM cursor WHERE config_id = ?")?
        .execute([id.get()])?;
    one_or_none(changed, "cursor_delete").map(|_| ())
}

pub(super) fn hold_config(
    tx: &mut Tx<'_>,
    id: ConfigId,
    hold: Hold,
    by: &Actor,
    now: Timestamp,
) -> Result<ConfigSaved> {
    let Some(before) = tx.config(id) else { return Ok(ConfigSaved::NotFound) };
    let mut after = TaskConfig { version: before.version + 1, updated_at: now, ..TaskConfig::clone(&before) };
    let action = match hold {
        Hold::Pause { note } => {
            after.paused = Some(Paused { by: by.0.clone(), at: now, note });
            "config.pause"
        }
        Hold::Resume => {
            after.paused = None;
            "config.resume"
        }
        Hold::Enable => {
            after.spec.enabled = true;
            "config.enable"
        }
        Hold::Disable => {
            after.spec.enabled = false;
            "config.disable"
        }
    };
    Ok(ConfigSaved::Updated(update(tx, &before, after, by, action, now)?))
}

pub(super) fn delete_config(
    tx: &mut Tx<'_>,
    id: ConfigId,
    expected: Expected,
    by: &Actor,
    now: Timestamp,
) -> Result<Deleted> {
    let Some(before) = tx.config(id) else { return Ok(Deleted::NotFound) };
    match expected {
        Expected::Version(version) if version != before.version => return Ok(Deleted::VersionMismatch),
        Expected::Absent => return Ok(Deleted::VersionMismatch),
        Expected::Version(_) | Expected::Any => {}
    }
    let open = open_count(tx.conn, id)?;
    if open > 0 {
        return Ok(Deleted::InUse(open));
    }
    delete_cursor(tx, id)?;
    let changed =
        tx.conn.prepare_cached("-- config_delete\nDELETE FROM config WHERE id = ?")?.execute([id.get()])?;
    exactly_one(changed, "config_delete")?;
    record(tx, by, "config.delete", Some(&before), None, now)?;
    Ok(Deleted::Deleted)
}

/// The line in the change log (whose number is the config_seq), the line in the audit log, and the book.
fn record(
    tx: &mut Tx<'_>,
    by: &Actor,
    action: &'static str,
    before: Option<&TaskConfig>,
    after: Option<&Arc<TaskConfig>>,
    now: Timestamp,
) -> Result<()> {
    let Some(config) = after.map(Arc::as_ref).or(before) else { return Ok(()) };
    let document =
        |config: &TaskConfig| config_to_json(&config.spec, Secrets::Hide).map_err(StoreError::Internal);
    let changed = tx.conn.prepare_cached(CHANGE)?.execute(params![
        config.id.get(),
        config.version,
        now.ms(),
        by.0,
        action,
        before.map(document).transpose()?,
        after.map(|after| document(after)).transpose()?,
    ])?;
    exactly_one(changed, "config_change_insert")?;
    let seq = tx.conn.last_insert_rowid();
    tx.conn.prepare_cached(CHANGE_OLD)?.execute(params![config.id.get(), CHANGES_KEPT])?;
    let note = config.paused.as_ref().and_then(|paused| paused.note.as_deref()).unwrap_or_default();
    log(tx.conn, by, action, &format!("{}/{}", config.app, config.spec.name), note, now)?;
    tx.edit_book(match after {
        Some(after) => BookEdit::PutConfig(after.clone(), seq),
        None => BookEdit::RemoveConfig(config.id, seq),
    });
    Ok(())
}

fn sealed(tx: &Tx<'_>, spec: &ConfigSpec) -> Result<String> {
    config_to_json(spec, Secrets::Seal(&tx.shared.sealer)).map_err(StoreError::Internal)
}
