//! Apps.

use std::sync::Arc;

use rusqlite::params;
use tsp_core::{AppId, Timestamp};
use tsp_store::backend::cache_edit::CacheEdit;
use tsp_store::catalog::{App, AppEdit, AppSaved, Deleted, NewApp};
use tsp_store::error::Result;
use tsp_store::tasks::Actor;

use crate::catalog::audit_log::log;
use crate::connection::tx::Tx;

pub(crate) fn create_app(tx: &mut Tx<'_>, new: NewApp, by: &Actor, now: Timestamp) -> Result<AppSaved> {
    if tx.conn.prepare("-- app_find\nSELECT id FROM app WHERE name = ?")?.exists([new.name.as_str()])? {
        return Ok(AppSaved::AlreadyExists);
    }
    let insert = "-- app_insert
        INSERT INTO app (name, description, owner, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)";
    let id = tx.conn.insert(insert, params![new.name.as_str(), new.description, new.owner, now.ms()])?;
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
    let update = "-- app_update\nUPDATE app SET description = ?, owner = ?, updated_at = ? WHERE id = ?";
    tx.conn.prepare(update)?.execute_one(params![app.description, app.owner, now.ms(), id.get()])?;
    log(tx.conn, by, "app.update", app.name.as_str(), "", now)?;
    tx.edit_cache(CacheEdit::PutApp(app.clone()), 0);
    Ok(AppSaved::Saved(app))
}

/// Its keys go with it.
pub(crate) fn delete_app(tx: &mut Tx<'_>, id: AppId, by: &Actor, now: Timestamp) -> Result<Deleted> {
    let Some(app) = tx.app(id) else { return Ok(Deleted::NotFound) };
    let count = "-- app_configs\nSELECT count(*) FROM config WHERE app_id = ?";
    let configs: i64 = tx.conn.prepare(count)?.one([id.get()], |row| row.get(0))?;
    if configs > 0 {
        return Ok(Deleted::InUse(usize::try_from(configs).unwrap_or(usize::MAX)));
    }
    tx.conn.prepare("-- app_keys_delete\nDELETE FROM api_key WHERE app_id = ?")?.execute([id.get()])?;
    tx.conn.prepare("-- app_delete\nDELETE FROM app WHERE id = ?")?.execute_one([id.get()])?;
    log(tx.conn, by, "app.delete", app.name.as_str(), "", now)?;
    tx.edit_cache(CacheEdit::RemoveApp(id), 0);
    Ok(Deleted::Deleted)
}
