//! What only a development server has: its clock, and a receiver of callbacks (API.md section 6).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tsp_api::service::{AdvanceClock, AdvancedClock};
use tsp_api::{ErrorCode, Time};
use tsp_core::Millis;
use tsp_store::catalog::Scope;

use crate::auth::Caller;
use crate::body::{Json, read_all};
use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

/// How many callbacks the inbox keeps.
const INBOX_MAX: usize = 100;
const INBOX_BODY_BYTES_MAX: usize = 1024 * 1024;
const ADVANCE_MAX: Millis = Millis::from_days(3_650);
/// The header that every callback has.
const TASK_ID: &str = "tsp-task-id";

pub(super) fn routes() -> Router<Arc<WebState>> {
    Router::new()
        .route("/api/v1/dev/clock", post(advance_clock))
        .route("/dev/inbox", any(inbox))
        .route("/dev/inbox/{*rest}", any(inbox))
}

/// The last callbacks, newest first.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<VecDeque<Callback>>);

/// One callback as it came.
#[derive(Debug, Clone, Serialize)]
struct Callback {
    at: Time,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    /// As JSON if it is, else as text; null when empty.
    body: Value,
}

impl Inbox {
    fn add(&self, callback: Callback) {
        let mut kept = self.0.lock();
        kept.truncate(INBOX_MAX - 1);
        kept.push_front(callback);
    }
}

async fn advance_clock(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    body: Json<AdvanceClock>,
) -> ApiResult<axum::Json<AdvancedClock>> {
    caller.require_global(Scope::Admin)?;
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
    let body = read_all(body, INBOX_BODY_BYTES_MAX).await?;
    let text = || String::from_utf8_lossy(&body).into_owned();
    let body = match serde_json::from_slice(&body) {
        Ok(json) => json,
        Err(_) if body.is_empty() => Value::Null,
        Err(_) => Value::String(text()),
    };
    let shown = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    state.inbox.add(Callback {
        at: state.now().into(),
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), shown(value))).collect(),
        body,
    });
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn show(state: &Arc<WebState>, parts: &mut Parts) -> ApiResult<Response> {
    use axum::extract::FromRequestParts as _;
    let caller = Caller::from_request_parts(parts, state).await?;
    if !caller.is_global_admin() {
        return Err(ApiError::new(ErrorCode::Forbidden, "the inbox needs a global admin key"));
    }
    let items: Vec<Callback> = state.inbox.0.lock().iter().cloned().collect();
    Ok(axum::Json(serde_json::json!({ "items": items })).into_response())
}
