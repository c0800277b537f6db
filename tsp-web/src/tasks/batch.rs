//! `POST /apps/{app}/tasks/batch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use tsp_api::task::submit::{BATCH_BYTES_MAX, BATCH_TASKS_MAX, BatchAnswer, SubmitBatch};
use tsp_api::{Errors, Id, Problem};
use tsp_core::{ConfigId, ShardId, Timestamp};
use tsp_store::StoreError;
use tsp_store::idempotency::{Kept, StoredAnswer};
use tsp_store::tasks::{Submit, Submitted};

use crate::auth::Caller;
use crate::body;
use crate::error::{ApiError, ApiResult, Finish};
use crate::idempotency::{Claim, IdempotencyKey, mismatch};
use crate::path::Path;
use crate::state::WebState;

use super::submit::{Common, Door, Names, Prepared, Shown, unreadable, wake};
use super::trace::TraceParent;
use super::{fields, view};

/// Submits up to 1000 tasks. Each stands alone: a wrong one fails by itself, in its place.
#[utoipa::path(
    post, path = "/apps/{app}/tasks/batch", tag = "tasks", operation_id = "submit_tasks",
    params(
        ("app" = String, Path, description = "The app."),
        ("Idempotency-Key" = Option<String>, Header, description = "Element i has `<key>#<i>`."),
    ),
    request_body = SubmitBatch,
    responses((status = 200, description = "One result for each task, in order.", body = BatchAnswer)),
)]
pub(crate) async fn submit_batch(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path(app): Path<String>,
    key: IdempotencyKey,
    Ok(trace): Result<TraceParent, std::convert::Infallible>,
    request: Request,
) -> ApiResult {
    body::require_json(request.headers())?;
    let body = body::read_all(request.into_body(), BATCH_BYTES_MAX).await?;
    let door = Door::find(&state, &caller, &app)?;
    let elements = read_envelope(&body).map_err(|error| door.hide(error))?;
    caller.charge(u32::try_from(elements.len() - 1).unwrap_or(u32::MAX))?;

    let now = state.now();
    let common = Common { state: &state, door: &door, trace: &trace, now };
    let mut batch = Batch::new(elements.len());
    for (index, element) in elements.into_iter().enumerate() {
        let added = batch.add(&common, &caller, &key.element(index), element);
        batch.slots.push(added.unwrap_or_else(Slot::Failed));
    }
    if door.foreign() && batch.submits.is_empty() && batch.slots.iter().all(Slot::is_not_found) {
        // As if the app did not exist, which is all that this caller may know.
        return Err(crate::lookup::no_app(&app));
    }
    let answers = batch.save(&state, now).await;
    batch.answer(&state, answers, caller.request_id())
}

/// The tasks, unread.
fn read_envelope(body: &Bytes) -> ApiResult<Vec<&RawValue>> {
    let mut errors = Errors::new();
    let elements = fields::read_array(body, &["tasks"], &mut errors).map_err(|error| unreadable(&error))?;
    let elements = elements.unwrap_or_default();
    if !errors.has("tasks") && !(1..=BATCH_TASKS_MAX).contains(&elements.len()) {
        let message = format!("must hold 1 to {BATCH_TASKS_MAX} tasks, holds {}", elements.len());
        errors.add("tasks", message);
    }
    errors.finish()?;
    Ok(elements)
}

/// The elements of a batch on their way.
struct Batch {
    /// One for each element, in order.
    slots: Vec<Slot>,
    /// For the slots that are [`Slot::Sent`], in order.
    submits: Vec<Submit>,
    /// Held until the answer is known.
    claims: Vec<Claim>,
}

enum Slot {
    Sent(Names),
    Failed(ApiError),
}

impl Slot {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Failed(error) if error.code() == tsp_api::ErrorCode::NotFound)
    }
}

/// One result of [`BatchAnswer`].
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Done {
        status: u16,
        result: &'static str,
        id: Id,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        after_current: bool,
    },
    Failed {
        status: u16,
        error: Problem,
    },
    Replayed(&'a RawValue),
}

#[derive(Serialize)]
struct Lines<'a> {
    results: Vec<Line<'a>>,
}

impl Batch {
    fn new(count: usize) -> Self {
        Self { slots: Vec::with_capacity(count), submits: Vec::with_capacity(count), claims: Vec::new() }
    }

    fn add(
        &mut self,
        common: &Common<'_>,
        caller: &Caller,
        key: &IdempotencyKey,
        element: &RawValue,
    ) -> ApiResult<Slot> {
        let text = element.get().as_bytes();
        let draft = common.read(text)?;
        // Copied: one task of a batch must not keep the whole body in memory.
        let take = |payload: &str| Bytes::copy_from_slice(payload.as_bytes());
        let Prepared { mut submit, config } = common.prepare(draft, take)?;
        let names = Names::new(config, !common.door.foreign());
        if let Some(claim) = key.claim(&common.state.in_flight, caller, text)? {
            let names = names.clone();
            submit.keep = Some(claim.keep(common.now, move |done| stored(&names, done)));
            self.claims.push(claim);
        }
        self.submits.push(submit);
        Ok(Slot::Sent(names))
    }

    /// All in one call, so that they share transactions.
    async fn save(&mut self, state: &WebState, now: Timestamp) -> Result<Vec<Kept<Submitted>>, StoreError> {
        let submits = std::mem::take(&mut self.submits);
        if submits.is_empty() { Ok(Vec::new()) } else { state.store.submit(submits, now).await }
    }

    fn answer(
        &self,
        state: &WebState,
        answers: Result<Vec<Kept<Submitted>>, StoreError>,
        request_id: &str,
    ) -> ApiResult<Response> {
        let away = answers.as_ref().err().map(|error| {
            // The answer as a whole is no error, so nothing else would log it.
            tracing::error!(request_id, "tasks of a batch were not saved: {error}");
            ApiError::from(error.clone())
        });
        let answers = answers.unwrap_or_default();
        state.http.submitted(answers.iter().filter_map(|kept| match kept {
            Kept::Fresh(done) => Some(done),
            Kept::Replayed(_) | Kept::Mismatch => None,
        }));
        let mut answered = answers.iter();
        let mut heads: BTreeMap<(ConfigId, ShardId), Timestamp> = BTreeMap::new();
        let mut results = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let line = match slot {
                Slot::Failed(error) => Err(error.clone()),
                Slot::Sent(names) => match (answered.next(), &away) {
                    (Some(kept), _) => line(names, kept, &mut heads),
                    (None, Some(error)) => Err(error.clone()),
                    (None, None) => Err(ApiError::internal("the store left out an answer to a submit")),
                },
            };
            results.push(line.unwrap_or_else(|error| failed(&error, request_id)));
        }
        for ((config, shard), due_at) in heads {
            state.hints.wake(config, shard, due_at);
        }
        view::json(StatusCode::OK, &Lines { results })
    }
}

/// The result of an element that the store has answered; notes the earliest due time of its config on each shard.
fn line<'a>(
    names: &Names,
    kept: &'a Kept<Submitted>,
    heads: &mut BTreeMap<(ConfigId, ShardId), Timestamp>,
) -> ApiResult<Line<'a>> {
    match kept {
        Kept::Fresh(done) => {
            let shown = names.shown(done)?;
            if let Some((shard, due_at)) = wake(done) {
                let head = heads.entry((names.config().id, shard)).or_insert(due_at);
                *head = due_at.min(*head);
            }
            Ok(done_line(&shown))
        }
        Kept::Replayed(answer) => {
            serde_json::from_slice(&answer.body).map(Line::Replayed).map_err(ApiError::internal)
        }
        Kept::Mismatch => Err(mismatch()),
    }
}

fn done_line(shown: &Shown<'_>) -> Line<'static> {
    Line::Done {
        status: shown.status().as_u16(),
        result: shown.result.as_str(),
        id: shown.task.id.into(),
        after_current: shown.after_current,
    }
}

fn failed(error: &ApiError, request_id: &str) -> Line<'static> {
    Line::Failed { status: error.code().status(), error: error.problem(request_id) }
}

/// What is kept under an element's idempotency key: its result.
fn stored(names: &Names, done: &Submitted) -> Option<StoredAnswer> {
    let shown = names.shown(done).ok()?;
    let body = serde_json::to_vec(&done_line(&shown)).ok()?.into();
    Some(StoredAnswer { status: shown.status().as_u16(), body, location: None })
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tsp_core::Millis;
    use tsp_store::catalog::Scope;
    use tsp_store::memory::Fault;

    use super::super::testing::{ADMIN, NOW, Service, request};

    const PATH: &str = "/apps/trade/tasks/batch";

    #[tokio::test]
    async fn each_element_stands_alone() {
        let service = Service::start().await;
        let large = "x".repeat(1_000);
        let body = format!(
            "{{\"tasks\":[{{\"config\":\"close-order\",\"key\":\"a\",\"delay\":\"2h\"}},7,\
             {{\"config\":\"close-order\",\"more\":1,\"key\":\"\"}},{{\"config\":\"close-order\",\"key\":\"a\"}},\
             {{\"config\":\"nope\"}},{{\"config\":\"nightly\"}},{{\"config\":\"open\",\"payload\":\"{large}\"}},\
             {{\"config\":\"close-order\",\"delay\":\"1h\"}},{{\"config\":\"open\",\"sharding_count\":3}}]}}"
        );
        let answer = service.post(PATH, body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let results = answer.json()["results"].as_array().unwrap().clone();
        let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [201, 400, 400, 200, 404, 409, 413, 201, 400]);
        assert_eq!(results[0]["result"], "created");
        assert_eq!((&results[3]["result"], &results[3]["id"]), (&"existing".into(), &results[0]["id"]));
        assert_eq!(results[2]["error"]["errors"].as_array().unwrap().len(), 2);
        assert_eq!(results[8]["error"]["code"], "not_supported");
        // Once for the config, with its earliest.
        assert_eq!(service.woken(), [(service.config("close-order"), NOW.plus(Millis::from_hours(1)))]);
    }

    #[tokio::test]
    async fn only_a_bad_envelope_fails_whole() {
        let service = Service::start().await;
        let many = format!("{{\"tasks\":[{}]}}", vec!["{}"; 1_001].join(","));
        for (body, code) in [
            ("[]", "invalid_field"),
            ("{}", "invalid_field"),
            ("{\"tasks\":{}}", "invalid_field"),
            ("{\"tasks\":[]}", "invalid_field"),
            ("{\"tasks\":[{}],\"more\":1}", "unknown_field"),
            ("{\"tasks\":[{]}", "invalid_json"),
            (&many, "invalid_field"),
        ] {
            assert_eq!(service.post(PATH, body.to_owned()).await.refused(), (400, code.to_owned()), "{code}");
        }
        let thousand = format!("{{\"tasks\":[{}]}}", vec!["{\"config\":\"open\"}"; 1_000].join(","));
        let answer = service.post(PATH, thousand).await.json();
        assert!(answer["results"].as_array().unwrap().iter().all(|result| result["status"] == 201));
    }

    #[tokio::test]
    async fn elements_have_idempotency_keys_of_their_own() {
        let service = Service::start().await;
        let send = |tasks: &str| {
            let body = format!("{{\"tasks\":[{tasks}]}}");
            service.send(request(Method::POST, PATH, ADMIN, &[("idempotency-key", "b")], body))
        };
        let first = send("{\"config\":\"open\"},{\"config\":\"nope\"}").await.json();
        let second = send("{\"config\":\"open\"},{\"config\":\"open\"},{\"config\":\"open\"}").await.json();
        assert_eq!(first["results"][0], second["results"][0]);
        assert_eq!(second["results"][1]["status"], 201);
        let third = send("{\"config\":\"open\",\"key\":\"k\"},{\"config\":\"open\"}").await.json();
        assert_eq!(third["results"][0]["error"]["code"], "idempotency_mismatch");
        assert_eq!(third["results"][1], second["results"][1]);
    }

    #[tokio::test]
    async fn a_store_that_is_away_fails_the_elements() {
        let service = Service::start().await;
        service.store.set_faults(Box::new(|call| if call == "submit" { Fault::Before } else { Fault::None }));
        let answer = service.post(PATH, "{\"tasks\":[{\"config\":\"open\"},{}]}").await.json();
        assert_eq!(answer["results"][0]["status"], 503);
        assert_eq!(answer["results"][1]["status"], 400);
    }

    #[tokio::test]
    async fn a_foreign_app_is_as_unknown_as_one_that_does_not_exist() {
        let service = Service::start().await;
        let foreign = service.key(Some(service.other), &[Scope::Submit]).await;
        let send = |body: &'static str| service.send(request(Method::POST, PATH, &foreign, &[], body));
        let unknown = send("{\"tasks\":[{\"config\":\"close-order\"},{\"config\":\"nope\"}]}").await;
        assert_eq!(unknown.refused(), (404, "not_found".to_owned()));
        for body in ["{}", "{\"tasks\":[{}]}", "{\"tasks\":[7]}", "{"] {
            assert_eq!(send(body).await.refused(), (404, "not_found".to_owned()), "{body}");
        }
        let public = send("{\"tasks\":[{\"config\":\"close-order\"},{\"config\":\"open\"}]}").await.json();
        assert_eq!(
            (&public["results"][0]["status"], &public["results"][1]["status"]),
            (&404.into(), &201.into())
        );
    }
}
