//! Slots of ids: until when each was used.

use async_trait::async_trait;
use tsp_core::Timestamp;
use tsp_store::error::Result;
use tsp_store::id_source::IdSlots;

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::connection::session::Session;
use crate::connection::statements::statements;

statements! {
    ID_SLOT_FIND = "-- id_slot_find\nSELECT used_until FROM id_slot WHERE slot = ?";

    ID_SLOT_RAISE = "-- id_slot_raise\nINSERT INTO id_slot (slot, used_until) VALUES (?1, ?2)
    ON CONFLICT (slot) DO UPDATE SET used_until = max(used_until, excluded.used_until)";
}

#[async_trait]
impl IdSlots for SqliteStore {
    async fn renew_id_slot(&self, slot: u8, until: Timestamp) -> Result<Timestamp> {
        self.write(Command::RenewIdSlot, 1, move |tx| renew_id_slot(tx.conn, slot, until)).await
    }
}

/// Raises the slot's `used_until`, never lowers it; returns what it was.
fn renew_id_slot(conn: Session<'_>, slot: u8, until: Timestamp) -> Result<Timestamp> {
    let used: Option<i64> = conn.prepare(ID_SLOT_FIND)?.first([slot], |row| row.get(0))?;
    conn.prepare(ID_SLOT_RAISE)?.execute_one([i64::from(slot), until.ms()])?;
    Ok(used.map_or(Timestamp::ZERO, Timestamp::from_ms))
}
