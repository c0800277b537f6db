//! What is fixed when a store is made: the number of shards and the secret key.

use tsp_store::backend::settings::{check_shard_count, check_shards};
use tsp_store::documents::Sealer;
use tsp_store::error::{Result, StoreError};

use crate::connection::session::Session;
use crate::schema::migrate::in_transaction;

/// The number of logical shards is fixed when the store is made.
pub(crate) fn initialise_shards(conn: Session<'_>, wanted: u16) -> Result<u16> {
    check_shard_count(wanted)?;
    in_transaction(conn, |conn| {
        let find = "-- shards_find\nSELECT value FROM settings WHERE name = 'shards'";
        let Some(stored) = conn.prepare(find)?.first([], |row| row.get::<String>(0))? else {
            let set = "-- shards_set\nINSERT INTO settings (name, value) VALUES ('shards', ?)";
            conn.prepare(set)?.execute_one([wanted.to_string()])?;
            return Ok(wanted);
        };
        check_shards(&stored, wanted).map(|()| wanted)
    })
}

/// `from`: where the key is from, as messages say it.
pub(crate) fn initialise_key(conn: Session<'_>, sealer: &Sealer, from: &str) -> Result<()> {
    let find = "-- secret_probe\nSELECT value FROM settings WHERE name = 'secret_probe'";
    if let Some(stored) = conn.prepare(find)?.first([], |row| row.get::<String>(0))? {
        if sealer.opens(&stored) {
            return Ok(());
        }
        return Err(StoreError::Unusable(format!(
            "{from} is not the one that this database's secrets were sealed with: give the old one \
             (`store.secret_key`), or put the old key file back"
        )));
    }
    let sealed = sealer.probe().map_err(StoreError::Internal)?;
    let set = "-- secret_probe_set\nINSERT INTO settings (name, value) VALUES ('secret_probe', ?)";
    conn.prepare(set)?.execute_one([sealed])
}
