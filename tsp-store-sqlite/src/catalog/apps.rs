//! Apps.

use std::sync::Arc;

use rusqlite::params;
use tsp_core::{AppId, Timestamp};
use tsp_store::backend::cache_edit::CacheEdit;
use tsp_store::catalog::{App, AppEdit, AppSaved, DeleteResult, NewApp};
use tsp_store::error::Result;
use tsp_store::tasks::Actor;

use crate::catalog::audit_log::log;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;

statements! {
    APP_FIND = "-- app_find\nSELECT id FROM app WHERE name = ?";

    APP_INSERT = "-- app_insert
    INSERT INTO app (name, description, owner, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)";

    APP_UPDATE = "-- app_update\nUPDATE app SET description = ?, owner = ?, updated_at = ? WHERE id = ?";
    APP_CONFIGS = "-- app_configs\nSELECT count(*) FROM config WHERE app_id = ?";
    APP_KEYS_DELETE = "-- app_keys_delete\nDELETE FROM api_key WHERE app_id = ?";
    APP_DELETE = "-- app_delete\nDELETE FROM app WHERE id = ?";
}

pub(crate) fn create_app(tx: &mut Tx<'_>, new: NewApp, by: &Actor, now: Timestamp) -> Result<AppSaved> {
    if tx.conn.prepare(APP_FIND)?.exists([new.name.as_str()])? {
        return Ok(AppSaved::AlreadyExists);
    }
    let id = tx.conn.insert(APP_INSERT, params![new.name.as_str(), new.description, new.owner, now.ms()])?;
    let app = Arc::new(App {
        id: AppId::new(id),
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

pub(crate) fn update_app(
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
    tx.conn.prepare(APP_UPDATE)?.execute_one(params![app.description, app.owner, now.ms(), id.get()])?;
    log(tx.conn, by, "app.update", app.name.as_str(), "", now)?;
    tx.edit_cache(CacheEdit::PutApp(app.clone()), 0);
    Ok(AppSaved::Saved(app))
}

/// Its keys go with it.
pub(crate) fn delete_app(tx: &mut Tx<'_>, id: AppId, by: &Actor, now: Timestamp) -> Result<DeleteResult> {
    let Some(app) = tx.app(id) else { return Ok(DeleteResult::NotFound) };
    let configs: i64 = tx.conn.prepare(APP_CONFIGS)?.one([id.get()], |row| row.get(0))?;
    if configs > 0 {
        return Ok(DeleteResult::InUse(usize::try_from(configs).unwrap_or(usize::MAX)));
    }
    tx.conn.prepare(APP_KEYS_DELETE)?.execute([id.get()])?;
    tx.conn.prepare(APP_DELETE)?.execute_one([id.get()])?;
    log(tx.conn, by, "app.delete", app.name.as_str(), "", now)?;
    tx.edit_cache(CacheEdit::RemoveApp(id), 0);
    Ok(DeleteResult::Deleted)
}
