//! The owner's right to what it does.

use tsp_store::error::Result;
use tsp_store::fetching::Owner;

use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::fetching::group_rows::GroupRows;

/// A takeover raises this number first, so it waits for whoever has this lock. The lease itself is not locked:
/// a renewal never waits for a claim.
const FENCE: &str = "-- lease_fence\nSELECT epoch FROM shard_epoch WHERE shard = ? LOCK IN SHARE MODE";

/// By a statement of its own, which sees what was committed before the fence was had.
const LEASE_CHECK: &str = "-- lease_check
SELECT epoch FROM shard_lease
WHERE group_name = ? AND shard = ? AND owner = ? AND epoch = ? AND lease_until >= {now}";

/// First in each transaction of the owner: whether it still is the owner.
pub(crate) async fn owns(tx: &mut Tx<'_>, of: &GroupRows, owner: Owner) -> Result<bool> {
    let fence = query(&tx.conn().sql(FENCE)).bind(of.shard_group.shard.get());
    if fence.fetch_optional(tx.conn()).await?.is_none() {
        return Ok(false);
    }
    let check = query(&tx.conn().sql(LEASE_CHECK))
        .bind(of.shard_group.group.as_str())
        .bind(of.shard_group.shard.get())
        .bind(owner.node.get())
        .bind(owner.epoch);
    Ok(check.fetch_optional(tx.conn()).await?.is_some())
}
