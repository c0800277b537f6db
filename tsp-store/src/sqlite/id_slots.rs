//! Slots of ids: until when each was used.

use rusqlite::{Connection, OptionalExtension};
use tsp_core::Timestamp;

use crate::backend::row_count::exactly_one;
use crate::error::Result;

/// Raises the slot's `used_until`, never lowers it; returns what it was.
pub(super) fn renew_id_slot(conn: &Connection, slot: u8, until: Timestamp) -> Result<Timestamp> {
    let used: Option<i64> = conn
        .prepare_cached("-- id_slot_find\nSELECT used_until FROM id_slot WHERE slot = ?")?
        .query_row([slot], |row| row.get(0))
        .optional()?;
    let changed = conn
        .prepare_cached(
            "-- id_slot_raise\nINSERT INTO id_slot (slot, used_until) VALUES (?1, ?2) \
             ON CONFLICT (slot) DO UPDATE SET used_until = max(used_until, excluded.used_until)",
        )?
        .execute([i64::from(slot), until.ms()])?;
    exactly_one(changed, "id_slot_raise")?;
    Ok(used.map_or(Timestamp::ZERO, Timestamp::from_ms))
}
