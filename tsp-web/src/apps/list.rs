//! `GET /apps`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::app as wire;
use tsp_api::list::Page;
use tsp_store::catalog::Scope;

use super::shown;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::query::Query;
use crate::state::WebState;

/// List all apps
#[utoipa::path(
    get, path = "/apps", tag = "apps",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, description = "By name.", body = Page<wire::App>))
)]
pub(super) async fn list_apps(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    mut query: Query,
) -> ApiResult<axum::Json<Page<wire::App>>> {
    caller.require_global(Scope::Read)?;
    let limit = query.limit();
    let after = query.cursor()?;
    query.finish()?;
    // One more than asked for tells whether there is a next page.
    let mut apps = state.store.config_cache().apps(after.as_deref(), limit + 1);
    let more = apps.len() > limit;
    apps.truncate(limit);
    let next_cursor = apps.last().filter(|_| more).map(|last| query.next_cursor(last.name.as_str()));
    Ok(axum::Json(Page { items: apps.iter().map(|app| shown(app)).collect(), next_cursor }))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;

    #[tokio::test]
    async fn pages_by_name() {
        let server = Server::start().await;
        for name in ["b", "a", "c"] {
            server.app(name).await;
        }
        let page = server.get("/api/v1/apps?limit=2").await.expect(200);
        assert_eq!((&page["items"][0]["name"], &page["items"][1]["name"]), (&"a".into(), &"b".into()));
        let cursor = page["next_cursor"].as_str().unwrap();
        let rest = server.get(&format!("/api/v1/apps?limit=9&cursor={cursor}")).await.expect(200);
        assert_eq!(rest["items"].as_array().unwrap().len(), 1);
        assert_eq!(rest.get("next_cursor"), None);
        assert_eq!(server.get("/api/v1/apps?cursor=x").await.refused(), (400, "invalid_cursor".into()));
        assert_eq!(server.get("/api/v1/apps?page=2").await.refused(), (400, "invalid_query".into()));
    }
}
