//! API keys. Only their SHA-256 is stored.

use rusqlite::params;
use tsp_core::{AppId, KeyId, Timestamp};
use tsp_store::backend::columns::api_key_columns;
use tsp_store::backend::row::read_api_key;
use tsp_store::catalog::{ApiKey, DeleteResult, NewKey};
use tsp_store::error::Result;
use tsp_store::tasks::Actor;

use crate::catalog::audit_log::log;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;

statements! {
    BY_HASH = concat!("-- key_by_hash\nSELECT ", api_key_columns!(), " FROM api_key WHERE hash = ?");

    /// `IS` finds the global keys with NULL.
    OF_APP = concat!("-- key_list\nSELECT ", api_key_columns!(), " FROM api_key WHERE app_id IS ? ORDER BY id");

    BY_ID = concat!("-- key_find\nSELECT ", api_key_columns!(), " FROM api_key WHERE id = ? AND app_id IS ?");

    INSERT = "-- key_insert
    INSERT INTO api_key (app_id, name, scopes, hash, prefix, rate_count, rate_per, expires_at, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

    KEY_DELETE = "-- key_delete\nDELETE FROM api_key WHERE id = ?";
}

pub(crate) fn create_key(tx: &mut Tx<'_>, new: NewKey, by: &Actor, now: Timestamp) -> Result<ApiKey> {
    let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
    let values = params![
        new.app.map(AppId::get),
        new.name,
        scopes.join(","),
        new.hash,
        new.prefix,
        new.rate_limit.map(|limit| limit.count),
        new.rate_limit.map(|limit| limit.per.ms()),
        new.expires_at.map(Timestamp::ms),
        now.ms(),
    ];
    let id = tx.conn.insert(INSERT, values)?;
    let key = ApiKey {
        id: KeyId::new(id),
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

pub(crate) fn keys(conn: Session<'_>, app: Option<AppId>) -> Result<Vec<ApiKey>> {
    conn.prepare(OF_APP)?.all([app.map(AppId::get)], |row| read_api_key(row))
}

pub(crate) fn key_by_hash(conn: Session<'_>, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
    conn.prepare(BY_HASH)?.first([hash], |row| read_api_key(row))
}

pub(crate) fn delete_key(
    tx: &mut Tx<'_>,
    app: Option<AppId>,
    id: KeyId,
    by: &Actor,
    now: Timestamp,
) -> Result<DeleteResult> {
    let found =
        tx.conn.prepare(BY_ID)?.first(params![id.get(), app.map(AppId::get)], |row| read_api_key(row))?;
    let Some(key) = found else { return Ok(DeleteResult::NotFound) };
    let mut delete = tx.conn.prepare(KEY_DELETE)?;
    if delete.execute_one_or_none([id.get()])? {
        log(tx.conn, by, "key.delete", &subject(tx, &key), &key.name, now)?;
    }
    Ok(DeleteResult::Deleted)
}

fn subject(tx: &Tx<'_>, key: &ApiKey) -> String {
    match key.app.and_then(|app| tx.app(app)) {
        Some(app) => format!("{}/{}", app.name, key.id),
        None => key.id.to_string(),
    }
}
