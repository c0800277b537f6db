//! `POST /tasks/{id}/progress`: how far the receiver of an awaiting task is. The token is the only credential.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::task::Task;
use tsp_api::task::change::ProgressBody;
use tsp_core::task::TokenHash;
use tsp_core::transition::ProgressReport;
use tsp_store::tasks::TaskCommand;

use crate::body::{Json, UnreadBody};
use crate::error::{ApiResult, Finish};
use crate::path::Path;
use crate::state::WebState;

use super::complete::{BODY_BYTES_MAX, by_token, check_message, hash};

/// Reports progress of an accepted callback; `extend` moves its deadline.
#[utoipa::path(
    post, path = "/tasks/{id}/progress", tag = "tasks", operation_id = "report_progress", security(()),
    params(("id" = String, Path, description = "The task's id.")),
    request_body = ProgressBody,
    responses(
        (status = 200, description = "The task as it is now, without its payload.", body = Task),
        (status = 403, description = "The token is wrong or old."),
        (status = 409, description = "The task does not wait for its callee."),
    ),
)]
pub(crate) async fn by_id(
    State(state): State<Arc<WebState>>,
    Path(id): Path<String>,
    body: UnreadBody,
) -> ApiResult {
    let (token, report) = read(body.at_most(BODY_BYTES_MAX).json().await?)?;
    by_token(&state, &id, TaskCommand::Progress { token, report }).await
}

fn read(body: Json<ProgressBody>) -> ApiResult<(TokenHash, ProgressReport)> {
    let Json { value, mut errors, .. } = body;
    let ProgressBody { token, percent, message, extend } = value;
    check_message(message.as_ref(), &mut errors);
    if percent.is_some_and(|percent| percent > 100) {
        errors.add("percent", "must be a whole number from 0 to 100");
    }
    if extend.is_some_and(|extend| !extend.0.is_positive()) {
        errors.add("extend", "must be longer than zero, for example `10m`");
    }
    errors.finish()?;
    Ok((hash(&token), ProgressReport { percent, message, extend: extend.map(|extend| extend.0) }))
}
