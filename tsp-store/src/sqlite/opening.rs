//! What is read once, at start.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::backend::columns::{app_columns, config_columns};
use crate::backend::row::{read_app, read_config};
use crate::backend::row_count::exactly_one;
use crate::backend::settings::{check_shard_count, check_shards};
use crate::config_cache::ConfigCache;
use crate::documents::Sealer;
use crate::error::Result;

use super::migrate::in_transaction;
use super::row::all;

const APPS: &str = concat!("-- app_all\nSELECT ", app_columns!(), " FROM app ORDER BY id");

const CONFIGS: &str = concat!(
    "-- config_all\nSELECT ",
    config_columns!(),
    " FROM config c LEFT JOIN app a ON a.id = c.app_id ORDER BY c.id"
);

/// The number of logical shards is fixed when the store is made.
pub(super) fn initialise_shards(conn: &Connection, wanted: u16) -> Result<u16> {
    check_shard_count(wanted)?;
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
        check_shards(&stored, wanted).map(|()| wanted)
    })
}

/// Reads all apps and configs into the config cache.
pub(super) fn fill_config_cache(
    conn: &Connection,
    config_cache: &ConfigCache,
    sealer: &Sealer,
) -> Result<()> {
    for app in all(conn.prepare(APPS)?.query([])?, |row| read_app(row))? {
        config_cache.put_app(Arc::new(app));
    }
    let seq: i64 =
        conn.query_row("-- config_seq\nSELECT coalesce(max(seq), 0) FROM config_change", [], |row| {
            row.get(0)
        })?;
    for config in all(conn.prepare(CONFIGS)?.query([])?, |row| read_config(row, sealer))? {
        config_cache.put_config(Arc::new(config), seq);
    }
    config_cache.reach(seq);
    Ok(())
}
