//! Configs, their change log, and the cursor that a schedule needs.

use std::sync::Arc;

use rusqlite::params;
use tsp_core::config::save::{self, ConfigWrite, CursorChange, SaveDecision};
use tsp_core::config::{ConfigSpec, TaskConfig};
use tsp_core::{ConfigId, Timestamp};
use tsp_store::backend::cache_edit::CacheEdit;
use tsp_store::catalog::{CHANGES_KEPT, ConfigSaved, DeleteResult, ExpectedVersion, Hold, SaveConfig};
use tsp_store::documents::{Secrets, config_to_json};
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::Cursor;
use tsp_store::tasks::Actor;

use crate::catalog::audit_log::log;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::tasks::cancel::open_count;

statements! {
    FIND = "-- config_find\nSELECT id FROM config WHERE app_id = ? AND name = ?";

    INSERT = "-- config_insert
    INSERT INTO config (app_id, name, version, document, created_at, updated_at) VALUES (?1, ?2, 1, ?3, ?4, ?4)";

    UPDATE = "-- config_update
    UPDATE config SET version = ?1, document = ?2, paused_by = ?3, paused_at = ?4, paused_note = ?5,
        updated_at = ?6
    WHERE id = ?7 AND version = ?8";

    CHANGE = "-- config_change_insert
    INSERT INTO config_change (config_id, version, at, actor, action, before_doc, after_doc)
    VALUES (?, ?, ?, ?, ?, ?, ?)";

    /// Each change drops what it pushes out, so that nobody has to read all configs for it.
    pub(crate) CHANGE_OLD = "-- config_change_drop
    DELETE FROM config_change WHERE config_id = ?1 AND seq <= (
        SELECT seq FROM config_change WHERE config_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)"
        => "SEARCH config_change USING COVERING INDEX config_change_config (config_id=? AND rowid<?); SCALAR SUBQUERY 1; SEARCH config_change USING COVERING INDEX config_change_config (config_id=?)";

    CURSOR_INSERT = "-- cursor_insert
    INSERT INTO cursor (config_id, next_fire_at, version, config_version, waiting, missed)
    VALUES (?, NULL, 1, 0, NULL, 0) ON CONFLICT DO NOTHING";

    CONFIG_DELETE = "-- config_delete\nDELETE FROM config WHERE id = ?";
    CURSOR_DELETE = "-- cursor_delete\nDELETE FROM cursor WHERE config_id = ?";
}

pub(crate) fn save_config(
    tx: &mut Tx<'_>,
    save: SaveConfig,
    by: &Actor,
    now: Timestamp,
) -> Result<ConfigSaved> {
    let SaveConfig { app, spec, expected } = save;
    let Some(app) = tx.app(app) else { return Ok(ConfigSaved::NotFound) };
    let found: Option<i64> =
        tx.conn.prepare(FIND)?.first(params![app.id.get(), spec.name.as_str()], |row| row.get(0))?;
    let known = |id| {
        tx.config(id).ok_or_else(|| StoreError::Internal(format!("config {id} is not in the config cache")))
    };
    let before = found.map(|id| known(ConfigId::new(id))).transpose()?;
    let mut open = None;
    loop {
        match save::save((app.id, &app.name), before.as_ref(), &spec, expected, open, now) {
            SaveDecision::Write(change) => return write(tx, *change, by, now),
            SaveDecision::Refused(refusal) => return Ok(refusal.into()),
            SaveDecision::CountOpen(config) => open = Some(open_count(tx.conn, config)?),
        }
    }
}

pub(crate) fn hold_config(
    tx: &mut Tx<'_>,
    id: ConfigId,
    hold: Hold,
    by: &Actor,
    now: Timestamp,
) -> Result<ConfigSaved> {
    let Some(before) = tx.config(id) else { return Ok(ConfigSaved::NotFound) };
    write(tx, save::hold(before, hold, &by.0, now), by, now)
}

pub(crate) fn delete_config(
    tx: &mut Tx<'_>,
    id: ConfigId,
    expected: ExpectedVersion,
    by: &Actor,
    now: Timestamp,
) -> Result<DeleteResult> {
    let Some(before) = tx.config(id) else { return Ok(DeleteResult::NotFound) };
    if let Err(refusal) = save::delete(&before, expected, open_count(tx.conn, id)?) {
        return Ok(refusal.into());
    }
    delete_cursor(tx, id)?;
    tx.conn.prepare(CONFIG_DELETE)?.execute_one([id.get()])?;
    record(tx, by, "config.delete", "", Some(&before), None, now)?;
    Ok(DeleteResult::Deleted)
}

/// Carries a change out: the row, the cursor of its schedule, and what tells of it.
fn write(tx: &mut Tx<'_>, change: ConfigWrite, by: &Actor, now: Timestamp) -> Result<ConfigSaved> {
    let ConfigWrite { before, mut after, action, detail, cursor } = change;
    match &before {
        None => after.id = insert(tx, &after)?,
        Some(before) => update(tx, &after, before.version)?,
    }
    match cursor {
        CursorChange::Make => make_cursor(tx, after.id).map(|_| ())?,
        CursorChange::Drop => delete_cursor(tx, after.id)?,
        CursorChange::Unchanged => {}
    }
    let after = Arc::new(after);
    record(tx, by, action, &detail, before.as_deref(), Some(&after), now)?;
    Ok(if before.is_none() { ConfigSaved::Created(after) } else { ConfigSaved::Updated(after) })
}

fn insert(tx: &Tx<'_>, config: &TaskConfig) -> Result<ConfigId> {
    let (app, name, made_at) = (config.app_id.get(), config.spec.name.as_str(), config.created_at.ms());
    let id = tx.conn.insert(INSERT, params![app, name, sealed(tx, &config.spec)?, made_at])?;
    Ok(ConfigId::new(id))
}

fn update(tx: &Tx<'_>, after: &TaskConfig, version: i64) -> Result<()> {
    let paused = after.paused.as_ref();
    tx.conn.prepare(UPDATE)?.execute_one(params![
        after.version,
        sealed(tx, &after.spec)?,
        paused.map(|paused| &paused.by),
        paused.map(|paused| paused.at.ms()),
        paused.and_then(|paused| paused.note.as_ref()),
        after.updated_at.ms(),
        after.id.get(),
        version,
    ])
}

/// The cursor of a schedule that no step was taken of.
pub(crate) fn make_cursor(tx: &Tx<'_>, config: ConfigId) -> Result<Cursor> {
    tx.conn.prepare(CURSOR_INSERT)?.execute_one_or_none([config.get()])?;
    Ok(Cursor::new(config))
}

fn delete_cursor(tx: &Tx<'_>, id: ConfigId) -> Result<()> {
    tx.conn.prepare(CURSOR_DELETE)?.execute_one_or_none([id.get()]).map(|_| ())
}

/// The entry in the change log (whose number is the config_seq), the audit entry, and the config cache.
fn record(
    tx: &mut Tx<'_>,
    by: &Actor,
    action: &'static str,
    detail: &str,
    before: Option<&TaskConfig>,
    after: Option<&Arc<TaskConfig>>,
    now: Timestamp,
) -> Result<()> {
    let Some(config) = after.map(Arc::as_ref).or(before) else { return Ok(()) };
    let document =
        |config: &TaskConfig| config_to_json(&config.spec, Secrets::Hide).map_err(StoreError::Internal);
    let change = params![
        config.id.get(),
        config.version,
        now.ms(),
        by.0,
        action,
        before.map(document).transpose()?,
        after.map(|after| document(after)).transpose()?,
    ];
    let seq = tx.conn.insert(CHANGE, change)?;
    tx.conn.prepare(CHANGE_OLD)?.execute(params![config.id.get(), CHANGES_KEPT])?;
    log(tx.conn, by, action, &config.subject(), detail, now)?;
    let edit = match after {
        Some(after) => CacheEdit::PutConfig(after.clone()),
        None => CacheEdit::RemoveConfig(config.id),
    };
    tx.edit_cache(edit, seq);
    Ok(())
}

fn sealed(tx: &Tx<'_>, spec: &ConfigSpec) -> Result<String> {
    config_to_json(spec, Secrets::Seal(&tx.shared.sealer)).map_err(StoreError::Internal)
}
