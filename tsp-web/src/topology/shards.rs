//! `GET /shards`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::cluster as wire;
use tsp_api::list::Page;
use tsp_store::catalog::Scope;

use super::PageRequest;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::ports::{ShardView, ShardsView};
use crate::query::Query;
use crate::state::WebState;

/// List who schedules which shard
///
/// One item for each group on each shard; a shard whose database cannot be asked is one item without a
/// group. Needs a global key with `read`.
#[utoipa::path(
    get, path = "/shards", tag = "cluster",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "By shard, then group.", body = Page<wire::Shard>))
)]
pub(super) async fn list_shards(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    query: Query,
) -> ApiResult<axum::Json<Page<wire::Shard>>> {
    caller.require_global(Scope::Read)?;
    let wanted = PageRequest::read(query)?;
    let ShardsView { rows, away } = state.topology.shards().await?;
    let mut shards: Vec<wire::Shard> = rows.into_iter().map(shown).collect();
    for (shard, why) in away {
        tracing::warn!(shard, "the shard cannot be asked: {why}");
        shards.push(unknown(shard));
    }
    let position =
        |shard: &wire::Shard| format!("{:05}/{}", shard.shard, shard.group.as_deref().unwrap_or(""));
    Ok(axum::Json(wanted.page(shards, position, |shard| shard)))
}

fn shown(row: ShardView) -> wire::Shard {
    wire::Shard {
        shard: row.shard,
        group: Some(row.group.to_string()),
        source: Some(row.source),
        state: if row.owner.is_some() { wire::ShardState::Owned } else { wire::ShardState::Free },
        owner: row.owner.map(Into::into),
        epoch: Some(row.epoch),
        lag_ms: row.lag.map(|lag| lag.ms().max(0)),
        open: row.open,
    }
}

fn unknown(shard: u16) -> wire::Shard {
    wire::Shard {
        shard,
        group: None,
        source: None,
        state: wire::ShardState::Away,
        owner: None,
        epoch: None,
        lag_ms: None,
        open: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tsp_core::{Millis, Name, NodeId};

    use crate::ports::{ShardView, ShardsView};
    use crate::testing::Server;

    fn row(shard: u16, group: &str, owner: Option<i64>) -> ShardView {
        ShardView {
            shard,
            group: Name::group(group).unwrap(),
            source: "a".to_owned(),
            owner: owner.map(NodeId::new),
            epoch: 6,
            lag: Some(Millis::from_ms(250)),
            open: Some(12),
        }
    }

    #[tokio::test]
    async fn one_database_away_hides_no_others() {
        let server = Server::start().await;
        *server.topology.shards.lock() = ShardsView {
            rows: vec![row(10, "default", None), row(2, "trade", Some(7)), row(2, "default", Some(9))],
            away: vec![(3, "mysql://10.0.0.5 does not answer".to_owned())],
        };
        let answer = server.get("/api/v1/shards").await.expect(200);
        assert_eq!(
            answer,
            json!({"items": [
                {"shard": 2, "group": "default", "source": "a", "state": "owned", "owner": "9", "epoch": 6,
                    "lag_ms": 250, "open": 12},
                {"shard": 2, "group": "trade", "source": "a", "state": "owned", "owner": "7", "epoch": 6,
                    "lag_ms": 250, "open": 12},
                {"shard": 3, "group": null, "source": null, "state": "away", "owner": null, "epoch": null,
                    "lag_ms": null, "open": null},
                {"shard": 10, "group": "default", "source": "a", "state": "free", "owner": null, "epoch": 6,
                    "lag_ms": 250, "open": 12},
            ]})
        );
    }

    #[tokio::test]
    async fn pages_go_on_within_a_shard() {
        let server = Server::start().await;
        let rows = (0..3).flat_map(|shard| ["b", "a"].map(|group| row(shard, group, None))).collect();
        *server.topology.shards.lock() = ShardsView { rows, away: Vec::new() };
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/api/v1/shards?limit=1&cursor={cursor}")).await.expect(200);
            let item = &page["items"][0];
            seen.push(format!("{}{}", item["shard"], item["group"].as_str().unwrap()));
            match &page["next_cursor"] {
                Value::String(next) => cursor.clone_from(next),
                _ => break,
            }
        }
        assert_eq!(seen, ["0a", "0b", "1a", "1b", "2a", "2b"]);
    }
}
