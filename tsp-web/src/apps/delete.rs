//! `DELETE /apps/{app}`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use tsp_api::ErrorCode;
use tsp_store::catalog::{DeleteResult, Scope};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::path::Path;
use crate::state::WebState;

/// Delete an app that has no configs, and its keys
#[utoipa::path(
    delete, path = "/apps/{app}", tag = "apps",
    params(("app" = String, Path)),
    responses(
        (status = 204, description = "Deleted."),
        (status = 409, description = "It has configs."),
    )
)]
pub(super) async fn delete_app(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    let app = lookup::app(&state, &caller, &name, &[Scope::Admin]).await?;
    match state.store.delete_app(app.id, &caller.actor(), state.now()).await? {
        DeleteResult::Deleted => {
            state.keys.forget_app(app.id);
            Ok(StatusCode::NO_CONTENT)
        }
        DeleteResult::InUse(configs) => Err(ApiError::new(
            ErrorCode::InUse,
            format!("app `{name}` still has {configs} configs; delete them first"),
        )),
        DeleteResult::NotFound | DeleteResult::VersionMismatch => Err(lookup::no_app(&name)),
    }
}
