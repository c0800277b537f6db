//! `POST …/postpone`: a new time, also an earlier one.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use tsp_api::task::Task;
use tsp_api::task::change::PostponeBody;
use tsp_core::Timestamp;
use tsp_store::catalog::Scope;
use tsp_store::tasks::TaskCommand;

use crate::auth::Caller;
use crate::body::{Json, Unread};
use crate::error::{ApiResult, Finish};
use crate::path::Path;
use crate::state::WebState;

use super::change;
use super::subject::KeyPath;
use super::submit::choose_time;

/// Gives a waiting or held task a new time, also an earlier one.
#[utoipa::path(
    post, path = "/tasks/{id}/postpone", tag = "tasks", operation_id = "postpone_task",
    params(("id" = String, Path, description = "The task's id.")),
    request_body = PostponeBody,
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
    let command = read(body, state.now());
    change::by_id(&state, &caller, &id, &[Scope::Submit], command).await?.answer()
}

/// Gives the open task of a business key a new time.
#[utoipa::path(
    post, path = "/apps/{app}/configs/{config}/keys/{key}/postpone", tag = "keys",
    operation_id = "postpone_key",
    params(
        ("app" = String, Path, description = "The app."),
        ("config" = String, Path, description = "The config."),
        ("key" = String, Path, description = "The business key, percent-encoded."),
    ),
    request_body = PostponeBody,
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
    let command = read(body, state.now());
    change::by_key(&state, &caller, &path, &[Scope::Submit], command).await?.answer()
}

async fn read(body: Unread, now: Timestamp) -> ApiResult<TaskCommand> {
    let Json { value, mut errors, .. } = body.json::<PostponeBody>().await?;
    let nothing_wrong = errors.is_empty();
    let at = choose_time(value.execute_at.map(Cow::Owned), value.delay.map(Cow::Owned), now, &mut errors);
    if at.is_none() && nothing_wrong && errors.is_empty() {
        errors.add("execute_at", "is missing; give `execute_at` or `delay`");
    }
    errors.finish()?;
    // Without an error there is a time.
    Ok(TaskCommand::Postpone { execute_at: at.unwrap_or(now) })
}
