//! Apps.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};
use tsp_core::{AppId, Timestamp};

use crate::backend::cache_edit::CacheEdit;
use crate::backend::row_count::exactly_one;
use crate::catalog::{App, AppEdit, AppSaved, Deleted, NewApp};
use crate::error::Result;
use crate::tasks::Actor;

use super::audit_log::log;
use super::tx::Tx;

pub(super) fn create_app(tx: &mut Tx<'_>, new: NewApp, by: &Actor, now: Timestamp) -> Result<AppSaved> {
    let taken: Option<i64> = tx
        .conn
        .prepare_cached("-- app_find\nSELECT id FROM app WHERE name = ?")?
        .query_row([new.name.as_str()], |row| row.get(0))
        .optional()?;
    if taken.is_some() {
        return Ok(AppSaved::AlreadyExists);
    }
    let changed = tx
        .conn
        .prepare_cached(
            "-- app_insert\nINSERT INTO app (name, description, owner, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?4)",
        )?
        .execute(params![new.name.as_str(), new.description, new.owner, now.ms()])?;
    exactly_one(changed, "app_insert")?;
    let app = Arc::new(App {
        id: AppId::new(tx.conn.last_insert_rowid()),
        name: new.name,
        description: new.description,
        owner: new.owner,
        created_at: now,
        updated_at: now,
    });
    log(tx.conn, by, "app.create", app.name.as_str(), "", now)?;
    tx.edit_cache(CacheEdit::PutApp(app.clone()), 0);
    Ok(AppSaved::Saved(app))
}

pub(super) fn update_app(
    tx: &mut Tx<'_>,
    id: AppId,
    edit: AppEdit,
    by: &Actor,
    now: Timestamp,
) -> Result<AppSaved> {
    let Some(app) = tx.app(id) else { return Ok(AppSaved::NotFound) };
    let app = Arc::new(App {
        description: edit.description.unwrap_or_else(|| app.description.clone()),
        owner: edit.owner.unwrap_or_else(|| app.owner.clone()),
        updated_at: now,
        ..App::clone(&app)
    });
    let changed = tx
        .conn
        .prepare_cached(
            "-- app_update\nUPDATE app SET description = ?, owner = ?, updated_at = ? WHERE id = ?",
        )?
        .execute(params![app.description, app.owner, now.ms(), id.get()])?;
    exactly_one(changed, "app_update")?;
    log(tx.conn, by, "app.update", app.name.as_str(), "", now)?;
    tx.edit_cache(CacheEdit::PutApp(app.clone()), 0);
    Ok(AppSaved::Saved(app))
}

/// Its keys go with it.
pub(super) fn delete_app(tx: &mut Tx<'_>, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
    let Some(app) = tx.app(id) else { return Ok(Deleted::NotFound) };
    let configs: i64 = tx
        .conn
        .prepare_cached("-- app_configs\nSELECT count(*) FROM config WHERE app_id = ?")?
        .query_row([id.get()], |row| row.get(0))?;
    if configs > 0 {
        return Ok(Deleted::InUse(usize::try_from(configs).unwrap_or(usize::MAX)));
    }
    tx.conn
        .prepare_cached("-- app_keys_delete\nDELETE FROM api_key WHERE app_id = ?")?
        .execute([id.get()])?;
    let changed =
        tx.conn.prepare_cached("-- app_delete\nDELETE FROM app WHERE id = ?")?.execute([id.get()])?;
    exactly_one(changed, "app_delete")?;
    log(tx.conn, by, "app.delete", app.name.as_str(), "", now)?;
    tx.edit_cache(CacheEdit::RemoveApp(id), 0);
    Ok(Deleted::Deleted)
}
