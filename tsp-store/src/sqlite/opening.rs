//! What is read once, at start.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};
use tsp_core::config::{Paused, TaskConfig};
use tsp_core::{AppId, ConfigId, Name, Timestamp};

use crate::catalog::App;
use crate::config_cache::ConfigCache;
use crate::documents::{Sealer, config_from_json};
use crate::error::{Result, StoreError};

use super::fault::exactly_one;
use super::migrate::in_transaction;
use super::row::all;

/// The number of logical shards is fixed when the store is made: ids and key homes depend on it.
pub(super) fn initialise_shards(conn: &Connection, wanted: u16) -> Result<u16> {
    if !(1..=tsp_core::ids::SHARDS_MAX).contains(&wanted) {
        return Err(StoreError::Unusable(format!(
            "`store.shards` is {wanted}, it must be 1 to {}",
            tsp_core::ids::SHARDS_MAX
        )));
    }
    in_transaction(conn, |conn| {
        let stored: Option<String> = conn
            .query_row("-- shards_find\nSELECT value FROM settings WHERE name = 'shards'", [], |row| {
                row.get(0)
            })
            .optional()?;
        let Some(stored) = stored else {
            let changed = conn.execute(
                "-- shards_set\nINSERT INTO settings (name, value) VALUES ('shards', ?)",
                [wanted.to_string()],
            )?;
            exactly_one(changed, "shards_set")?;
            return Ok(wanted);
        };
        if stored == wanted.to_string() {
            return Ok(wanted);
        }
        Err(StoreError::Unusable(format!(
            "the store was made with {stored} shards and is opened with {wanted}: the number is fixed, set \
             `store.shards = {stored}`"
        )))
    })
}

/// Reads all apps and configs into the config cache.
pub(super) fn fill_config_cache(
    conn: &Connection,
    config_cache: &ConfigCache,
    sealer: &Sealer,
) -> Result<()> {
    let mut apps = conn.prepare(
        "-- app_all\nSELECT id, name, description, owner, created_at, updated_at FROM app ORDER BY id",
    )?;
    for app in all(apps.query([])?, read_app)? {
        config_cache.put_app(Arc::new(app));
    }
    let seq: i64 =
        conn.query_row("-- config_seq\nSELECT coalesce(max(seq), 0) FROM config_change", [], |row| {
            row.get(0)
        })?;
    let mut configs = conn.prepare(
        "-- config_all
        SELECT id, app_id, version, document, paused_by, paused_at, paused_note, created_at, updated_at
        FROM config ORDER BY id",
    )?;
    for config in all(configs.query([])?, |row| read_config(row, config_cache, sealer))? {
        config_cache.put_config(Arc::new(config), seq);
    }
    config_cache.reach(seq);
    Ok(())
}

fn read_app(row: &Row<'_>) -> Result<App> {
    let id: i64 = row.get(0)?;
    Ok(App {
        id: AppId::new(id),
        name: read_name(&row.get::<_, String>(1)?, "app", id)?,
        description: row.get(2)?,
        owner: row.get(3)?,
        created_at: Timestamp::from_ms(row.get(4)?),
        updated_at: Timestamp::from_ms(row.get(5)?),
    })
}

fn read_config(row: &Row<'_>, config_cache: &ConfigCache, sealer: &Sealer) -> Result<TaskConfig> {
    let id: i64 = row.get(0)?;
    let corrupt = |column, why| StoreError::Corrupt { table: "config", column, id, why };
    let app_id = AppId::new(row.get(1)?);
    let app = config_cache.app_by_id(app_id).ok_or_else(|| corrupt("app_id", "no such app".to_owned()))?;
    let document: String = row.get(3)?;
    let paused = match (row.get::<_, Option<String>>(4)?, row.get::<_, Option<i64>>(5)?) {
        (Some(by), Some(at)) => Some(Paused { by, at: Timestamp::from_ms(at), note: row.get(6)? }),
        _ => None,
    };
    Ok(TaskConfig {
        id: ConfigId::new(id),
        app_id,
        app: app.name.clone(),
        spec: config_from_json(&document, sealer).map_err(|why| corrupt("document", why))?,
        paused,
        version: row.get(2)?,
        created_at: Timestamp::from_ms(row.get(7)?),
        updated_at: Timestamp::from_ms(row.get(8)?),
    })
}

fn read_name(text: &str, table: &'static str, id: i64) -> Result<Name> {
    let bad = |why: tsp_core::name::NameError| StoreError::Corrupt {
        table,
        column: "name",
        id,
        why: why.to_string(),
    };
    Name::new(text).map_err(bad)
}
