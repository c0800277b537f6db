//! `GET /nodes`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::cluster as wire;
use tsp_api::list::Page;
use tsp_store::catalog::Scope;

use super::PageRequest;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::ports::{NodeState, NodeView};
use crate::query::Query;
use crate::state::WebState;

/// List the nodes
///
/// Those that are alive, and those that died within the last hour. Needs a global key with `read`.
#[utoipa::path(
    get, path = "/nodes", tag = "cluster",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "By id.", body = Page<wire::Node>))
)]
pub(super) async fn list_nodes(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    query: Query,
) -> ApiResult<axum::Json<Page<wire::Node>>> {
    caller.require_global(Scope::Read)?;
    let wanted = PageRequest::read(query)?;
    let nodes = state.topology.nodes().await?;
    Ok(axum::Json(wanted.page(nodes, |node| format!("{:020}", node.id.get()), shown)))
}

fn shown(node: NodeView) -> wire::Node {
    wire::Node {
        id: node.id.into(),
        name: node.name,
        roles: node.roles,
        version: node.version,
        state: match node.state {
            NodeState::Alive => wire::NodeState::Alive,
            NodeState::Late => wire::NodeState::Late,
            NodeState::Dead => wire::NodeState::Dead,
        },
        started_at: node.started_at.into(),
        lease_until: node.lease_until.map(Into::into),
        clock_offset_ms: node.clock_offset.ms(),
        load: wire::NodeLoad { running: node.running, shards: node.shards },
        config_seq: node.config_seq,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tsp_core::{Millis, NodeId};

    use crate::ports::{NodeState, NodeView};
    use crate::testing::{NOW, Server};

    fn node(id: i64, state: NodeState) -> NodeView {
        NodeView {
            id: NodeId::new(id),
            name: format!("host-{id}"),
            roles: vec!["web".to_owned(), "worker".to_owned()],
            version: "0.1.0".to_owned(),
            state,
            started_at: NOW,
            lease_until: (state != NodeState::Dead).then(|| NOW.plus(Millis::from_secs(5))),
            clock_offset: Millis::from_ms(-12),
            running: 3,
            shards: 4,
            config_seq: 17,
        }
    }

    #[tokio::test]
    async fn shows_nodes_by_id() {
        let server = Server::start().await;
        server.topology.nodes.lock().extend([
            node(10, NodeState::Dead),
            node(9, NodeState::Late),
            node(2, NodeState::Alive),
        ]);
        let first = server.get("/api/v1/nodes?limit=1").await.expect(200);
        assert_eq!(
            first["items"],
            json!([{
                "id": "2", "name": "host-2", "roles": ["web", "worker"], "version": "0.1.0", "state": "alive",
                "started_at": "2026-11-21T10:30:00.000Z", "lease_until": "2026-11-21T10:30:05.000Z",
                "clock_offset_ms": -12, "load": {"running": 3, "shards": 4}, "config_seq": 17
            }])
        );
        let cursor = first["next_cursor"].as_str().unwrap();
        let rest = server.get(&format!("/api/v1/nodes?cursor={cursor}")).await.expect(200);
        let items = rest["items"].as_array().unwrap();
        assert_eq!((&items[0]["id"], &items[0]["state"]), (&json!("9"), &json!("late")));
        assert_eq!((&items[1]["state"], &items[1]["lease_until"]), (&json!("dead"), &json!(null)));
        assert_eq!((items.len(), rest.get("next_cursor")), (2, None));
    }

    #[tokio::test]
    async fn all_three_need_a_global_key_with_read() {
        let server = Server::start().await;
        server.app("trade").await;
        let own = server.key("trade", &["admin"]).await;
        let submit = server.global_key(&[tsp_store::catalog::Scope::Submit]).await;
        let read = server.global_key(&[tsp_store::catalog::Scope::Read]).await;
        for path in ["/api/v1/nodes", "/api/v1/shards", "/api/v1/queues"] {
            for (key, status) in [(&own, 403), (&submit, 403), (&read, 200)] {
                let answer = server.call_as(key, http::Method::GET, path, json!(null)).await;
                assert_eq!(answer.status, status, "{path}");
            }
            assert_eq!(server.get(&format!("{path}?all=1")).await.refused(), (400, "invalid_query".into()));
            assert_eq!(server.get(&format!("{path}?cursor=x")).await.refused().1, "invalid_cursor");
            server.topology.goes_away();
            let away = server.get(path).await;
            assert_eq!((away.refused(), away.header("retry-after")), ((503, "unavailable".into()), "1"));
            server.topology.comes_back();
        }
    }
}
