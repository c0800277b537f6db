//! `DELETE /apps/{app}/keys/{id}`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use tsp_api::id::parse_id;
use tsp_core::KeyId;
use tsp_store::catalog::{DeleteResult, Scope};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::path::Path;
use crate::state::WebState;

/// Delete an API key
///
/// It stops at once on this node, and within five seconds on others.
#[utoipa::path(
    delete, path = "/apps/{app}/keys/{id}", tag = "keys",
    params(("app" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "Deleted."))
)]
pub(super) async fn delete_key(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path((app, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let app = lookup::app(&state, &caller, &app, &[Scope::Admin]).await?;
    let no_key = || ApiError::not_found("this key");
    let id = parse_id(&id).map(KeyId::new).ok_or_else(no_key)?;
    match state.store.delete_key(Some(app.id), id, &caller.actor(), state.now()).await? {
        DeleteResult::Deleted => {
            state.keys.forget(id);
            Ok(StatusCode::NO_CONTENT)
        }
        _ => Err(no_key()),
    }
}
