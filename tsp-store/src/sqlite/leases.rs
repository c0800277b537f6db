//! Leases: an embedded store has one owner, which takes all shards at once.

use rusqlite::params;
use tsp_core::{NodeId, Timestamp};

use crate::backend::row_count::exactly_one;
use crate::error::Result;
use crate::fetching::Owner;

use super::export;
use super::tx::Tx;

pub(super) fn take_shards(tx: &mut Tx<'_>, node: NodeId, now: Timestamp) -> Result<Owner> {
    export::refuse_imported(tx.conn)?;
    let last: i64 = tx
        .conn
        .prepare_cached("-- epoch_last\nSELECT coalesce(max(epoch), 0) FROM shard_epoch")?
        .query_row([], |row| row.get(0))?;
    let epoch = last + 1;
    for shard in 0..tx.shared.shards {
        let raised = tx
            .conn
            .prepare_cached(
                "-- epoch_raise\nINSERT INTO shard_epoch (shard, epoch) VALUES (?1, ?2) \
                 ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch",
            )?
            .execute(params![shard, epoch])?;
        exactly_one(raised, "epoch_raise")?;
        let taken = tx
            .conn
            .prepare_cached(
                "-- lease_take\nINSERT INTO shard_lease (shard, owner, epoch, taken_at) \
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT (shard) DO UPDATE SET owner = excluded.owner, \
                 epoch = excluded.epoch, taken_at = excluded.taken_at",
            )?
            .execute(params![shard, node.get(), epoch, now.ms()])?;
        exactly_one(taken, "lease_take")?;
    }
    Ok(Owner { node, epoch })
}
