//! `POST …/replay`: an ended task again.

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

/// Runs an ended task again, under the same id.
#[utoipa::path(
    post, path = "/tasks/{id}/replay", tag = "tasks", operation_id = "replay_task",
    params(("id" = String, Path, description = "The task's id.")),
    request_body = Option<NoFields>,
    responses(
        (status = 200, description = "The task as it is now.", body = Task),
        (status = 409, description = "Not ended, or another open task holds its key."),
    ),
)]
pub(crate) async fn by_id(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Unread,
) -> ApiResult {
    change::by_id(&state, &caller, &id, &[Scope::Manage], body.asks::<NoFields, _>(TaskCommand::Replay))
        .await?
        .answer()
}
