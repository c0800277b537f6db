//! The owner's right to what it does.

use tsp_store::error::Result;
use tsp_store::fetching::Owner;

use crate::connection::statements::statements;
use crate::connection::tx::Tx;

statements! {
    LEASE_CHECK = "-- lease_check
    SELECT epoch FROM shard_lease WHERE shard = 0 AND owner = ?1 AND epoch = ?2";
}

/// First in each transaction of the owner: whether it still is the owner.
pub(crate) fn owns(tx: &Tx<'_>, owner: Owner) -> Result<bool> {
    tx.conn.prepare(LEASE_CHECK)?.exists([owner.node.get(), owner.epoch])
}
