//! `POST /tasks/{id}/complete`: the receiver ends what it answered with 202. The token is the only credential.

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
use tsp_store::tasks::{Actor, Subject, TaskCommand};

use crate::body::{Json, UnreadBody};
use crate::error::{ApiResult, Finish};
use crate::path::Path;
use crate::state::WebState;

use super::{change, subject, view};

/// Nobody knows who sends it before the token has been read.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024;

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
    body: UnreadBody,
) -> ApiResult {
    let (token, completion) = read(body.at_most(BODY_BYTES_MAX).json().await?)?;
    let command =
        TaskCommand::Complete { token, completion, jitter_fraction: state.entropy.jitter_fraction() };
    by_token(&state, &id, command).await
}

/// Does what a receiver asks for. Its token says which attempt it is; the store compares the hashes.
pub(super) async fn by_token(state: &WebState, id: &str, command: TaskCommand) -> ApiResult {
    let id: TaskId = id.parse().map_err(|_| subject::no_task())?;
    let done = change::apply(state, Subject::Id(id), None, command, &Actor("callee".to_owned())).await?;
    // The receiver has the payload of its own attempt; a reset's is not meant for it yet.
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

#[cfg(test)]
mod tests {
    use http::Method;
    use tsp_core::Millis;
    use tsp_core::outcome::Outcome;

    use super::super::testing::{Answer, Service, request};
    use super::*;

    async fn send(service: &Service, id: &str, action: &str, body: &str) -> Answer {
        let path = format!("/tasks/{id}/{action}");
        service.send(request(Method::POST, &path, "", &[], body.to_owned())).await
    }

    /// A task that waits for its receiver, whose token is `good`.
    async fn awaiting(service: &Service) -> String {
        let id = service.submit("{\"config\":\"slow\",\"payload\":{\"a\":1}}").await;
        let begun = service.begin(Some(hash("good"))).await;
        service.finish(begun[0], 1, Outcome::Accepted).await;
        id
    }

    #[tokio::test]
    async fn the_token_alone_completes_and_the_same_again_is_answered_alike() {
        let service = Service::start().await;
        let id = awaiting(&service).await;
        let wrong = send(&service, &id, "complete", "{\"token\":\"bad\",\"result\":\"done\"}").await;
        assert_eq!(wrong.refused(), (403, "wrong_token".to_owned()));
        let done = "{\"token\":\"good\",\"result\":\"done\",\"message\":\"all well\"}";
        for _ in 0..2 {
            let answer = send(&service, &id, "complete", done).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["result"]), (200, &"succeeded".into()));
            assert!(answer.json().get("payload").is_none());
        }
        let other = send(&service, &id, "complete", "{\"token\":\"good\",\"result\":\"fail\"}").await;
        assert_eq!(other.refused(), (409, "invalid_transition".to_owned()));
        let attempts = service.get(&format!("/tasks/{id}/attempts")).await.json();
        assert_eq!(attempts["items"][0]["response_excerpt"], "all well");
        assert_eq!(attempts["items"][0]["outcome"], "done");
        let unknown = send(&service, "12345", "complete", done).await;
        assert_eq!(unknown.refused(), (404, "not_found".to_owned()));
    }

    #[tokio::test]
    async fn a_retry_comes_when_it_was_asked_for_and_voids_nothing_else() {
        let service = Service::start().await;
        let id = awaiting(&service).await;
        service.woken();
        let retry = "{\"token\":\"good\",\"result\":\"retry\",\"after\":\"30s\"}";
        let answer = send(&service, &id, "complete", retry).await.json();
        assert_eq!(
            (&answer["state"], &answer["due_at"]),
            (&"scheduled".into(), &"2026-11-21T10:30:30.000Z".into())
        );
        assert_eq!(service.woken().len(), 1);
    }

    #[tokio::test]
    async fn progress_is_shown_and_moves_the_deadline() {
        let service = Service::start().await;
        let id = awaiting(&service).await;
        service.clock.advance(Millis::from_mins(10));
        let report = "{\"token\":\"good\",\"percent\":40,\"message\":\"half\",\"extend\":\"14m\"}";
        let answer = send(&service, &id, "progress", report).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.json()["due_at"], "2026-11-21T10:54:00.000Z");
        let task = service.get(&format!("/tasks/{id}")).await.json();
        assert_eq!(
            (&task["progress"]["percent"], &task["progress"]["message"]),
            (&40.into(), &"half".into())
        );
        assert_eq!(send(&service, &id, "progress", "{\"token\":\"bad\"}").await.refused().0, 403);
        send(&service, &id, "complete", "{\"token\":\"good\",\"result\":\"fail\"}").await;
        let late = send(&service, &id, "progress", "{\"token\":\"good\",\"percent\":50}").await;
        assert_eq!(late.refused(), (409, "invalid_transition".to_owned()));
    }

    #[tokio::test]
    async fn bodies_are_read_strictly() {
        let service = Service::start().await;
        let id = awaiting(&service).await;
        let long =
            format!("{{\"token\":\"good\",\"result\":\"done\",\"message\":\"{}\"}}", "x".repeat(1_001));
        for (action, body) in [
            ("complete", "{\"token\":\"good\"}"),
            ("complete", "{\"token\":\"good\",\"result\":\"maybe\"}"),
            ("complete", "{\"token\":\"good\",\"result\":\"done\",\"after\":\"1s\"}"),
            ("complete", "{\"token\":\"good\",\"result\":\"retry\",\"after\":\"36500d\"}"),
            ("complete", &long),
            ("progress", "{\"percent\":1}"),
            ("progress", "{\"token\":\"good\",\"percent\":101}"),
            ("progress", "{\"token\":\"good\",\"percent\":1.5}"),
            ("progress", "{\"token\":\"good\",\"extend\":\"0s\"}"),
        ] {
            let answer = send(&service, &id, action, body).await;
            assert_eq!(answer.refused(), (400, "invalid_field".to_owned()), "{action} {body}");
        }
    }
}
