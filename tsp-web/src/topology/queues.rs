//! `GET /queues`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::cluster as wire;
use tsp_api::list::Page;
use tsp_store::catalog::Scope;

use super::PageRequest;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::ports::QueueView;
use crate::query::Query;
use crate::state::WebState;

/// List the queues between fetchers and workers
///
/// Needs a global key with `read`.
#[utoipa::path(
    get, path = "/queues", tag = "cluster",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "By name.", body = Page<wire::Queue>))
)]
pub(super) async fn list_queues(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    query: Query,
) -> ApiResult<axum::Json<Page<wire::Queue>>> {
    caller.require_global(Scope::Read)?;
    let wanted = PageRequest::read(query)?;
    let queues = state.topology.queues().await?;
    Ok(axum::Json(wanted.page(queues, |queue| queue.name.clone(), shown)))
}

fn shown(queue: QueueView) -> wire::Queue {
    let QueueView { name, depth, in_flight, rate, consumers } = queue;
    // JSON has no other numbers.
    let rate = if rate.is_finite() { rate } else { 0.0 };
    wire::Queue { name, depth, in_flight, rate, consumers }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::ports::QueueView;
    use crate::testing::Server;

    #[tokio::test]
    async fn shows_queues_by_name() {
        let server = Server::start().await;
        let queue = |name: &str, rate| QueueView {
            name: name.to_owned(),
            depth: 5,
            in_flight: 2,
            rate,
            consumers: 3,
        };
        server.topology.queues.lock().extend([queue("slow", f64::NAN), queue("default", 12.5)]);
        let answer = server.get("/api/v1/queues").await.expect(200);
        assert_eq!(
            answer,
            json!({"items": [
                {"name": "default", "depth": 5, "in_flight": 2, "rate": 12.5, "consumers": 3},
                {"name": "slow", "depth": 5, "in_flight": 2, "rate": 0.0, "consumers": 3},
            ]})
        );
    }
}
