//! What is fixed when a store is made: the number of shards and the secret key.

use tsp_store::backend::settings::{check_shard_count, check_shards};
use tsp_store::documents::Sealer;
use tsp_store::error::{Result, StoreError};

use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::schema::migrate::in_transaction;

statements! {
    SHARDS_FIND = "-- shards_find\nSELECT value FROM settings WHERE name = 'shards'";
    SHARDS_SET = "-- shards_set\nINSERT INTO settings (name, value) VALUES ('shards', ?)";
    SECRET_PROBE = "-- secret_probe\nSELECT value FROM settings WHERE name = 'secret_probe'";
    SECRET_PROBE_SET = "-- secret_probe_set\nINSERT INTO settings (name, value) VALUES ('secret_probe', ?)";
}

/// The number of logical shards is fixed when the store is made.
pub(crate) fn initialise_shards(conn: Session<'_>, wanted: u16) -> Result<u16> {
    check_shard_count(wanted)?;
    in_transaction(conn, |conn| {
        let Some(stored) = conn.prepare(SHARDS_FIND)?.first([], |row| row.get::<String>(0))? else {
            conn.prepare(SHARDS_SET)?.execute_one([wanted.to_string()])?;
            return Ok(wanted);
        };
        check_shards(&stored, wanted).map(|()| wanted)
    })
}

/// `from`: where the key is from, as messages say it.
pub(crate) fn initialise_key(conn: Session<'_>, sealer: &Sealer, from: &str) -> Result<()> {
    if let Some(stored) = conn.prepare(SECRET_PROBE)?.first([], |row| row.get::<String>(0))? {
        if sealer.opens(&stored) {
            return Ok(());
        }
        return Err(StoreError::Unusable(format!(
            "{from} is not the one that this database's secrets were sealed with: give the old one \
             (`store.secret_key`), or put the old key file back"
        )));
    }
    let sealed = sealer.probe().map_err(StoreError::Internal)?;
    conn.prepare(SECRET_PROBE_SET)?.execute_one([sealed])
}
