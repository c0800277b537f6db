//! API keys. Only their SHA-256 is stored.

use rusqlite::{Connection, Row, params};
use tsp_core::{AppId, KeyId, Millis, Timestamp};

use crate::catalog::{ApiKey, Deleted, NewKey, RateLimit, Scope};
use crate::error::{Result, StoreError};
use crate::tasks::Actor;

use super::audit::log;
use super::fault::{exactly_one, one_or_none};
use super::row::{all, first};
use super::tx::Tx;

macro_rules! columns {
    () => {
        "id, app_id, name, scopes, prefix, rate_count, rate_per, expires_at, created_at"
    };
}

const BY_HASH: &str = concat!("-- key_by_hash\nSELECT ", columns!(), " FROM api_key WHERE hash = ?");
/// `IS` finds the global keys with NULL.
const OF_APP: &str =
    concat!("-- key_list\nSELECT ", columns!(), " FROM api_key WHERE app_id IS ? ORDER BY id");
const BY_ID: &str = concat!("-- key_find\nSELECT ", columns!(), " FROM api_key WHERE id = ? AND app_id IS ?");

const INSERT: &str = "-- key_insert
INSERT INTO api_key (app_id, name, scopes, hash, prefix, rate_count, rate_per, expires_at, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

pub(super) fn create_key(tx: &mut Tx<'_>, new: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
    let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
    let changed = tx.conn.prepare_cached(INSERT)?.execute(params![
        new.app.map(AppId::get),
        new.name,
        scopes.join(","),
        new.hash,
        new.prefix,
        new.rate_limit.map(|limit| limit.count),
        new.rate_limit.map(|limit| limit.per.ms()),
        new.expires_at.map(Timestamp::ms),
        now.ms(),
    ])?;
    exactly_one(changed, "key_insert")?;
    let key = ApiKey {
        id: KeyId::new(tx.conn.last_insert_rowid()),
        app: new.app,
        name: new.name,
        scopes: new.scopes,
        prefix: new.prefix,
        rate_limit: new.rate_limit,
        expires_at: new.expires_at,
        created_at: now,
    };
    log(tx.conn, by, "key.create", &subject(tx, &key), &key.name, now)?;
    Ok(key)
}

pub(super) fn keys(conn: &Connection, app: Option<AppId>) -> Result<Vec<ApiKey>> {
    all(conn.prepare_cached(OF_APP)?.query([app.map(AppId::get)])?, read_key)
}

pub(super) fn key_by_hash(conn: &Connection, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
    first(conn.prepare_cached(BY_HASH)?.query([hash])?, read_key)
}

pub(super) fn delete_key(
    tx: &mut Tx<'_>,
    app: Option<AppId>,
    id: KeyId,
    by: &Actor,
    now: Timestamp,
) -> Result<Deleted> {
    let found =
        first(tx.conn.prepare_cached(BY_ID)?.query(params![id.get(), app.map(AppId::get)])?, read_key)?;
    let Some(key) = found else { return Ok(Deleted::NotFound) };
    let changed =
        tx.conn.prepare_cached("-- key_delete\nDELETE FROM api_key WHERE id = ?")?.execute([id.get()])?;
    if one_or_none(changed, "key_delete")? {
        log(tx.conn, by, "key.delete", &subject(tx, &key), &key.name, now)?;
    }
    Ok(Deleted::Deleted)
}

fn subject(tx: &Tx<'_>, key: &ApiKey) -> String {
    match key.app.and_then(|app| tx.app(app)) {
        Some(app) => format!("{}/{}", app.name, key.id),
        None => key.id.to_string(),
    }
}

fn read_key(row: &Row<'_>) -> Result<ApiKey> {
    let id: i64 = row.get(0)?;
    let scopes: String = row.get(3)?;
    let scope = |text: &str| {
        Scope::parse(text).ok_or_else(|| StoreError::Corrupt {
            table: "api_key",
            column: "scopes",
            id,
            why: format!("`{text}` is not known"),
        })
    };
    let rate_limit = match (row.get::<_, Option<u32>>(5)?, row.get::<_, Option<i64>>(6)?) {
        (Some(count), Some(per)) => Some(RateLimit { count, per: Millis::from_ms(per) }),
        _ => None,
    };
    Ok(ApiKey {
        id: KeyId::new(id),
        app: row.get::<_, Option<i64>>(1)?.map(AppId::new),
        name: row.get(2)?,
        scopes: scopes.split(',').filter(|text| !text.is_empty()).map(scope).collect::<Result<_>>()?,
        prefix: row.get(4)?,
        rate_limit,
        expires_at: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_ms),
        created_at: Timestamp::from_ms(row.get(8)?),
    })
}
