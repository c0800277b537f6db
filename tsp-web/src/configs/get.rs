//! `GET /apps/{app}/configs/{config}`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use tsp_api::config as wire;
use tsp_core::config::TaskConfig;
use tsp_store::catalog::{App, Scope};

use super::save::shown;
use super::wire::write_kind;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::lookup;
use crate::path::Path;
use crate::state::WebState;

/// Get a config
///
/// Of a public config of another app only its name, kind, description and owner are shown.
#[utoipa::path(
    get, path = "/apps/{app}/configs/{config}", tag = "configs",
    params(("app" = String, Path), ("config" = String, Path)),
    responses(
        (status = 200, description = "The config with all its fields.", body = wire::Config,
            headers(("ETag" = String, description = "Its version."))),
    )
)]
pub(super) async fn get_config(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path((app, config)): Path<(String, String)>,
) -> ApiResult {
    let public = || lookup::public_config(&state, &caller, &app, &config);
    if let Some((app, config)) = public() {
        return Ok(shown_to_others(&app, &config));
    }
    match lookup::config(&state, &caller, &app, &config, &[Scope::Read]).await {
        Ok((_, config)) => Ok(shown(&state, &config, state.now()).await),
        // Others may have made it just now, which that look-up has found out.
        Err(error) => public().map(|(app, config)| shown_to_others(&app, &config)).ok_or(error),
    }
}

fn shown_to_others(app: &App, config: &TaskConfig) -> Response {
    axum::Json(wire::PublicConfig {
        app: app.name.to_string(),
        name: config.spec.name.to_string(),
        kind: write_kind(config.spec.kind),
        description: config.spec.description.clone(),
        owner: config.spec.owner.clone(),
    })
    .into_response()
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{Server, delayed};

    #[tokio::test]
    async fn others_see_only_what_is_public() {
        let server = Server::start().await;
        server.app("trade").await;
        server.app("other").await;
        let key = server.key("other", &["read"]).await;
        let get = |path| server.call_as(&key, Method::GET, path, Value::Null);
        server.post("/api/v1/apps/trade/configs", delayed("c")).await.expect(201);
        let mut public = delayed("p");
        public["visibility"] = "public".into();
        server.post("/api/v1/apps/trade/configs", public).await.expect(201);
        assert_eq!(get("/api/v1/apps/trade/configs/c").await.refused(), (404, "not_found".into()));
        assert_eq!(
            get("/api/v1/apps/trade/configs/p").await.expect(200),
            json!({"app": "trade", "name": "p", "kind": "delayed", "description": "", "owner": ""})
        );
        let own = server.get("/api/v1/apps/trade/configs/p").await;
        assert_eq!(own.header("etag"), "\"1\"");
        assert_eq!(own.expect(200)["target"]["url"], "http://orders.internal/close");
        assert_eq!(server.get("/api/v1/apps/trade/configs/%FF").await.refused().0, 404);
    }
}
