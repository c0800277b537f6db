//! `GET /apps/{app}`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::app as wire;
use tsp_store::catalog::Scope;

use super::shown;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::lookup;
use crate::path::Path;
use crate::state::WebState;

/// Get an app
#[utoipa::path(
    get, path = "/apps/{app}", tag = "apps",
    params(("app" = String, Path)),
    responses((status = 200, description = "The app.", body = wire::App))
)]
pub(super) async fn get_app(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
) -> ApiResult<axum::Json<wire::App>> {
    let app = lookup::app(&state, &caller, &app, &[Scope::Read]).await?;
    Ok(axum::Json(shown(&app)))
}
