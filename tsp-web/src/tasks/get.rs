//! `GET /tasks/{id}` and `GET …/keys/{key}`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use tsp_api::task::Task;
use tsp_store::catalog::Scope;
use tsp_store::tasks::Subject;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::path::Path;
use crate::state::WebState;

use super::subject::{self, KeyPath};
use super::view;

const SCOPES: [Scope; 2] = [Scope::Read, Scope::Submit];

/// One task, open or ended.
///
/// Also one that the caller's app has submitted to a public config of another app, without its payload.
#[utoipa::path(
    get, path = "/tasks/{id}", tag = "tasks", operation_id = "get_task",
    params(("id" = String, Path, description = "The task's id.")),
    responses((status = 200, description = "The task.", body = Task)),
)]
pub(crate) async fn by_id(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult {
    let (task, config, foreign) = subject::find_to_read(&state, &caller, &id, &SCOPES).await?;
    view::json(StatusCode::OK, &view::shown(&task, &config, !foreign))
}

/// The open task of a business key, else the latest that ended.
#[utoipa::path(
    get, path = "/apps/{app}/configs/{config}/keys/{key}", tag = "keys", operation_id = "get_key",
    params(
        ("app" = String, Path, description = "The app."),
        ("config" = String, Path, description = "The config."),
        ("key" = String, Path, description = "The business key, percent-encoded."),
    ),
    responses((status = 200, description = "The task.", body = Task)),
)]
pub(crate) async fn by_key(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(path): Path<KeyPath>,
) -> ApiResult {
    let (subject, config) = subject::by_key(&state, &caller, &path, &SCOPES).await?;
    let Subject::Key(id, key) = subject else {
        return Err(ApiError::internal("a key that became an id"));
    };
    let task = state.store.task_by_key(id, &key).await?.ok_or_else(subject::no_task_of_key)?;
    view::answer(&task, &config)
}
