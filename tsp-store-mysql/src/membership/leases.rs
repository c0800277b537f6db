//! Leases of shard groups, each in the data source that holds the shard, and by its clock.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tsp_core::{Millis, Name, NodeId, ShardId, Timestamp};
use tsp_store::backend::row_count::{exactly_one, one_or_none};
use tsp_store::cluster::{RenewedLeases, ShardGroup, ShardGroupLease, ShardGroupLeases};
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::fetching::Owner;

use crate::connection::db::Db;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::connection::statement_templates::batch_size;
use crate::connection::tx::Tx;
use crate::context::StoreContext;

/// How long one data source may take: its silence must not cost the leases on the others.
const PATIENCE: Duration = Duration::from_secs(1);

const LIST: &str = "-- lease_list
SELECT group_name, CAST(shard AS SIGNED), owner, epoch, lease_until, CAST(lease_until < {now} AS SIGNED)
FROM shard_lease";

const MAKE: &str = "-- lease_make
INSERT INTO shard_lease (group_name, shard, owner, epoch, lease_until) VALUES {rows}
ON DUPLICATE KEY UPDATE group_name = group_name";
const MAKE_WIDTH: usize = 5;

const EPOCH_RAISE: &str = "-- epoch_raise\nUPDATE shard_epoch SET epoch = epoch + 1 WHERE shard = ?";
const EPOCH: &str = "-- epoch_read\nSELECT epoch FROM shard_epoch WHERE shard = ?";

const TAKE: &str = "-- lease_take
UPDATE shard_lease SET owner = ?, epoch = ?, lease_until = {now} + ?
WHERE group_name = ? AND shard = ? AND owner = ? AND epoch = ? AND lease_until < {now}";

const RENEW: &str = "-- lease_renew\nUPDATE shard_lease SET lease_until = {now} + ? WHERE owner = ?";
const HELD: &str =
    "-- lease_held\nSELECT group_name, CAST(shard AS SIGNED), epoch FROM shard_lease WHERE owner = ?";

const GIVE_UP: &str = "-- lease_give_up
UPDATE shard_lease SET owner = 0, lease_until = 0 WHERE group_name = ? AND shard = ? AND owner = ? AND epoch = ?";

/// One answer from each data source within the patience.
async fn ask<T>(db: &Db, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || Cause::Away.because(format!("`{}` did not answer within a second", db.name()));
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}

pub(crate) async fn shard_groups(context: &StoreContext, groups: &[Name]) -> Result<ShardGroupLeases> {
    let asked = context.lease_sources().into_iter().map(async |(db, shards)| {
        let found = ask(&db, shard_groups_of(&db, groups, &shards)).await;
        (found, shards)
    });
    let mut shard_groups = ShardGroupLeases::default();
    for (found, shards) in join_all(asked).await {
        match found {
            Ok(rows) => shard_groups.rows.extend(rows),
            Err(error) => {
                shard_groups.away.extend(shards.into_iter().map(|shard| (shard, error.to_string())));
            }
        }
    }
    shard_groups.rows.sort_by(|a, b| a.shard_group.cmp(&b.shard_group));
    Ok(shard_groups)
}

async fn shard_groups_of(db: &Db, groups: &[Name], shards: &[ShardId]) -> Result<Vec<ShardGroupLease>> {
    if shards.is_empty() {
        return Ok(Vec::new());
    }
    db.read("pairs", |tx| {
        Box::pin(async move {
            let rows = list(tx, db, groups, shards).await?;
            let known: HashSet<&ShardGroup> = rows.iter().map(|row| &row.shard_group).collect();
            let wanted = groups.iter().flat_map(|group| {
                shards.iter().map(|shard| ShardGroup { group: group.clone(), shard: *shard })
            });
            let missing: Vec<ShardGroup> =
                wanted.filter(|shard_group| !known.contains(shard_group)).collect();
            if missing.is_empty() {
                return Ok(rows);
            }
            make(tx, db, &missing).await?;
            list(tx, db, groups, shards).await
        })
    })
    .await
}

async fn list(tx: &mut Tx<'_>, db: &Db, groups: &[Name], shards: &[ShardId]) -> Result<Vec<ShardGroupLease>> {
    let mut found = Vec::new();
    for row in query(&db.sql(LIST)).fetch_all(tx.conn()).await? {
        let shard_group = read_shard_group(&row)?;
        if groups.contains(&shard_group.group) && shards.contains(&shard_group.shard) {
            found.push(read_row(&row, shard_group, db)?);
        }
    }
    Ok(found)
}

/// Free leases, in the order of their keys.
async fn make(tx: &mut Tx<'_>, db: &Db, missing: &[ShardGroup]) -> Result<()> {
    let mut rest = missing;
    while let Some(rows) = batch_size(rest.len(), MAKE_WIDTH) {
        let (now, later) = rest.split_at(rows);
        rest = later;
        let mut statement = query(&db.sql_rows(MAKE, MAKE_WIDTH, rows));
        for shard_group in now {
            statement = statement.bind(shard_group.group.as_str()).bind(i64::from(shard_group.shard.get()));
            statement = statement.bind(0_i64).bind(0_i64).bind(0_i64);
        }
        statement.execute(tx.conn()).await?;
    }
    Ok(())
}

pub(crate) async fn take(
    context: &StoreContext,
    seen: &ShardGroupLease,
    node: NodeId,
    lease: Millis,
) -> Result<Option<Owner>> {
    let db = &context.leases_of(seen.shard_group.shard)?;
    let shard = i64::from(seen.shard_group.shard.get());
    db.transact("take", |tx| {
        Box::pin(async move {
            let raised = query(&db.sql(EPOCH_RAISE)).bind(shard).execute(tx.conn()).await?;
            exactly_one(raised, "epoch_raise")?;
            let epoch: i64 = query(&db.sql(EPOCH)).bind(shard).fetch_one(tx.conn()).await?.get(0)?;
            let taken = query(&db.sql(TAKE))
                .bind(node.get())
                .bind(epoch)
                .bind(lease.ms())
                .bind(seen.shard_group.group.as_str())
                .bind(shard)
                .bind(seen.owner.map_or(0, NodeId::get))
                .bind(seen.epoch)
                .execute(tx.conn())
                .await?;
            if one_or_none(taken, "lease_take")? {
                return Ok(Some(Owner { node, epoch }));
            }
            tx.undo();
            Ok(None)
        })
    })
    .await
}

pub(crate) async fn renew_leases(
    context: &StoreContext,
    node: NodeId,
    lease: Millis,
) -> Result<RenewedLeases> {
    let asked = context.lease_sources().into_iter().filter(|(_, shards)| !shards.is_empty());
    let asked = asked.map(async |(db, shards)| {
        let held = ask(&db, renew_of(&db, node, lease)).await;
        (held, shards)
    });
    let mut renewed = RenewedLeases::default();
    for (held, shards) in join_all(asked).await {
        match held {
            Ok(held) => {
                renewed
                    .held
                    .extend(held.into_iter().filter(|(shard_group, _)| shards.contains(&shard_group.shard)));
            }
            Err(error) => {
                tracing::warn!(%error, "leases of a data source were not renewed");
                renewed.failed.extend(shards);
            }
        }
    }
    renewed.held.sort_by(|a, b| a.0.cmp(&b.0));
    renewed.failed.sort();
    Ok(renewed)
}

async fn renew_of(db: &Db, node: NodeId, lease: Millis) -> Result<Vec<(ShardGroup, Owner)>> {
    db.read("renew_pairs", |tx| {
        Box::pin(async move {
            query(&db.sql(RENEW)).bind(lease.ms()).bind(node.get()).execute(tx.conn()).await?;
            let rows = query(&db.sql(HELD)).bind(node.get()).fetch_all(tx.conn()).await?;
            let held = |row: &Row| Ok((read_shard_group(row)?, Owner { node, epoch: row.get(2)? }));
            rows.iter().map(held).collect()
        })
    })
    .await
}

pub(crate) async fn give_up(context: &StoreContext, shard_group: &ShardGroup, owner: Owner) -> Result<()> {
    let db = &context.leases_of(shard_group.shard)?;
    db.read("give_up", |tx| {
        Box::pin(async move {
            let given = query(&db.sql(GIVE_UP))
                .bind(shard_group.group.as_str())
                .bind(i64::from(shard_group.shard.get()))
                .bind(owner.node.get())
                .bind(owner.epoch)
                .execute(tx.conn())
                .await?;
            one_or_none(given, "lease_give_up").map(|_| ())
        })
    })
    .await
}

/// The first two columns.
fn read_shard_group(row: &Row) -> Result<ShardGroup> {
    let shard: i64 = row.get(1)?;
    let corrupt = |column, why| StoreError::Corrupt { table: "shard_lease", column, id: shard, why };
    let group = Name::new(row.get::<&str>(0)?).map_err(|why| corrupt("group_name", why.to_string()))?;
    let known = u16::try_from(shard).ok().and_then(ShardId::new);
    let shard = known.ok_or_else(|| corrupt("shard", "is not a shard".to_owned()))?;
    Ok(ShardGroup { group, shard })
}

fn read_row(row: &Row, shard_group: ShardGroup, db: &Db) -> Result<ShardGroupLease> {
    let owner: i64 = row.get(2)?;
    Ok(ShardGroupLease {
        shard_group,
        owner: (owner != 0).then(|| NodeId::new(owner)),
        epoch: row.get(3)?,
        lease_until: Timestamp::from_ms(row.get(4)?),
        expired: row.get::<i64>(5)? != 0,
        source: db.name().to_owned(),
    })
}
