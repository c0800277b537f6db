//! API keys. Only their SHA-256 is stored.

use tsp_core::{AppId, KeyId, Timestamp};
use tsp_store::backend::columns::api_key_columns;
use tsp_store::backend::row::read_api_key;
use tsp_store::backend::row_count::one_or_none;
use tsp_store::catalog::{ApiKey, DeleteResult, NewKey};
use tsp_store::error::{Result, StoreError};
use tsp_store::tasks::Actor;

use crate::catalog::audit_log::log;
use crate::catalog::follow::app;
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::context::StoreContext;

const BY_HASH: &str = concat!("-- key_by_hash\nSELECT ", api_key_columns!(), " FROM api_key WHERE hash = ?");
/// `<=>` finds the global keys with NULL.
const OF_APP: &str =
    concat!("-- key_list\nSELECT ", api_key_columns!(), " FROM api_key WHERE app_id <=> ? ORDER BY id");
const BY_ID: &str =
    concat!("-- key_find\nSELECT ", api_key_columns!(), " FROM api_key WHERE id = ? AND app_id <=> ?");

const INSERT: &str = "-- key_insert
INSERT INTO api_key (app_id, name, scopes, hash, prefix, rate_count, rate_per, expires_at, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
const DELETE: &str = "-- key_delete\nDELETE FROM api_key WHERE id = ?";

pub(crate) async fn create_key(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    new: &NewKey,
    by: &Actor,
    now: Timestamp,
) -> Result<ApiKey> {
    // Changes of the catalog come one after another, so it is there until this one is committed.
    if let Some(id) = new.app
        && app(tx, context, id).await?.is_none()
    {
        return Err(StoreError::Internal(format!("a key of app {id}, which is not there")));
    }
    let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
    let id = query(&context.meta.sql(INSERT))
        .bind(new.app.map(AppId::get))
        .bind(&new.name)
        .bind(scopes.join(","))
        .bind(&new.hash[..])
        .bind(&new.prefix)
        .bind(new.rate_limit.map(|limit| i64::from(limit.count)))
        .bind(new.rate_limit.map(|limit| limit.per.ms()))
        .bind(new.expires_at.map(Timestamp::ms))
        .bind(now.ms())
        .insert(tx.conn())
        .await?;
    let key = ApiKey {
        id: KeyId::new(id),
        app: new.app,
        name: new.name.clone(),
        scopes: new.scopes.clone(),
        prefix: new.prefix.clone(),
        rate_limit: new.rate_limit,
        expires_at: new.expires_at,
        created_at: now,
    };
    let subject = subject(tx, context, &key).await?;
    log(tx, &context.meta, by, "key.create", &subject, &key.name, now).await?;
    Ok(key)
}

pub(crate) async fn keys(context: &StoreContext, app: Option<AppId>) -> Result<Vec<ApiKey>> {
    let sql = &context.meta.sql(OF_APP);
    let rows = context
        .meta
        .read("keys", |tx| {
            Box::pin(async move { query(sql).bind(app.map(AppId::get)).fetch_all(tx.conn()).await })
        })
        .await?;
    rows.iter().map(read_api_key).collect()
}

pub(crate) async fn key_by_hash(context: &StoreContext, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
    let sql = &context.meta.sql(BY_HASH);
    let row = context
        .meta
        .read("key_by_hash", |tx| {
            Box::pin(async move { query(sql).bind(&hash[..]).fetch_optional(tx.conn()).await })
        })
        .await?;
    row.as_ref().map(read_api_key).transpose()
}

pub(crate) async fn delete_key(
    tx: &mut Tx<'_>,
    context: &StoreContext,
    app: Option<AppId>,
    id: KeyId,
    by: &Actor,
    now: Timestamp,
) -> Result<DeleteResult> {
    let meta = &context.meta;
    let found = query(&meta.sql(BY_ID)).bind(id.get()).bind(app.map(AppId::get));
    let Some(row) = found.fetch_optional(tx.conn()).await? else { return Ok(DeleteResult::NotFound) };
    let key = read_api_key(&row)?;
    let changed = query(&meta.sql(DELETE)).bind(id.get()).execute(tx.conn()).await?;
    if one_or_none(changed, "key_delete")? {
        let subject = subject(tx, context, &key).await?;
        log(tx, meta, by, "key.delete", &subject, &key.name, now).await?;
    }
    Ok(DeleteResult::Deleted)
}

async fn subject(tx: &mut Tx<'_>, context: &StoreContext, key: &ApiKey) -> Result<String> {
    let of = match key.app {
        Some(id) => app(tx, context, id).await?,
        None => None,
    };
    Ok(match of {
        Some(app) => format!("{}/{}", app.name, key.id),
        None => key.id.to_string(),
    })
}
