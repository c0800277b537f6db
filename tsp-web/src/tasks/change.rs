//! What operators do to a task: asked of the store, and its refusals put into words.

use std::sync::Arc;

use axum::response::Response;
use tsp_api::ErrorCode;
use tsp_core::config::TaskConfig;
use tsp_core::task::{Status, Task};
use tsp_core::transition::{OutcomeDetail, Refusal};
use tsp_store::catalog::Scope;
use tsp_store::tasks::{Actor, CommandResult, Subject, TaskCommand};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::parking;
use crate::state::WebState;

use super::subject::{self, KeyPath};
use super::view;

/// A task after a change, or as it is because it was so already.
#[derive(Debug)]
pub(super) struct ChangedTask {
    pub(super) task: Task,
    pub(super) config: Arc<TaskConfig>,
    pub(super) outcome_detail: OutcomeDetail,
}

impl ChangedTask {
    pub(super) fn answer(&self) -> ApiResult<Response> {
        view::answer(&self.task, &self.config)
    }
}

/// Why not. With the row, so that a caller of this can answer otherwise.
#[derive(Debug)]
pub(super) enum ChangeFailure {
    Refused { task: Box<Task>, config: Arc<TaskConfig>, why: Refusal },
    Failed(ApiError),
}

impl From<ApiError> for ChangeFailure {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl From<ChangeFailure> for ApiError {
    fn from(not_done: ChangeFailure) -> Self {
        match not_done {
            ChangeFailure::Refused { task, why, .. } => refusal(&task, &why),
            ChangeFailure::Failed(error) => error,
        }
    }
}

/// Does `command` to the task `id`, for a caller with any one of `scopes`. The body that says what is asked
/// for is read only for one who has.
pub(super) async fn by_id(
    state: &WebState,
    caller: &Caller,
    id: &str,
    scopes: &[Scope],
    command: impl Future<Output = ApiResult<TaskCommand>> + Send,
) -> Result<ChangedTask, ChangeFailure> {
    let (task, config) = subject::find(state, caller, id, scopes).await?;
    apply(state, Subject::Id(task.id), Some(config), command.await?, &caller.actor()).await
}

/// Does `command` to the open task of a key, else to the latest that ended; as [`by_id`].
pub(super) async fn by_key(
    state: &WebState,
    caller: &Caller,
    path: &KeyPath,
    scopes: &[Scope],
    command: impl Future<Output = ApiResult<TaskCommand>> + Send,
) -> Result<ChangedTask, ChangeFailure> {
    let (subject, config) = subject::by_key(state, caller, path, scopes).await?;
    apply(state, subject, Some(config), command.await?, &caller.actor()).await
}

/// Does `command` and sends the fetcher a hint. Without `config` it is looked up from the row.
pub(super) async fn apply(
    state: &WebState,
    subject: Subject,
    config: Option<Arc<TaskConfig>>,
    command: TaskCommand,
    by: &Actor,
) -> Result<ChangedTask, ChangeFailure> {
    let missing = match &subject {
        Subject::Id(_) => subject::no_task,
        Subject::Key(..) => subject::no_task_of_key,
    };
    let config_of = |task: &Task| {
        config.clone().or_else(|| state.store.config_cache().config(task.config)).ok_or_else(missing)
    };
    let run = command == TaskCommand::Run;
    match state.store.change(subject, command, by, state.now()).await.map_err(ApiError::from)? {
        CommandResult::Done { task, outcome_detail } => {
            if run {
                parking::unpark(state, task.config).await;
            }
            if task.status == Status::Scheduled {
                state.hints.wake(task.config, task.id.shard(), task.due_at);
            }
            Ok(ChangedTask { config: config_of(&task)?, task: *task, outcome_detail })
        }
        // Asked twice, answered alike.
        CommandResult::Refused { task, why: Refusal::Unchanged } => {
            if run {
                parking::unpark(state, task.config).await;
            }
            Ok(ChangedTask { config: config_of(&task)?, task: *task, outcome_detail: OutcomeDetail::None })
        }
        CommandResult::Refused { task, why } => {
            Err(ChangeFailure::Refused { config: config_of(&task)?, task, why })
        }
        CommandResult::KeyInUse { holder } => {
            let detail = format!("the open task `{holder}` holds the key; cancel it, or wait for its end");
            Err(ApiError::new(ErrorCode::KeyInUse, detail).into())
        }
        CommandResult::ConfigDisabled => {
            let detail = "the config is disabled and takes no tasks; enable it first";
            Err(ApiError::new(ErrorCode::ConfigDisabled, detail).into())
        }
        CommandResult::NotFound => Err(missing().into()),
    }
}

/// 409 with the state and what is allowed in it; 403 for a token.
fn refusal(task: &Task, why: &Refusal) -> ApiError {
    if *why == Refusal::WrongToken {
        let detail = "the token is not that of the latest attempt, or the task was reset or replayed";
        return ApiError::new(ErrorCode::WrongToken, detail);
    }
    let state = task.status.as_str();
    let allowed: Vec<String> =
        task.status.actions().iter().map(|action| format!("`{}`", action.as_str())).collect();
    let allowed = allowed.join(", ");
    let detail = if *why == Refusal::AttemptClosed {
        format!("the task is `{state}` and its attempt is closed; allowed now: {allowed}")
    } else {
        format!("the task is `{state}`; allowed now: {allowed}")
    };
    ApiError::new(ErrorCode::InvalidTransition, detail)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tsp_core::Millis;
    use tsp_core::outcome::Outcome;
    use tsp_store::catalog::Scope;

    use super::super::testing::{NOW, Service, request};

    const KEYED: &str = "{\"config\":\"close-order\",\"key\":\"a/b ü\",\"delay\":\"1h\"}";
    const BY_KEY: &str = "/apps/trade/configs/close-order/keys/a%2Fb%20%C3%BC";

    #[tokio::test]
    async fn a_task_is_held_moved_and_run_by_id_and_by_key() {
        let service = Service::start().await;
        let id = service.submit(KEYED).await;
        service.woken();
        for base in [format!("/tasks/{id}"), BY_KEY.to_owned()] {
            assert_eq!(service.get(&base).await.json()["id"], id.as_str(), "{base}");
            let act = |action: &'static str, body: &'static str| {
                let path = format!("{base}/{action}");
                let service = &service;
                async move { service.post(&path, body).await }
            };
            assert_eq!(act("pause", "").await.json()["state"], "paused");
            assert_eq!(act("pause", "{}").await.json()["state"], "paused");
            assert!(service.woken().is_empty());
            assert_eq!(act("resume", "").await.json()["state"], "scheduled");
            assert_eq!(service.woken().len(), 1);
            let moved = act("postpone", "{\"delay\":\"5m\"}").await.json();
            assert_eq!(moved["due_at"], "2026-11-21T10:35:00.000Z");
            let at = NOW.plus(Millis::from_mins(5));
            assert_eq!(service.woken(), [(service.config("close-order"), at)]);
            let run = act("run", "").await.json();
            assert_eq!(run["due_at"], "2026-11-21T10:30:00.000Z");
            assert_eq!(service.woken(), [(service.config("close-order"), NOW)]);
        }
    }

    #[tokio::test]
    async fn what_is_not_allowed_names_the_state_and_what_is() {
        let service = Service::start().await;
        let id = service.submit("{\"config\":\"close-order\"}").await;
        let early = service.post(&format!("/tasks/{id}/replay"), "").await;
        assert_eq!(early.refused(), (409, "invalid_transition".to_owned()));
        let begun = service.begin(None).await;
        for action in ["pause", "resume", "run"] {
            let answer = service.post(&format!("/tasks/{id}/{action}"), "").await;
            assert_eq!(answer.refused(), (409, "invalid_transition".to_owned()), "{action}");
            assert_eq!(answer.json()["detail"], "the task is `executing`; allowed now: `cancel`");
        }
        service.finish(begun[0], 1, Outcome::Done).await;
        let late = service.post(&format!("/tasks/{id}/pause"), "").await;
        assert_eq!(late.json()["detail"], "the task is `ended`; allowed now: `replay`");
        let replayed = service.post(&format!("/tasks/{id}/replay"), "").await.json();
        assert_eq!((&replayed["state"], &replayed["id"]), (&"scheduled".into(), &id.as_str().into()));
    }

    #[tokio::test]
    async fn a_replay_waits_for_the_key() {
        let service = Service::start().await;
        let id = service.submit(KEYED).await;
        service.post(&format!("/tasks/{id}/cancel"), "").await;
        let holder = service.submit(KEYED).await;
        let answer = service.post(&format!("/tasks/{id}/replay"), "").await;
        assert_eq!(answer.refused(), (409, "key_in_use".to_owned()));
        assert!(answer.json()["detail"].as_str().unwrap().contains(&holder));
    }

    #[tokio::test]
    async fn bodies_are_read_strictly() {
        let service = Service::start().await;
        let id = service.submit("{\"config\":\"close-order\"}").await;
        for (action, body, code) in [
            ("pause", "{\"note\":\"x\"}", "unknown_field"),
            ("pause", "[]", "invalid_field"),
            ("postpone", "{}", "invalid_field"),
            ("postpone", "{\"delay\":null}", "invalid_field"),
            ("postpone", "{\"delay\":5}", "invalid_field"),
            ("postpone", "{\"delay\":\"1h\",\"execute_at\":\"2026-11-21T10:35:00Z\"}", "invalid_field"),
            ("postpone", "{\"execute_at\":\"2046-11-21T10:35:00Z\"}", "invalid_field"),
            ("postpone", "{", "invalid_json"),
        ] {
            let answer = service.post(&format!("/tasks/{id}/{action}"), body).await;
            assert_eq!(answer.refused(), (400, code.to_owned()), "{action} {body}");
        }
    }

    #[tokio::test]
    async fn rights() {
        let service = Service::start().await;
        let id = service.submit(KEYED).await;
        let foreign = service.key(Some(service.other), &[Scope::Admin]).await;
        let reader = service.key(Some(service.trade), &[Scope::Read]).await;
        let submitter = service.key(Some(service.trade), &[Scope::Submit]).await;
        let by_id = format!("/tasks/{id}");
        for (key, method, path, status) in [
            (&foreign, Method::GET, by_id.clone(), 404),
            (&foreign, Method::GET, BY_KEY.to_owned(), 404),
            (&foreign, Method::POST, format!("{by_id}/cancel"), 404),
            (&foreign, Method::POST, format!("{BY_KEY}/cancel"), 404),
            (&foreign, Method::GET, format!("{by_id}/attempts"), 404),
            (&reader, Method::GET, by_id.clone(), 200),
            (&reader, Method::POST, format!("{by_id}/pause"), 403),
            (&submitter, Method::GET, BY_KEY.to_owned(), 200),
            (&submitter, Method::POST, format!("{by_id}/pause"), 200),
            (&submitter, Method::POST, format!("{by_id}/replay"), 403),
            (&submitter, Method::POST, format!("{BY_KEY}/cancel"), 200),
        ] {
            let answer = service.send(request(method, &path, key, &[], "")).await;
            // An empty body needs no content type, but the helper sends one: it is `{}` then.
            assert_eq!(answer.status.as_u16(), status, "{key} {path} {:?}", answer.body);
        }
        for path in [
            "/tasks/1",
            "/tasks/x",
            "/tasks/01",
            "/apps/trade/configs/close-order/keys/none",
            "/apps/trade/configs/x/keys/k",
        ] {
            assert_eq!(service.get(path).await.refused(), (404, "not_found".to_owned()), "{path}");
        }
    }
}
