//! `POST /tasks/{id}/complete`: the callee ends what it answered with 202. The token is the only credential.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use sha2::{Digest, Sha256};
use tsp_api::Errors;
use tsp_api::task::Task;
use tsp_api::task::change::{CompleteBody, CompletionResult, MESSAGE_CHARS_MAX};
use tsp_api::task::submit::AHEAD_DAYS_MAX;
use tsp_core::task::TokenHash;
use tsp_core::transition::Completion;
use tsp_core::{Millis, TaskId};
use tsp_store::tasks::{Actor, Subject, Wish};

use crate::body::Json;
use crate::error::{ApiResult, Finish};
use crate::path::Path;
use crate::state::WebState;

use super::{change, subject, view};

/// Completes an accepted callback. The same result again is answered alike.
#[utoipa::path(
    post, path = "/tasks/{id}/complete", tag = "tasks", operation_id = "complete_task", security(()),
    params(("id" = String, Path, description = "The task's id.")),
    request_body = CompleteBody,
    responses(
        (status = 200, description = "The task as it is now, without its payload.", body = Task),
        (status = 403, description = "The token is wrong or old."),
        (status = 409, description = "It was completed with another result, or its attempt is closed."),
    ),
)]
pub(crate) async fn by_id(
    State(state): State<Arc<WebState>>,
    Path(id): Path<String>,
    body: Json<CompleteBody>,
) -> ApiResult {
    let (token, completion) = read(body)?;
    let wish = Wish::Complete { token, completion, unit: state.entropy.unit() };
    by_token(&state, &id, wish).await
}

/// Does what a callee wishes. Its token says which attempt it is; the store compares the hashes.
pub(super) async fn by_token(state: &WebState, id: &str, wish: Wish) -> ApiResult {
    let id: TaskId = id.parse().map_err(|_| subject::no_task())?;
    let done = change::apply(state, Subject::Id(id), None, wish, &Actor("callee".to_owned())).await?;
    // The callee has the payload of its own attempt; a reset's is not meant for it yet.
    view::json(StatusCode::OK, &view::shown(&done.task, &done.config, false))
}

/// Tokens are random, so comparing their hashes tells nothing about them by its time.
pub(super) fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

pub(super) fn check_message(message: Option<&String>, errors: &mut Errors) {
    if message.is_some_and(|message| message.chars().count() > MESSAGE_CHARS_MAX) {
        errors.add("message", format!("must be at most {MESSAGE_CHARS_MAX} characters"));
    }
}

fn read(body: Json<CompleteBody>) -> ApiResult<(TokenHash, Completion)> {
    let Json { value, mut errors, .. } = body;
    let CompleteBody { token, result, after, message } = value;
    check_message(message.as_ref(), &mut errors);
    if after.is_some() && result != CompletionResult::Retry {
        errors.add("after", "belongs to `result: retry`; leave it out");
    }
    if after.is_some_and(|after| after.0 > Millis::from_days(AHEAD_DAYS_MAX)) {
        errors.add("after", "is more than ten years; give a shorter time");
    }
    errors.finish()?;
    let completion = match result {
        CompletionResult::Done => Completion::Done { message },
        CompletionResult::Retry => Completion::Retry { after: after.map(|after| after.0), message },
        CompletionResult::Fail => Completion::Fail { message },
    };
    Ok((hash(&token), completion))
}
