//! How far it is, in the settings of meta, and who may begin.

use serde::{Deserialize, Serialize};
use sqlx::mysql::MySqlConnection;
use tsp_core::ShardId;
use tsp_store::error::{Result, StoreError};
use tsp_store::transfer::Cell;

use crate::connection::fault::store_error;
use crate::connection::link::Link;
use crate::connection::statement_templates::database_now;
use crate::schema::initialise::setting;

const NAME: &str = "carry_over";

/// A store that is being imported, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Which store.
    pub(super) source: String,
    /// Its last node when it began: with another one it was served since.
    pub(super) last_node: i64,
    /// The table that is being written.
    pub(super) table: usize,
    /// The key of its last row that is here.
    pub(super) after: Option<Vec<Cell>>,
    pub(super) done: bool,
}

pub(super) async fn find(meta: &mut Link) -> Result<Option<State>> {
    let text = setting(meta.raw(), NAME).await?;
    text.map(|text| read(&text)).transpose()
}

fn read(text: &str) -> Result<State> {
    serde_json::from_str(text).map_err(|error| StoreError::Internal(format!("setting `{NAME}`: {error}")))
}

pub(super) async fn write(meta: &mut Link, state: &State) -> Result<()> {
    let text = serde_json::to_string(state).map_err(|error| StoreError::Internal(error.to_string()))?;
    sqlx::query("-- carry_state\nREPLACE INTO settings (name, value) VALUES (?, ?)")
        .bind(NAME)
        .bind(text)
        .execute(meta.raw())
        .await
        .map_err(store_error)?;
    Ok(())
}

/// # Errors
/// [`StoreError::Unusable`] while only a part of another store is here: to serve that part would lose the
/// rest.
pub(in super::super) async fn refuse_half(conn: &mut MySqlConnection) -> Result<()> {
    match setting(conn, NAME).await?.map(|text| read(&text)).transpose()? {
        Some(state) if !state.done => Err(StoreError::Unusable(
            "the data of an embedded store is being carried over to this cluster: run `tsp migrate-data` again \
             until it says that it is done"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// # Errors
/// [`StoreError::Unusable`] when processes of the cluster run.
pub(super) async fn refuse_running(meta: &mut Link) -> Result<()> {
    let text = concat!(
        "-- nodes_alive\nSELECT CONCAT(name, ' (node ', id, ')') FROM node
        WHERE dead_at IS NULL AND lease_until >= ",
        database_now!(),
        " ORDER BY id"
    );
    let running = meta.texts(text.to_owned()).await?;
    if running.is_empty() {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "processes of the cluster run: {}; stop them, and start them when the data is there",
        running.join(", ")
    )))
}

/// # Errors
/// [`StoreError::Unusable`] for a cluster that has apps, configs, keys or tasks of its own.
pub(super) async fn refuse_used(meta: &mut Link, shard: ShardId, link: &mut Link) -> Result<()> {
    for table in ["app", "config", "api_key"] {
        refuse_rows(meta, table).await?;
    }
    for table in ["task", "history"] {
        refuse_rows(link, &format!("{table}_{:03}", shard.get())).await?;
    }
    Ok(())
}

async fn refuse_rows(link: &mut Link, table: &str) -> Result<()> {
    if link.rows(format!("-- used\nSELECT 1 FROM {table} LIMIT 1")).await?.is_empty() {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "the cluster is in use already: table `{table}` of database `{}` has rows; carry over into databases \
         that `tsp migrate` has just made",
        link.name
    )))
}
