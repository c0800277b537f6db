//! `GET /tasks/{id}/attempts`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tsp_api::task::AttemptList;
use tsp_api::task::json::AttemptJson;
use tsp_store::catalog::Scope;

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::path::Path;
use crate::state::WebState;

use super::{subject, view};

/// [`AttemptList`], borrowed.
#[derive(Serialize)]
struct Document<'a> {
    items: Vec<AttemptJson<'a>>,
}

/// The closed attempts of a task, oldest first.
#[utoipa::path(
    get, path = "/tasks/{id}/attempts", tag = "tasks", operation_id = "list_attempts",
    params(("id" = String, Path, description = "The task's id.")),
    responses((status = 200, description = "The attempts.", body = AttemptList)),
)]
pub(crate) async fn by_id(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult {
    let (task, _) = subject::find(&state, &caller, &id, &[Scope::Read]).await?;
    let records = state.store.attempts(task.id).await?;
    view::json(StatusCode::OK, &Document { items: records.iter().map(AttemptJson).collect() })
}
