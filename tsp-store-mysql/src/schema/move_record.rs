//! What meta says of a move: its intent, and the switch of the shard map.

use serde::{Deserialize, Serialize};
use sqlx::mysql::MySqlConnection;
use tsp_core::ShardId;
use tsp_store::backend::row_count::exactly_one;
use tsp_store::error::{Result, StoreError};

use crate::connection::fault::store_error;
use crate::connection::link::Link;
use crate::connection::row::Row;
use crate::connection::statement_templates::database_now;

/// Longer than any lease: a process that has not renewed for so long, and that nobody has declared dead, is
/// not waited for.
const SILENT_MS: i64 = 60_000;

/// A move that was begun and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) from: String,
    pub(crate) to: String,
    /// The number of the change of the shard map, once it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<i64>,
}

fn name(shard: ShardId) -> String {
    format!("move_{:03}", shard.get())
}

pub(crate) async fn find(meta: &mut Link, shard: ShardId) -> Result<Option<Intent>> {
    let row = sqlx::query("-- move_find\nSELECT value FROM settings WHERE name = ?")
        .bind(name(shard))
        .fetch_optional(meta.raw())
        .await
        .map_err(store_error)?;
    let Some(row) = row else { return Ok(None) };
    let text: String = Row(row).get(0)?;
    let intent = serde_json::from_str(&text);
    intent.map(Some).map_err(|error| StoreError::Internal(format!("setting `{}`: {error}", name(shard))))
}

/// All moves that are not over: the shard, and where to.
pub(crate) async fn all(meta: &mut MySqlConnection) -> Result<Vec<(u16, String)>> {
    let text = "-- moves\nSELECT name, value FROM settings WHERE name LIKE 'move\\_%' ORDER BY name";
    let rows = sqlx::query(text).fetch_all(meta).await.map_err(store_error)?;
    let mut moves = Vec::with_capacity(rows.len());
    for row in rows.into_iter().map(Row) {
        let (name, text): (&str, &str) = (row.get(0)?, row.get(1)?);
        let shard = name.strip_prefix("move_").and_then(|shard| shard.parse().ok());
        if let (Some(shard), Ok(Intent { to, .. })) = (shard, serde_json::from_str(text)) {
            moves.push((shard, to));
        }
    }
    Ok(moves)
}

pub(crate) async fn write(meta: &mut Link, shard: ShardId, intent: &Intent) -> Result<()> {
    let text = serde_json::to_string(intent).map_err(|error| StoreError::Internal(error.to_string()))?;
    sqlx::query("-- move_write\nREPLACE INTO settings (name, value) VALUES (?, ?)")
        .bind(name(shard))
        .bind(text)
        .execute(meta.raw())
        .await
        .map_err(store_error)?;
    Ok(())
}

pub(crate) async fn forget(meta: &mut Link, shard: ShardId) -> Result<()> {
    sqlx::query("-- move_forget\nDELETE FROM settings WHERE name = ?")
        .bind(name(shard))
        .execute(meta.raw())
        .await
        .map_err(store_error)?;
    Ok(())
}

pub(crate) async fn place(meta: &mut Link, shard: ShardId) -> Result<String> {
    let row = sqlx::query("-- place_find\nSELECT source FROM shard_place WHERE shard = ?")
        .bind(i64::from(shard.get()))
        .fetch_optional(meta.raw())
        .await
        .map_err(store_error)?;
    let missing = || StoreError::Unusable(format!("shard {} has no place: run `tsp migrate`", shard.get()));
    Row(row.ok_or_else(missing)?).get(0)
}

/// Writes the shard's new data source, the change log, and the number of the change in the record: all or
/// nothing.
pub(crate) async fn switch(meta: &mut Link, shard: ShardId, intent: &Intent) -> Result<Intent> {
    meta.run("BEGIN".to_owned()).await?;
    let switched = switch_in(meta, shard, intent).await;
    if switched.is_err() {
        meta.run("ROLLBACK".to_owned()).await?;
        return switched;
    }
    meta.run("COMMIT".to_owned()).await?;
    switched
}

async fn switch_in(meta: &mut Link, shard: ShardId, intent: &Intent) -> Result<Intent> {
    let number = i64::from(shard.get());
    let next = "-- change_next\nUPDATE counter SET value = value + 1 WHERE name = 'change'";
    exactly_one(meta.run(next.to_owned()).await?, "change_next")?;
    let seq = meta
        .number("-- change_seq\nSELECT value FROM counter WHERE name = 'change' FOR UPDATE".to_owned())
        .await?;
    let moved =
        sqlx::query("-- place_move\nUPDATE shard_place SET source = ? WHERE shard = ? AND source = ?")
            .bind(&intent.to)
            .bind(number)
            .bind(&intent.from)
            .execute(meta.raw())
            .await
            .map_err(store_error)?;
    exactly_one(moved.rows_affected(), "place_move")?;
    sqlx::query(concat!(
        "-- change_insert
            INSERT INTO change_log (seq, kind, subject_id, version, at, actor, action, before_doc, after_doc)
            VALUES (?, 'shard', ?, 0, ",
        database_now!(),
        ", 'operator', 'move', ?, ?)"
    ))
    .bind(seq)
    .bind(number)
    .bind(&intent.from)
    .bind(&intent.to)
    .execute(meta.raw())
    .await
    .map_err(store_error)?;
    let intent = Intent { seq: Some(seq), ..intent.clone() };
    write(meta, shard, &intent).await?;
    Ok(intent)
}

/// The processes that do not know of a change yet.
pub(crate) async fn behind(meta: &mut Link, seq: i64) -> Result<Vec<String>> {
    let rows = sqlx::query(concat!(
        "-- nodes_behind
            SELECT CONCAT(name, ' (node ', id, ')') FROM node WHERE dead_at IS NULL AND config_seq < ?
            AND lease_until > ",
        database_now!(),
        " - ? ORDER BY id"
    ))
    .bind(seq)
    .bind(SILENT_MS)
    .fetch_all(meta.raw())
    .await
    .map_err(store_error)?;
    rows.into_iter().map(|row| Row(row).get(0)).collect()
}
