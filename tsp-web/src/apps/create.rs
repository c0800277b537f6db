//! `POST /apps`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use tsp_api::ErrorCode;
use tsp_api::app as wire;
use tsp_core::Name;
use tsp_store::catalog::{AppSaved, NewApp, Scope};
use tsp_store::idempotency::StoredAnswer;

use super::{read_description, read_owner, shown};
use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult};
use crate::idempotency::{IdempotencyKey, answer, stored, unwrap_idempotent};
use crate::state::WebState;

/// Create an app
#[utoipa::path(
    post, path = "/apps", tag = "apps",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat.")),
    request_body = wire::NewApp,
    responses(
        (status = 201, description = "Created.", body = wire::App, headers(("Location" = String, description = "Its path."))),
        (status = 409, description = "The name is taken, or the same request is being worked on."),
        (status = 422, description = "The idempotency key was used for another body."),
    )
)]
pub(super) async fn create_app(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    key: IdempotencyKey,
    body: UnreadBody,
) -> ApiResult {
    caller.require_global(Scope::Admin)?;
    let body = body.json::<wire::NewApp>().await?;
    let claim = key.claim(&state.in_flight, &caller, &body.raw)?;
    let mut errors = body.errors;
    let name = if let Some(name) = &body.value.name {
        Name::new(name).map_err(|error| errors.add("name", error.to_string())).ok()
    } else {
        errors.missing("name");
        None
    };
    let description = read_description(body.value.description, &mut errors);
    let owner = read_owner(body.value.owner, &mut errors);
    let Some(name) = name.filter(|_| errors.is_empty()) else { return Err(errors.into()) };

    let now = state.now();
    let idempotency = claim.as_ref().map(|claim| claim.request(now, stored_answer));
    let new = NewApp { name: name.clone(), description, owner };
    match unwrap_idempotent(state.store.create_app(new, idempotency, &caller.actor(), now).await?)? {
        Err(replayed) => Ok(replayed),
        Ok(saved) => match stored_answer(&saved) {
            Some(made) => Ok(answer(made)),
            None => Err(ApiError::new(ErrorCode::AlreadyExists, format!("app `{name}` exists"))),
        },
    }
}

/// What is sent, and kept under an idempotency key.
fn stored_answer(saved: &AppSaved) -> Option<StoredAnswer> {
    let AppSaved::Saved(app) = saved else { return None };
    Some(stored(StatusCode::CREATED, &shown(app), Some(format!("/api/v1/apps/{}", app.name))))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use crate::testing::{BOOTSTRAP, Server};

    #[tokio::test]
    async fn makes_an_app_once() {
        let server = Server::start().await;
        let body = json!({"name": "trade", "description": "Orders", "owner": null});
        let made = server.post("/api/v1/apps", body.clone()).await;
        assert_eq!(made.header("location"), "/api/v1/apps/trade");
        assert_eq!(
            made.expect(201),
            json!({"name": "trade", "description": "Orders", "owner": "",
                "created_at": "2026-11-21T10:30:00.000Z", "updated_at": "2026-11-21T10:30:00.000Z"})
        );
        assert_eq!(server.post("/api/v1/apps", body).await.refused(), (409, "already_exists".into()));
        let bad = server.post("/api/v1/apps", json!({"name": "Trade", "owner": 7, "x": 1})).await;
        assert_eq!(bad.refused(), (400, "unknown_field".into()));
        assert_eq!(bad.fields(), ["name", "owner", "x"]);
        assert_eq!(server.post("/api/v1/apps", json!({})).await.fields(), ["name"]);
    }

    #[tokio::test]
    async fn a_repeat_with_an_idempotency_key_gets_the_first_answer() {
        let server = Server::start().await;
        let auth = format!("Bearer {BOOTSTRAP}");
        let headers = [("authorization", auth.as_str()), ("idempotency-key", "k1")];
        let post = |body| server.call_with(Method::POST, "/api/v1/apps", &headers, body);
        let first = post(json!({"name": "trade", "owner": "ann"})).await;
        let second = post(json!({"owner": "ann", "name": "trade"})).await;
        assert_eq!((first.status, &first.body), (second.status, &second.body));
        assert_eq!(
            (first.header("idempotency-replayed"), second.header("idempotency-replayed")),
            ("", "true")
        );
        assert_eq!(second.header("location"), "/api/v1/apps/trade");
        assert_eq!(post(json!({"name": "other"})).await.refused(), (422, "idempotency_mismatch".into()));
    }

    #[tokio::test]
    async fn needs_a_global_key() {
        let server = Server::start().await;
        server.app("trade").await;
        let key = server.key("trade", &["admin"]).await;
        let answer = server.call_as(&key, Method::POST, "/api/v1/apps", json!({"name": "other"})).await;
        assert_eq!(answer.refused(), (403, "forbidden".into()));
    }
}
