//! Configs whose receiver asked for a wait.

use rusqlite::params;
use tsp_core::{ConfigId, Timestamp};
use tsp_store::backend::columns::park_columns;
use tsp_store::backend::row::read_park;
use tsp_store::error::Result;
use tsp_store::parks::{Park, ParkEvent};

use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;

statements! {
    pub(crate) PARKS = concat!("-- parks\nSELECT ", park_columns!(), " FROM config_state WHERE parked_until > ?1");

    pub(crate) PARKED = concat!(
        "-- parked\nSELECT ",
        park_columns!(),
        " FROM config_state WHERE config_id = ?1 AND parked_until > ?2"
    );

    PARK = "-- park
    INSERT INTO config_state (config_id, parked_since, parked_until, parked_by, unparked_at)
    VALUES (?1, ?2, ?3, ?4, 0)
    ON CONFLICT (config_id) DO UPDATE SET parked_since = excluded.parked_since,
        parked_until = excluded.parked_until, parked_by = excluded.parked_by
    WHERE excluded.parked_since > unparked_at AND excluded.parked_until > parked_until";

    UNPARK = "-- unpark
    UPDATE config_state SET parked_until = 0, unparked_at = ?2 WHERE config_id = ?1 AND unparked_at < ?2";
}

pub(crate) fn parks(conn: Session<'_>, now: Timestamp) -> Result<Vec<Park>> {
    conn.prepare(PARKS)?.all([now.ms()], |row| read_park(row))
}

pub(crate) fn parked(conn: Session<'_>, config: ConfigId, now: Timestamp) -> Result<Option<Park>> {
    conn.prepare(PARKED)?.first([config.get(), now.ms()], |row| read_park(row))
}

pub(crate) fn save(tx: &Tx<'_>, events: &[ParkEvent]) -> Result<()> {
    for one in events {
        // Neither need change anything: a longer wait is known, or a later end.
        match one {
            ParkEvent::Asked(park) => tx.conn.prepare(PARK)?.execute(params![
                park.config.get(),
                park.since.ms(),
                park.until.ms(),
                park.by.get(),
            ])?,
            ParkEvent::Ended { config, at } => tx.conn.prepare(UNPARK)?.execute([config.get(), at.ms()])?,
        };
    }
    Ok(())
}
