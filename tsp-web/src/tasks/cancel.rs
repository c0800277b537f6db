//! `POST …/cancel`: an honest answer in every state.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use tsp_api::task::change::{CancelAnswer, CancelOutcome, NoFields};
use tsp_api::task::json::TaskJson;
use tsp_core::transition::{OutcomeDetail, Refusal};
use tsp_store::catalog::Scope;
use tsp_store::tasks::TaskCommand;

use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::ApiResult;
use crate::path::Path;
use crate::state::WebState;

use super::change::{self, ChangeFailure, ChangedTask};
use super::operations::operation;
use super::subject::KeyPath;
use super::view;

/// [`CancelAnswer`], borrowed.
#[derive(Serialize)]
struct Document<'a> {
    outcome: &'static str,
    task: TaskJson<'a>,
}

operation! {
    Submit, [Option<NoFields>] => CancelAnswer,
    "See `outcome`.", "Not in this state; the detail names it and what is allowed.",
    |body, state| body.asks::<NoFields, _>(TaskCommand::Cancel), |done| answer(done);
    /// Cancels a task. Says whether that came in time; never a guess.
    cancel_task "/tasks/{id}/cancel";
    /// Cancels the open task of a business key; `already_ended` shows the latest that ended.
    cancel_key "/apps/{app}/configs/{config}/keys/{key}/cancel"
}

fn answer(done: Result<ChangedTask, ChangeFailure>) -> ApiResult {
    let (outcome, task, config) = match done {
        Ok(ChangedTask { task, config, outcome_detail: OutcomeDetail::TooLate }) => {
            (CancelOutcome::TooLate, task, config)
        }
        Ok(ChangedTask { task, config, .. }) => (CancelOutcome::Cancelled, task, config),
        Err(ChangeFailure::Refused { task, config, why: Refusal::AlreadyEnded }) => {
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
