//! Leases: an embedded store has one owner, which takes all shards at once.

use rusqlite::params;
use tsp_core::{NodeId, Timestamp};
use tsp_store::error::Result;
use tsp_store::fetching::Owner;

use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::export;

statements! {
    EPOCH_LAST = "-- epoch_last\nSELECT coalesce(max(epoch), 0) FROM shard_epoch";

    EPOCH_RAISE = "-- epoch_raise
    INSERT INTO shard_epoch (shard, epoch) VALUES (?1, ?2)
    ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch";

    LEASE_TAKE = "-- lease_take
    INSERT INTO shard_lease (shard, owner, epoch, taken_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (shard) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch, taken_at = excluded.taken_at";
}

pub(crate) fn take_shards(tx: &mut Tx<'_>, node: NodeId, now: Timestamp) -> Result<Owner> {
    export::refuse_imported(tx.conn)?;
    let epoch = tx.conn.prepare(EPOCH_LAST)?.one([], |row| row.get::<i64>(0))? + 1;
    for shard in 0..tx.shared.shards {
        tx.conn.prepare(EPOCH_RAISE)?.execute_one(params![shard, epoch])?;
        tx.conn.prepare(LEASE_TAKE)?.execute_one(params![shard, node.get(), epoch, now.ms()])?;
    }
    Ok(Owner { node, epoch })
}
