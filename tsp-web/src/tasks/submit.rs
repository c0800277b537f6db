//! `POST /apps/{app}/tasks`.

mod answer;
mod draft;
mod prepare;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use serde_json::value::RawValue;
use tsp_api::task::submit::{SubmitAnswer, SubmitTask};
use tsp_core::config::TaskConfig;
use tsp_core::task::Origin;
use tsp_store::tasks::Submit;

use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult};
use crate::idempotency::{IdempotencyKey, unwrap_idempotent};
use crate::path::Path;
use crate::state::WebState;

use super::trace::TraceParent;
use super::view;

pub(crate) use answer::{Names, ResponseView, wake};
pub(crate) use draft::{choose_time, unreadable};
pub(crate) use prepare::{Common, PreparedSubmit, ResolvedApp};
use prepare::{TaskDraft, check_payload, extra};

/// Submits a task: one callback at one time.
#[utoipa::path(
    post, path = "/apps/{app}/tasks", tag = "tasks", operation_id = "submit_task",
    params(
        ("app" = String, Path, description = "The app."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe for 24 hours."),
    ),
    request_body = SubmitTask,
    responses(
        (status = 201, description = "Made, durably.", body = SubmitAnswer,
            headers(("Location" = String, description = "The task."))),
        (status = 200, description = "An open task holds the key: see `result`.", body = SubmitAnswer),
        (status = 409, description = "The config is disabled or of kind `cron`, or the idempotency key is being worked on."),
        (status = 422, description = "The idempotency key was used for another body."),
    ),
)]
pub(crate) async fn submit(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
    key: IdempotencyKey,
    Ok(trace): Result<TraceParent, std::convert::Infallible>,
    body: UnreadBody,
) -> ApiResult {
    let resolved = ResolvedApp::find(&state, &caller, &app).await?;
    let body = body.raw_json().await.map_err(|error| resolved.hide(error))?;
    let now = state.now();
    let common = Common { state: &state, resolved: &resolved, trace: &trace, now };
    // The payload stays a piece of the body: nothing is copied.
    let take = |payload: &str| body.slice_ref(payload.as_bytes());
    let draft = common.read(&body)?;
    if common.is_unknown(&draft) {
        state.store.refresh().await?;
    }
    let PreparedSubmit { submit, config } = common.prepare(draft, take)?;
    save(&state, &caller, submit, &Names::new(config, !resolved.foreign()), &key, &body).await
}

/// One occurrence of `config` now, by hand: `POST …/configs/{config}/run`, for both kinds. The caller has
/// been checked; `body` is the request's, for its idempotency key, and `payload` a piece of it (`None`: the
/// config's own). Answers as a submit.
///
/// # Errors
/// 413 for the payload, 409 for a disabled config, and those of the store and the idempotency key.
pub(crate) async fn run_config(
    state: &WebState,
    caller: &Caller,
    config: Arc<TaskConfig>,
    payload: Option<&RawValue>,
    key: &IdempotencyKey,
    trace: &TraceParent,
    body: &Bytes,
) -> ApiResult {
    let payload = payload.map(|payload| payload.get().as_bytes());
    if let Some(payload) = payload {
        check_payload(state, payload.len())?;
    }
    let now = state.now();
    let made = TaskDraft {
        key: None,
        execute_at: now,
        payload: payload.map(Bytes::copy_from_slice),
        expire_after: None,
        origin: Origin::Run,
        extra: extra(std::collections::BTreeMap::new(), None, trace, None),
        on_duplicate: config.spec.on_duplicate_key,
    };
    let submit = made.submit(state, &config, now)?;
    save(state, caller, submit, &Names::new(config, true), key, body).await
}

/// Saves one task and answers.
async fn save(
    state: &WebState,
    caller: &Caller,
    mut submit: Submit,
    names: &Names,
    key: &IdempotencyKey,
    body: &Bytes,
) -> ApiResult {
    let claim = key.claim(&state.in_flight, caller, body)?;
    if let Some(claim) = &claim {
        let names = names.clone();
        submit.idempotency = Some(claim.request(submit.task.created_at, move |done| names.stored(done)));
    }
    let now = submit.task.created_at;
    let kept = state.store.submit(vec![submit], now).await?.pop();
    let kept = kept.ok_or_else(|| ApiError::internal("the store gave no answer to a submit"))?;
    let done = match unwrap_idempotent(kept)? {
        Ok(done) => done,
        Err(replayed) => return Ok(replayed),
    };
    state.http.submitted([&done]);
    let shown = names.shown(&done)?;
    if let Some((shard, due_at)) = wake(&done) {
        state.hints.wake(names.config().id, shard, due_at);
    }
    answered(&shown)
}

fn answered(shown: &ResponseView<'_>) -> ApiResult<Response> {
    let body = view::to_vec(&shown.document())?;
    Ok(match shown.location() {
        Some(location) => view::response(shown.status(), body, [(http::header::LOCATION, location)]),
        None => view::response(shown.status(), body, []),
    })
}
