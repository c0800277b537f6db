//! `GET /healthz`, `GET /readyz`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::service::ServiceStatus;

use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

/// How soon a process that is not ready should be asked again, in seconds.
const RETRY_AFTER_S: u64 = 1;

/// Whether the process is alive
#[utoipa::path(
    get, path = "/healthz", tag = "service", security(()),
    responses((status = 200, description = "It is.", body = ServiceStatus))
)]
pub(super) async fn healthz() -> axum::Json<ServiceStatus> {
    axum::Json(ServiceStatus { status: "ok".to_owned() })
}

/// Whether the process may take traffic
#[utoipa::path(
    get, path = "/readyz", tag = "service", security(()),
    responses((status = 200, description = "It may.", body = ServiceStatus))
)]
pub(super) async fn readyz(State(state): State<Arc<WebState>>) -> ApiResult<axum::Json<ServiceStatus>> {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        return Ok(axum::Json(ServiceStatus { status: "ready".to_owned() }));
    }
    Err(ApiError::unavailable(format!("not ready: {}", missing.join(", ")), RETRY_AFTER_S).quiet())
}
