//! What is fixed when a store is made: the number of shards and the secret key.

use rusqlite::{Connection, OptionalExtension};

use crate::backend::row_count::exactly_one;
use crate::backend::settings::{check_shard_count, check_shards};
use crate::documents::Sealer;
use crate::error::{Result, StoreError};

use super::migrate::in_transaction;

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

/// `from`: where the key is from, as messages say it.
pub(super) fn initialise_key(conn: &Connection, sealer: &Sealer, from: &str) -> Result<()> {
    let stored: Option<String> = conn
        .query_row("-- secret_probe\nSELECT value FROM settings WHERE name = 'secret_probe'", [], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(stored) = stored {
        if sealer.opens(&stored) {
            return Ok(());
        }
        return Err(StoreError::Unusable(format!(
            "{from} is not the one that this database's secrets were sealed with: give the old one \
             (`store.secret_key`), or put the old key file back"
        )));
    }
    let sealed = sealer.probe().map_err(StoreError::Internal)?;
    let changed = conn.execute(
        "-- secret_probe_set\nINSERT INTO settings (name, value) VALUES ('secret_probe', ?)",
        [sealed],
    )?;
    exactly_one(changed, "secret_probe_set")
}
