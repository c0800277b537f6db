//! `PATCH /apps/{app}`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::ErrorCode;
use tsp_api::app as wire;
use tsp_store::catalog::{AppEdit, AppSaved, Scope};

use super::{read_description, read_owner, shown};
use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult, Finish};
use crate::lookup;
use crate::path::Path;
use crate::state::WebState;

/// Change an app
///
/// An RFC 7396 merge: what is absent stays, null makes it empty.
#[utoipa::path(
    patch, path = "/apps/{app}", tag = "apps",
    params(("app" = String, Path)),
    request_body = wire::AppPatch,
    responses(
        (status = 200, description = "Changed.", body = wire::App),
        (status = 409, description = "`name` would change."),
    )
)]
pub(super) async fn patch_app(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(name): Path<String>,
    body: UnreadBody,
) -> ApiResult<axum::Json<wire::App>> {
    let app = lookup::app(&state, &caller, &name, &[Scope::Admin]).await?;
    let body = body.json::<wire::AppPatch>().await?;
    let mut errors = body.errors;
    let patch = body.value;
    let edit = AppEdit {
        description: patch.description.map(|given| read_description(given, &mut errors)),
        owner: patch.owner.map(|given| read_owner(given, &mut errors)),
    };
    errors.finish()?;
    if patch.name.is_some_and(|given| given != name) {
        return Err(ApiError::field(
            ErrorCode::Immutable,
            "name",
            "never changes; make a new app in its place",
        ));
    }
    match state.store.update_app(app.id, edit, &caller.actor(), state.now()).await? {
        AppSaved::Saved(app) => Ok(axum::Json(shown(&app))),
        AppSaved::AlreadyExists | AppSaved::NotFound => Err(lookup::no_app(&name)),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::Server;

    #[tokio::test]
    async fn absent_stays_and_null_empties() {
        let server = Server::start().await;
        server
            .post("/api/v1/apps", json!({"name": "trade", "description": "d", "owner": "o"}))
            .await
            .expect(201);
        let patch = |body| server.call(Method::PATCH, "/api/v1/apps/trade", body);
        let changed =
            patch(json!({"description": null, "created_at": "2020-01-01T00:00:00Z"})).await.expect(200);
        assert_eq!((&changed["description"], &changed["owner"]), (&"".into(), &"o".into()));
        assert_eq!(patch(json!({"name": "x"})).await.refused(), (409, "immutable".into()));
        let mut shown = server.get("/api/v1/apps/trade").await.expect(200);
        shown["owner"] = "p".into();
        assert_eq!(patch(shown).await.expect(200)["owner"], "p");
    }

    #[tokio::test]
    async fn delete_needs_an_empty_app() {
        let server = Server::start().await;
        server.app("trade").await;
        let key = server.key("trade", &["admin"]).await;
        server.post("/api/v1/apps/trade/configs", crate::testing::delayed("c")).await.expect(201);
        let delete = |path| server.call(Method::DELETE, path, Value::Null);
        assert_eq!(delete("/api/v1/apps/trade").await.refused(), (409, "in_use".into()));
        delete("/api/v1/apps/trade/configs/c").await.expect(204);
        delete("/api/v1/apps/trade").await.expect(204);
        assert_eq!(server.get("/api/v1/apps/trade").await.refused(), (404, "not_found".into()));
        let gone = server.call_as(&key, Method::GET, "/api/v1/apps/trade", Value::Null).await;
        assert_eq!(gone.refused(), (401, "unauthenticated".into()));
    }
}
