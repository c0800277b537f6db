//! What only a development server has: its clock, and a receiver of callbacks (API.md section 6).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest as _, FromRequestParts as _, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use tsp_api::ErrorCode;
use tsp_api::service::{AdvanceClock, AdvancedClock};
use tsp_core::Millis;
use tsp_store::catalog::Scope;

use super::inbox::CALLBACK_BYTES_MAX;
use crate::auth::{Caller, loopback};
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

const ADVANCE_MAX: Millis = Millis::from_days(3_650);
/// The header that every callback has.
const TASK_ID: &str = "tsp-task-id";

pub(super) fn routes() -> Router<Arc<WebState>> {
    Router::new()
        .route("/api/v1/dev/clock", post(advance_clock))
        .route("/dev/inbox", any(inbox))
        .route("/dev/inbox/{*rest}", any(inbox))
}

async fn advance_clock(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    body: UnreadBody,
) -> ApiResult<axum::Json<AdvancedClock>> {
    caller.require_global(Scope::Admin)?;
    let body = body.json::<AdvanceClock>().await?;
    let mut errors = body.errors;
    let by = match body.value.advance {
        Some(by) if !by.0.is_positive() || by.0 > ADVANCE_MAX => {
            errors.add("advance", "must be `1ms` to `3650d`; the clock never goes back");
            None
        }
        Some(by) => Some(by.0),
        None => {
            errors.missing("advance");
            None
        }
    };
    let (Some(by), true) = (by, errors.is_empty()) else { return Err(errors.into()) };
    let dev =
        state.dev.as_ref().ok_or_else(|| ApiError::internal("a development route without its hooks"))?;
    let advanced = dev.advance_clock(by).await;
    Ok(axum::Json(AdvancedClock { now: advanced.now.into(), fired: advanced.fired }))
}

/// A callback is kept and answered with 204; a plain GET shows what was kept.
async fn inbox(State(state): State<Arc<WebState>>, request: Request<Body>) -> ApiResult {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::GET && !parts.headers.contains_key(TASK_ID) {
        return show(&state, &mut parts).await;
    }
    // Not who calls back, but whether a page in a browser plays it.
    loopback::check(&parts)?;
    let request = Request::from_parts(parts.clone(), body);
    let Ok(body) = UnreadBody::from_request(request, &state).await;
    let body = body.at_most(CALLBACK_BYTES_MAX).bytes().await?;
    state.inbox.add(&parts, &body, state.now());
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn show(state: &Arc<WebState>, parts: &mut Parts) -> ApiResult<Response> {
    let caller = Caller::from_request_parts(parts, state).await?;
    if !caller.is_global_admin() {
        return Err(ApiError::new(ErrorCode::Forbidden, "the inbox needs a global admin key"));
    }
    Ok(axum::Json(serde_json::json!({ "items": state.inbox.shown() })).into_response())
}
