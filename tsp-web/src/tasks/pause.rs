//! `POST …/pause`: holds a task.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::task::Task;
use tsp_api::task::change::NoFields;
use tsp_store::catalog::Scope;
use tsp_store::tasks::TaskCommand;

use crate::auth::Caller;
use crate::body::Unread;
use crate::error::ApiResult;
use crate::path::Path;
use crate::state::WebState;

use super::change;
use super::subject::KeyPath;

/// Holds a task that waits; it keeps what is left of it.
#[utoipa::path(
    post, path = "/tasks/{id}/pause", tag = "tasks", operation_id = "pause_task",
    params(("id" = String, Path, description = "The task's id.")),
    request_body = Option<NoFields>,
    responses(
        (status = 200, description = "The task as it is now.", body = Task),
        (status = 409, description = "Not in this state; the detail names it and what is allowed."),
    ),
)]
pub(crate) async fn by_id(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Unread,
) -> ApiResult {
    change::by_id(&state, &caller, &id, &[Scope::Submit], body.asks::<NoFields, _>(TaskCommand::Pause))
        .await?
        .answer()
}

/// Holds a task that waits; it keeps what is left of it. By business key: the open task, else 409.
#[utoipa::path(
    post, path = "/apps/{app}/configs/{config}/keys/{key}/pause", tag = "keys",
    operation_id = "pause_key",
    params(
        ("app" = String, Path, description = "The app."),
        ("config" = String, Path, description = "The config."),
        ("key" = String, Path, description = "The business key, percent-encoded."),
    ),
    request_body = Option<NoFields>,
    responses(
        (status = 200, description = "The task as it is now.", body = Task),
        (status = 409, description = "Not in this state; the detail names it and what is allowed."),
    ),
)]
pub(crate) async fn by_key(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(path): Path<KeyPath>,
    body: Unread,
) -> ApiResult {
    change::by_key(&state, &caller, &path, &[Scope::Submit], body.asks::<NoFields, _>(TaskCommand::Pause))
        .await?
        .answer()
}
