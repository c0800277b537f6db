//! `GET /metrics`.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::response::IntoResponse;
use http::header;
use tsp_store::catalog::Scope;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

/// The Prometheus text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Figures for Prometheus
///
/// Needs a global key with `read`, unless the setting `web.metrics_open` is on.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses(
        (status = 200, description = "The Prometheus text format.", body = String, content_type = "text/plain"),
        (status = 404, description = "This process records none."),
    )
)]
pub(super) async fn metrics(State(state): State<Arc<WebState>>, request: Request) -> ApiResult {
    // To a development server every page in a browser can speak, so that who asks is looked at there, too.
    if !state.settings.metrics_open || state.dev.is_some() {
        let (mut parts, _) = request.into_parts();
        Caller::from_request_parts(&mut parts, &state).await?.require_global(Scope::Read)?;
    }
    let handle = state.metrics.as_ref().ok_or_else(|| ApiError::not_found("a recorder of metrics"))?;
    Ok(([(header::CONTENT_TYPE, TEXT)], handle.render()).into_response())
}
