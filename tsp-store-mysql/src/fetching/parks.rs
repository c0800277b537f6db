//! Configs whose receiver asked for a wait.

use std::collections::BTreeSet;

use futures::future::join_all;
use tsp_core::config::TaskConfig;
use tsp_core::task_key::{config_shard, span_shards};
use tsp_core::{ConfigId, ShardId, Timestamp};
use tsp_store::backend::columns::park_columns;
use tsp_store::backend::row::read_park;
use tsp_store::error::Result;
use tsp_store::parks::{Park, ParkEvent};

use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::context::{StoreContext, all_of};
use crate::fetching::group_rows::GroupRows;

pub(crate) const PARKS: &str = concat!(
    "-- parks\nSELECT ",
    park_columns!(),
    " FROM config_state_{shard} FORCE INDEX (parked) WHERE parked_until > ?"
);

const PARKED: &str = concat!(
    "-- parked\nSELECT ",
    park_columns!(),
    " FROM config_state_{shard} WHERE config_id = ? AND parked_until > ?"
);

/// In this order: each column is compared as it was.
const PARK: &str = "-- park
INSERT INTO config_state_{shard} (config_id, parked_since, parked_until, parked_by, unparked_at)
VALUES (?, ?, ?, ?, 0)
ON DUPLICATE KEY UPDATE
    parked_since = IF(? > unparked_at AND ? > parked_until, ?, parked_since),
    parked_by = IF(? > unparked_at AND ? > parked_until, ?, parked_by),
    parked_until = IF(? > unparked_at AND ? > parked_until, ?, parked_until)";

const UNPARK: &str = "-- unpark
UPDATE config_state_{shard} SET parked_until = 0, unparked_at = ? WHERE config_id = ? AND unparked_at < ?";

pub(crate) async fn parks(of: &GroupRows, reread: bool, now: Timestamp) -> Result<Vec<Park>> {
    let mut parks = parks_on(&of.shard()?, now).await?;
    parks.retain(|park| of.is_mine(park.config));
    if reread {
        let others = others(of);
        let found = others.iter().map(|shard| async move {
            match of.context.shard(*shard) {
                Ok(on) => parks_on(&on, now).await,
                Err(error) => Err(error),
            }
        });
        for (shard, found) in others.iter().zip(join_all(found).await) {
            match found {
                Ok(found) => parks.extend(found.into_iter().filter(|park| covers(of, park))),
                Err(error) => {
                    tracing::warn!(%error, shard = shard.get(), "cannot see which configs are parked");
                }
            }
        }
    }
    Ok(parks)
}

fn covers(of: &GroupRows, park: &Park) -> bool {
    let config = of.context.config(park.config);
    config.is_some_and(|config| of.covers(&config))
}

/// For each config that has tasks here and elsewhere, one of the other shards.
fn others(of: &GroupRows) -> BTreeSet<ShardId> {
    let own = of.shard_group.shard;
    let other = |config: &TaskConfig| {
        let mut shards = span_shards(config.id, config.spec.span, of.context.shards);
        if shards.any(|shard| shard == own) {
            span_shards(config.id, config.spec.span, of.context.shards).find(|shard| *shard != own)
        } else {
            None
        }
    };
    let configs = of.context.config_cache.all_configs();
    configs.iter().filter(|config| of.is_mine(config.id)).filter_map(|config| other(config)).collect()
}

async fn parks_on(on: &ShardDb, now: Timestamp) -> Result<Vec<Park>> {
    let rows = on
        .read("parks", move |tx| {
            Box::pin(async move { query(&on.sql(PARKS)).bind(now.ms()).fetch_all(tx.conn()).await })
        })
        .await?;
    rows.iter().map(read_park).collect()
}

pub(crate) async fn save(of: &GroupRows, events: &[ParkEvent]) -> Result<()> {
    save_on(&of.shard()?, events).await
}

async fn save_on(on: &ShardDb, events: &[ParkEvent]) -> Result<()> {
    on.transact("save_parks", move |tx| {
        Box::pin(async move {
            for one in events {
                save_one(tx, on, one).await?;
            }
            Ok(())
        })
    })
    .await
}

/// It need not change anything: a longer wait may be known, or a later end.
async fn save_one(tx: &mut Tx<'_>, on: &ShardDb, events: &ParkEvent) -> Result<()> {
    match events {
        ParkEvent::Asked(Park { config, since, until, by }) => {
            let mut statement =
                query(&on.sql(PARK)).bind(config.get()).bind(since.ms()).bind(until.ms()).bind(by.get());
            for value in [since.ms(), by.get(), until.ms()] {
                statement = statement.bind(since.ms()).bind(until.ms()).bind(value);
            }
            statement.execute(tx.conn()).await?;
        }
        ParkEvent::Ended { config, at } => {
            query(&on.sql(UNPARK)).bind(at.ms()).bind(config.get()).bind(at.ms()).execute(tx.conn()).await?;
        }
    }
    Ok(())
}

/// As the shard of its schedule has it: all others have the same, or will soon.
pub(crate) async fn parked(context: &StoreContext, config: ConfigId, now: Timestamp) -> Result<Option<Park>> {
    let on = &context.shard(config_shard(config, context.shards))?;
    let row = on
        .read("parked", move |tx| {
            Box::pin(async move {
                query(&on.sql(PARKED)).bind(config.get()).bind(now.ms()).fetch_optional(tx.conn()).await
            })
        })
        .await?;
    row.as_ref().map(read_park).transpose()
}

/// Everywhere, also when one of them fails.
pub(crate) async fn unpark(context: &StoreContext, config: ConfigId, now: Timestamp) -> Result<()> {
    if parked(context, config, now).await?.is_none() {
        return Ok(());
    }
    let span = context.config(config).map_or(1, |config| config.spec.span);
    let events = &[ParkEvent::Ended { config, at: now }];
    let shards = span_shards(config, span, context.shards);
    all_of(shards.map(|shard| async move { save_on(&context.shard(shard)?, events).await })).await?;
    Ok(())
}
