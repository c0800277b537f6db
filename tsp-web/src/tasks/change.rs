//! What people do to a task: asked of the store, and its refusals put into words.

use std::sync::Arc;

use axum::response::Response;
use tsp_api::ErrorCode;
use tsp_core::config::TaskConfig;
use tsp_core::task::{Status, Task};
use tsp_core::transition::{Note, Refused};
use tsp_store::catalog::Scope;
use tsp_store::tasks::{Actor, Changed, Subject, Wish};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

use super::subject::{self, KeyPath};
use super::view;

/// A task after a change, or as it is because it was so already.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) task: Task,
    pub(super) config: Arc<TaskConfig>,
    pub(super) note: Note,
}

impl Done {
    pub(super) fn answer(&self) -> ApiResult<Response> {
        view::answer(&self.task, &self.config)
    }
}

/// Why not. With the row, so that a caller of this can answer otherwise.
#[derive(Debug)]
pub(super) enum NotDone {
    Refused { task: Box<Task>, config: Arc<TaskConfig>, why: Refused },
    Failed(ApiError),
}

impl From<ApiError> for NotDone {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl From<NotDone> for ApiError {
    fn from(not_done: NotDone) -> Self {
        match not_done {
            NotDone::Refused { task, why, .. } => refusal(&task, &why),
            NotDone::Failed(error) => error,
        }
    }
}

/// Does `wish` to the task `id`, for a caller with any one of `scopes`.
pub(super) async fn by_id(
    state: &WebState,
    caller: &Caller,
    id: &str,
    scopes: &[Scope],
    wish: Wish,
) -> Result<Done, NotDone> {
    let (task, config) = subject::find(state, caller, id, scopes).await?;
    apply(state, Subject::Id(task.id), Some(config), wish, &caller.actor()).await
}

/// Does `wish` to the open task of a key, else to the latest that ended.
pub(super) async fn by_key(
    state: &WebState,
    caller: &Caller,
    path: &KeyPath,
    scopes: &[Scope],
    wish: Wish,
) -> Result<Done, NotDone> {
    let (subject, config) = subject::by_key(state, caller, path, scopes)?;
    apply(state, subject, Some(config), wish, &caller.actor()).await
}

/// Does `wish` and tells the fetcher. Without `config` it is looked up from the row.
pub(super) async fn apply(
    state: &WebState,
    subject: Subject,
    config: Option<Arc<TaskConfig>>,
    wish: Wish,
    by: &Actor,
) -> Result<Done, NotDone> {
    let missing = match &subject {
        Subject::Id(_) => subject::no_task,
        Subject::Key(..) => subject::no_task_of_key,
    };
    let config_of =
        |task: &Task| config.clone().or_else(|| state.store.book().config(task.config)).ok_or_else(missing);
    match state.store.change(subject, wish, by, state.now()).await.map_err(ApiError::from)? {
        Changed::Done { task, note } => {
            if task.status == Status::Scheduled {
                state.hints.wake(task.config, task.due_at);
            }
            Ok(Done { config: config_of(&task)?, task: *task, note })
        }
        // Asked twice, answered alike.
        Changed::Refused { task, why: Refused::Unchanged } => {
            Ok(Done { config: config_of(&task)?, task: *task, note: Note::None })
        }
        Changed::Refused { task, why } => Err(NotDone::Refused { config: config_of(&task)?, task, why }),
        Changed::KeyInUse { holder } => {
            let detail = format!("the open task `{holder}` holds the key; cancel it, or wait for its end");
            Err(ApiError::new(ErrorCode::KeyInUse, detail).into())
        }
        Changed::NotFound => Err(missing().into()),
    }
}

/// 409 with the state and what is allowed in it; 403 for a token.
fn refusal(task: &Task, why: &Refused) -> ApiError {
    if *why == Refused::WrongToken {
        let detail = "the token is not that of the latest attempt, or the task was reset or replayed";
        return ApiError::new(ErrorCode::WrongToken, detail);
    }
    let state = task.status.as_str();
    let allowed: Vec<String> =
        task.status.actions().iter().map(|action| format!("`{}`", action.as_str())).collect();
    let allowed = allowed.join(", ");
    let detail = if *why == Refused::AttemptClosed {
        format!("the task is `{state}` and its attempt is closed; allowed now: {allowed}")
    } else {
        format!("the task is `{state}`; allowed now: {allowed}")
    };
    ApiError::new(ErrorCode::InvalidTransition, detail)
}
