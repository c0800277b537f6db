//! Apps.

use std::sync::Arc;

use tsp_core::{AppId, Timestamp};
use tsp_store::backend::cache_edit::CacheEdit;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::catalog::{App, AppEdit, AppSaved, DeleteResult, NewApp};
use tsp_store::error::Result;
use tsp_store::tasks::Actor;

use crate::catalog::audit_log::log;
use crate::catalog::change_log::{ChangeEntry, record};
use crate::catalog::follow::{Edit, app, app_named};
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::context::StoreContext;

const INSERT: &str = "-- app_insert
INSERT INTO app (name, description, owner, created_at, updated_at) VALUES (?, ?, ?, ?, ?)";
const UPDATE: &str = "-- app_update\nUPDATE app SET description = ?, owner = ?, updated_at = ? WHERE id = ?";
const CONFIGS: &str = "-- app_configs\nSELECT COUNT(*) FROM config WHERE app_id = ?";
const DELETE_KEYS: &str = "-- app_keys_delete\nDELETE FROM api_key WHERE app_id = ?";
const DELETE: &str = "-- app_delete\nDELETE FROM app WHERE id = ?";

pub(crate) async fn create_app(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    new: &NewApp,
    by: &Actor,
    now: Timestamp,
) -> Result<(AppSaved, Option<Edit>)> {
    if app_named(tx, context, &new.name).await?.is_some() {
        return Ok((AppSaved::AlreadyExists, None));
    }
    let id = query(&context.meta.sql(INSERT))
        .bind(new.name.as_str())
        .bind(&new.description)
        .bind(&new.owner)
        .bind(now.ms())
        .bind(now.ms())
        .insert(tx.conn())
        .await?;
    let app = Arc::new(App {
        id: AppId::new(id),
        name: new.name.clone(),
        description: new.description.clone(),
        owner: new.owner.clone(),
        created_at: now,
        updated_at: now,
    });
    let seq = write_down(tx, context, &app, "app.create", by, now).await?;
    Ok((AppSaved::Saved(app.clone()), Some(Edit { seq, config_cache: CacheEdit::PutApp(app) })))
}

pub(crate) async fn update_app(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    id: AppId,
    edit: &AppEdit,
    by: &Actor,
    now: Timestamp,
) -> Result<(AppSaved, Option<Edit>)> {
    let Some(app) = app(tx, context, id).await? else { return Ok((AppSaved::NotFound, None)) };
    let app = Arc::new(App {
        description: edit.description.clone().unwrap_or_else(|| app.description.clone()),
        owner: edit.owner.clone().unwrap_or_else(|| app.owner.clone()),
        updated_at: now,
        ..App::clone(&app)
    });
    let changed = query(&context.meta.sql(UPDATE))
        .bind(&app.description)
        .bind(&app.owner)
        .bind(now.ms())
        .bind(id.get())
        .execute(tx.conn())
        .await?;
    exactly_one(changed, "app_update")?;
    let seq = write_down(tx, context, &app, "app.update", by, now).await?;
    Ok((AppSaved::Saved(app.clone()), Some(Edit { seq, config_cache: CacheEdit::PutApp(app) })))
}

/// Its keys go with it.
pub(crate) async fn delete_app(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    id: AppId,
    by: &Actor,
    now: Timestamp,
) -> Result<(DeleteResult, Option<Edit>)> {
    let Some(app) = app(tx, context, id).await? else { return Ok((DeleteResult::NotFound, None)) };
    let meta = &context.meta;
    let configs: i64 = query(&meta.sql(CONFIGS)).bind(id.get()).fetch_one(tx.conn()).await?.get(0)?;
    if configs > 0 {
        return Ok((DeleteResult::InUse(usize::try_from(configs).unwrap_or(usize::MAX)), None));
    }
    query(&meta.sql(DELETE_KEYS)).bind(id.get()).execute(tx.conn()).await?;
    exactly_one(query(&meta.sql(DELETE)).bind(id.get()).execute(tx.conn()).await?, "app_delete")?;
    let seq = write_down(tx, context, &app, "app.delete", by, now).await?;
    Ok((DeleteResult::Deleted, Some(Edit { seq, config_cache: CacheEdit::RemoveApp(id) })))
}

/// The entry in the change log and the one in the audit log.
async fn write_down(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    app: &App,
    action: &'static str,
    by: &Actor,
    now: Timestamp,
) -> Result<i64> {
    let subject = app.id.get();
    let entry = ChangeEntry { kind: "app", subject, version: 0, action, before: None, after: None, by, now };
    let seq = record(tx, context, entry).await?;
    log(tx, &context.meta, by, action, app.name.as_str(), "", now).await?;
    Ok(seq)
}
