//! What is fixed when a store is made: the number of shards, the secret key, and where the shards are.
use sqlx::mysql::MySqlConnection;
use tsp_store::backend::settings::check_shards;
use tsp_store::documents::Sealer;
use tsp_store::error::{Result, StoreError};

use crate::connection::fault::store_error;
use crate::connection::row::Row;
use crate::options::MySqlOptions;

const FIND: &str = "-- setting_find\nSELECT value FROM settings WHERE name = ?";
const SET: &str =
    "-- setting_set\nINSERT INTO settings (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE name = name";

pub(crate) async fn setting(conn: &mut MySqlConnection, name: &str) -> Result<Option<String>> {
    let row = sqlx::query(FIND).bind(name).fetch_optional(conn).await.map_err(store_error)?;
    row.map(|row| Row(row).get(0)).transpose()
}

/// Sets it if it was never set; says what it is.
async fn initialise(conn: &mut MySqlConnection, name: &str, value: &str) -> Result<String> {
    sqlx::query(SET).bind(name).bind(value).execute(&mut *conn).await.map_err(store_error)?;
    let now = setting(conn, name).await?;
    now.ok_or_else(|| StoreError::Internal(format!("setting `{name}` is not there after it was set")))
}

/// The number of logical shards is fixed when the store is made.
pub(crate) async fn initialise_shards(conn: &mut MySqlConnection, wanted: u16) -> Result<()> {
    check_shards(&initialise(conn, "shards", &wanted.to_string()).await?, wanted)
}

pub(crate) async fn initialise_key(conn: &mut MySqlConnection, sealer: &Sealer) -> Result<()> {
    let sealed = sealer.probe().map_err(StoreError::Internal)?;
    check_key(&initialise(conn, "secret_probe", &sealed).await?, sealer)
}

pub(crate) fn check_key(stored: &str, sealer: &Sealer) -> Result<()> {
    if sealer.opens(stored) {
        return Ok(());
    }
    Err(StoreError::Unusable(
        "the secret key is not the one that this store's secrets were sealed with: give the old one \
         (`store.secret_key`)"
            .to_owned(),
    ))
}

/// The name of each shard's data source. A shard without one gets the source that the options name for it.
pub(crate) async fn assign_shards(
    conn: &mut MySqlConnection,
    options: &MySqlOptions,
    placed: &mut Vec<u16>,
) -> Result<Vec<String>> {
    let mut sources_of_shards = shard_sources(conn, options.shards).await?;
    for (shard, source_name) in (0..options.shards).zip(&mut sources_of_shards) {
        if source_name.is_some() {
            continue;
        }
        let mut holders = options.sources.iter().filter(|source| source.shards.contains(&shard));
        let (Some(holder), None) = (holders.next(), holders.next()) else {
            return Err(StoreError::Unusable(format!(
                "shard {shard} has no data source, or more than one: give each shard to one (`store.sources`)"
            )));
        };
        sqlx::query("-- place_insert\nINSERT INTO shard_place (shard, source) VALUES (?, ?)")
            .bind(i64::from(shard))
            .bind(&holder.name)
            .execute(&mut *conn)
            .await
            .map_err(store_error)?;
        placed.push(shard);
        *source_name = Some(holder.name.clone());
    }
    known_sources(sources_of_shards, options)
}

/// By shard; `None` for one that has no data source yet.
pub(crate) async fn shard_sources(conn: &mut MySqlConnection, shards: u16) -> Result<Vec<Option<String>>> {
    let mut sources_of_shards = vec![None; usize::from(shards)];
    let rows = sqlx::query("-- places\nSELECT CAST(shard AS SIGNED), source FROM shard_place")
        .fetch_all(conn)
        .await
        .map_err(store_error)?;
    for row in rows.into_iter().map(Row) {
        let shard: i64 = row.get(0)?;
        let source_name = usize::try_from(shard).ok().and_then(|shard| sources_of_shards.get_mut(shard));
        *source_name.ok_or_else(|| {
            StoreError::Unusable(format!("shard {shard} has a place and is none of ours"))
        })? = Some(row.get(1)?);
    }
    Ok(sources_of_shards)
}

/// # Errors
/// [`StoreError::Unusable`] for a shard without a data source, or on one that the options do not name.
pub(crate) fn known_sources(
    sources_of_shards: Vec<Option<String>>,
    options: &MySqlOptions,
) -> Result<Vec<String>> {
    let known = |(source_name, shard): (Option<String>, u16)| match source_name {
        Some(name) if options.sources.iter().any(|source| source.name == name) => Ok(name),
        Some(name) => Err(StoreError::Unusable(format!(
            "shard {shard} is on data source `{name}`, which is not in `store.sources`: put it there"
        ))),
        None => Err(StoreError::Unusable(format!("shard {shard} has no place yet: run `tsp migrate`"))),
    };
    sources_of_shards.into_iter().zip(0..).map(known).collect()
}
