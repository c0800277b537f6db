//! `POST …/cancel`: an honest answer in every state.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tsp_api::task::change::{CancelAnswer, CancelOutcome, NoFields};
use tsp_api::task::json::TaskJson;
use tsp_core::transition::{OutcomeDetail, Refused};
use tsp_store::catalog::Scope;
use tsp_store::tasks::TaskCommand;

use crate::auth::Caller;
use crate::body::Unread;
use crate::error::ApiResult;
use crate::path::Path;
use crate::state::WebState;

use super::change::{self, Done, NotDone};
use super::subject::KeyPath;
use super::view;

/// [`CancelAnswer`], borrowed.
#[derive(Serialize)]
struct Document<'a> {
    outcome: &'static str,
    task: TaskJson<'a>,
}

/// Cancels a task. Says whether that came in time; never a guess.
#[utoipa::path(
    post, path = "/tasks/{id}/cancel", tag = "tasks", operation_id = "cancel_task",
    params(("id" = String, Path, description = "The task's id.")),
    request_body = Option<NoFields>,
    responses(
        (status = 200, description = "See `outcome`.", body = CancelAnswer),
        (status = 409, description = "Not in this state; the detail names it and what is allowed."),
    ),
)]
pub(crate) async fn by_id(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Unread,
) -> ApiResult {
    answer(
        change::by_id(&state, &caller, &id, &[Scope::Submit], body.asks::<NoFields, _>(TaskCommand::Cancel))
            .await,
    )
}

/// Cancels the open task of a business key; `already_ended` shows the latest that ended.
#[utoipa::path(
    post, path = "/apps/{app}/configs/{config}/keys/{key}/cancel", tag = "keys", operation_id = "cancel_key",
    params(
        ("app" = String, Path, description = "The app."),
        ("config" = String, Path, description = "The config."),
        ("key" = String, Path, description = "The business key, percent-encoded."),
    ),
    request_body = Option<NoFields>,
    responses(
        (status = 200, description = "See `outcome`.", body = CancelAnswer),
        (status = 409, description = "Not in this state; the detail names it and what is allowed."),
    ),
)]
pub(crate) async fn by_key(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(path): Path<KeyPath>,
    body: Unread,
) -> ApiResult {
    answer(
        change::by_key(
            &state,
            &caller,
            &path,
            &[Scope::Submit],
            body.asks::<NoFields, _>(TaskCommand::Cancel),
        )
        .await,
    )
}

fn answer(done: Result<Done, NotDone>) -> ApiResult {
    let (outcome, task, config) = match done {
        Ok(Done { task, config, outcome_detail: OutcomeDetail::TooLate }) => {
            (CancelOutcome::TooLate, task, config)
        }
        Ok(Done { task, config, .. }) => (CancelOutcome::Cancelled, task, config),
        Err(NotDone::Refused { task, config, why: Refused::AlreadyEnded }) => {
            (CancelOutcome::AlreadyEnded, *task, config)
        }
        Err(error) => return Err(error.into()),
    };
    let document = Document { outcome: outcome.as_str(), task: view::shown(&task, &config, true) };
    view::json(StatusCode::OK, &document)
}

#[cfg(test)]
mod tests {
    use tsp_core::outcome::Outcome;

    use super::super::testing::Service;

    #[tokio::test]
    async fn the_answer_is_honest() {
        let service = Service::start().await;
        let waiting = service.submit("{\"config\":\"close-order\",\"key\":\"k\",\"delay\":\"1h\"}").await;
        let path = format!("/tasks/{waiting}/cancel");
        let first = service.post(&path, "").await.json();
        assert_eq!((&first["outcome"], &first["task"]["result"]), (&"cancelled".into(), &"cancelled".into()));
        assert_eq!(service.post(&path, "").await.json()["outcome"], "already_ended");
        let by_key = service.post("/apps/trade/configs/close-order/keys/k/cancel", "{}").await.json();
        assert_eq!(
            (&by_key["outcome"], &by_key["task"]["id"]),
            (&"already_ended".into(), &waiting.as_str().into())
        );

        let running = service.submit("{\"config\":\"close-order\"}").await;
        let begun = service.begin(None).await;
        let late = service.post(&format!("/tasks/{running}/cancel"), "").await.json();
        assert_eq!((&late["outcome"], &late["task"]["state"]), (&"too_late".into(), &"executing".into()));
        service.finish(begun[0], 1, Outcome::Done).await;
        let task = service.get(&format!("/tasks/{running}")).await.json();
        assert_eq!(task["result"], "succeeded");
    }
}
