//! `POST /apps/{app}/tasks/batch`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use tsp_api::task::submit::{BATCH_BYTES_MAX, BATCH_TASKS_MAX, BatchAnswer, SubmitBatch};
use tsp_api::{Errors, Id, Problem};
use tsp_core::{ConfigId, ShardId, Timestamp};
use tsp_store::StoreError;
use tsp_store::idempotency::{IdempotencyRequest, IdempotencyResult, StoredAnswer};
use tsp_store::tasks::{Submit, SubmitOutcome};

use crate::auth::{Caller, UncountedCaller};
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult, Finish};
use crate::idempotency::{Claim, IdempotencyKey, mismatch};
use crate::path::Path;
use crate::state::WebState;

use super::submit::{Common, Names, PreparedSubmit, ResolvedApp, ResponseView, unreadable, wake};
use super::trace::TraceParent;
use super::{fields, view};

/// How many elements of a batch are sent alone at the same time.
const ALONE_AT_ONCE: usize = 128;

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
    unpaid: UncountedCaller,
    Path(app): Path<String>,
    key: IdempotencyKey,
    Ok(trace): Result<TraceParent, std::convert::Infallible>,
    body: UnreadBody,
) -> ApiResult {
    let arrived = async {
        let resolved = ResolvedApp::find(&state, unpaid.caller(), &app).await?;
        let body = body.at_most(BATCH_BYTES_MAX).raw_json().await.map_err(|error| resolved.hide(error))?;
        ApiResult::Ok((resolved, body))
    };
    let arrived = arrived.await;
    let envelope = arrived.as_ref().map_err(ApiError::clone).and_then(|(resolved, body)| {
        Ok((resolved, read_envelope(body).map_err(|error| resolved.hide(error))?))
    });
    // A call that is wrong as a whole counts once.
    let caller = unpaid.pay(envelope.as_ref().map_or(1, |(_, elements)| elements.len()))?;
    let (resolved, elements) = envelope?;

    let now = state.now();
    let common = Common { state: &state, resolved, trace: &trace, now };
    let mut batch = Batch::new(elements.len());
    for (index, element) in elements.into_iter().enumerate() {
        let added = batch.add(&common, &caller, &key.element(index), element).await;
        batch.slots.push(added.unwrap_or_else(Slot::Failed));
    }
    if resolved.foreign() && batch.submits.is_empty() && batch.slots.iter().all(Slot::is_not_found) {
        // As if the app did not exist, which is all that this caller may know.
        return Err(crate::lookup::no_app(&app));
    }
    let answers = batch.save(&state, now).await;
    batch.answer(&state, &answers, caller.request_id())
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
    /// Whether the config cache was refreshed, which is done once for all that name what it does not know.
    refreshed: Option<Result<(), StoreError>>,
}

enum Slot {
    Sent(SentItem),
    Failed(ApiError),
}

struct SentItem {
    names: Names,
    /// Held until the answer is known.
    claim: Option<Claim>,
}

impl SentItem {
    fn request(&self, now: Timestamp) -> Option<IdempotencyRequest<SubmitOutcome>> {
        let names = self.names.clone();
        self.claim.as_ref().map(|claim| claim.request(now, move |done| stored(&names, done)))
    }
}

/// What became of each submit, in order.
type Answers = Vec<Answer>;
type Answer = Result<IdempotencyResult<SubmitOutcome>, StoreError>;

impl Slot {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Failed(error) if error.code() == tsp_api::ErrorCode::NotFound)
    }
}

/// One result of [`BatchAnswer`].
#[derive(Serialize)]
#[serde(untagged)]
enum ItemAnswer<'a> {
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
struct BatchBody<'a> {
    results: Vec<ItemAnswer<'a>>,
}

impl Batch {
    fn new(count: usize) -> Self {
        Self { slots: Vec::with_capacity(count), submits: Vec::with_capacity(count), refreshed: None }
    }

    async fn add(
        &mut self,
        common: &Common<'_>,
        caller: &Caller,
        key: &IdempotencyKey,
        element: &RawValue,
    ) -> ApiResult<Slot> {
        let text = element.get().as_bytes();
        let draft = common.read(text)?;
        if common.is_unknown(&draft) {
            self.refresh(common.state).await?;
        }
        // Copied: one task of a batch must not keep the whole body in memory.
        let take = |payload: &str| Bytes::copy_from_slice(payload.as_bytes());
        let PreparedSubmit { mut submit, config } = common.prepare(draft, take)?;
        let claim = key.claim(&common.state.in_flight, caller, text)?;
        let sent = SentItem { names: Names::new(config, !common.resolved.foreign()), claim };
        submit.idempotency = sent.request(common.now);
        self.submits.push(submit);
        Ok(Slot::Sent(sent))
    }

    async fn refresh(&mut self, state: &WebState) -> Result<(), StoreError> {
        if self.refreshed.is_none() {
            self.refreshed = Some(state.store.refresh().await);
        }
        self.refreshed.clone().unwrap_or(Ok(()))
    }

    /// All in one call, so that they share transactions. If that fails, one bad data source among several
    /// must not fail what belongs on the others: then each is sent alone, and the store joins them again
    /// where it can.
    async fn save(&mut self, state: &WebState, now: Timestamp) -> Answers {
        let submits = std::mem::take(&mut self.submits);
        if submits.is_empty() {
            return Vec::new();
        }
        let count = submits.len();
        let alone = if goes_alone(&submits) { self.again(&submits, now) } else { Vec::new() };
        match state.store.submit(submits, now).await {
            Ok(answers) => {
                let missing = || StoreError::Internal("an answer to a submit was left out".to_owned());
                let answers = answers.into_iter().map(Ok);
                answers.chain(std::iter::repeat_with(|| Err(missing()))).take(count).collect()
            }
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Unknown(_))) if !alone.is_empty() => {
                tracing::warn!("a batch was not saved as a whole: {error}");
                save_alone(state, alone, &error, now).await
            }
            Err(error) => std::iter::repeat_with(|| Err(error.clone())).take(count).collect(),
        }
    }

    /// The same tasks under the same ids, so that one which was saved all the same is found and not doubled.
    fn again(&self, submits: &[Submit], now: Timestamp) -> Vec<Submit> {
        let sent = self.slots.iter().filter_map(|slot| match slot {
            Slot::Sent(sent) => Some(sent),
            Slot::Failed(_) => None,
        });
        let copy = |(sent, submit): (&SentItem, &Submit)| Submit {
            task: submit.task.clone(),
            on_duplicate: submit.on_duplicate,
            own_payload: submit.own_payload,
            idempotency: sent.request(now),
        };
        sent.zip(submits).map(copy).collect()
    }

    fn answer(&self, state: &WebState, answers: &[Answer], request_id: &str) -> ApiResult<Response> {
        let failures = answers.iter().filter_map(|answer| answer.as_ref().err());
        if let Some(error) = failures.clone().next() {
            // The answer as a whole is no error, so nothing else would log it.
            let count = failures.count();
            tracing::error!(request_id, count, "tasks of a batch were not saved: {error}");
        }
        state.http.submitted(answers.iter().filter_map(|answer| match answer {
            Ok(IdempotencyResult::Fresh(done)) => Some(done),
            Ok(IdempotencyResult::Replayed(_) | IdempotencyResult::Mismatch) | Err(_) => None,
        }));
        let mut answered = answers.iter();
        let mut earliest: BTreeMap<(ConfigId, ShardId), Timestamp> = BTreeMap::new();
        let mut results = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let item_answer = match slot {
                Slot::Failed(error) => Err(error.clone()),
                Slot::Sent(sent) => match answered.next() {
                    Some(Ok(kept)) => item_answer(&sent.names, kept, &mut earliest),
                    Some(Err(error)) => Err(error.clone().into()),
                    None => Err(ApiError::internal("a submit was left without an answer")),
                },
            };
            results.push(item_answer.unwrap_or_else(|error| failed(&error, request_id)));
        }
        for ((config, shard), due_at) in earliest {
            state.hints.wake(config, shard, due_at);
        }
        view::json(StatusCode::OK, &BatchBody { results })
    }
}

/// Whether some of these may fail where others do not: tasks on several shards, or kept answers, whose
/// shards are not the tasks'.
fn goes_alone(submits: &[Submit]) -> bool {
    let shard = |submit: &Submit| submit.task.id.shard();
    submits.len() > 1
        && (submits.iter().any(|submit| submit.idempotency.is_some())
            || submits.windows(2).any(|pair| shard(&pair[0]) != shard(&pair[1])))
}

/// Each in a call of its own, after a call with all of them has failed with `first`.
async fn save_alone(state: &WebState, submits: Vec<Submit>, first: &StoreError, now: Timestamp) -> Answers {
    let calls = submits.into_iter().map(|submit| async move {
        match state.store.submit(vec![submit], now).await.map(|mut answers| answers.pop()) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(StoreError::Internal("a submit was not answered".to_owned())),
            // That this call changed nothing does not mean that the first has not.
            Err(StoreError::Unavailable { why, .. }) if matches!(first, StoreError::Unknown(_)) => {
                Err(StoreError::Unknown(why))
            }
            Err(error) => Err(error),
        }
    });
    futures::stream::iter(calls).buffered(ALONE_AT_ONCE).collect().await
}

/// The result of an element that the store has answered; notes the earliest due time of its config on each shard.
fn item_answer<'a>(
    names: &Names,
    kept: &'a IdempotencyResult<SubmitOutcome>,
    earliest: &mut BTreeMap<(ConfigId, ShardId), Timestamp>,
) -> ApiResult<ItemAnswer<'a>> {
    match kept {
        IdempotencyResult::Fresh(done) => {
            let shown = names.shown(done)?;
            if let Some((shard, due_at)) = wake(done) {
                let known = earliest.entry((names.config().id, shard)).or_insert(due_at);
                *known = due_at.min(*known);
            }
            Ok(done_answer(&shown))
        }
        IdempotencyResult::Replayed(answer) => {
            serde_json::from_slice(&answer.body).map(ItemAnswer::Replayed).map_err(ApiError::internal)
        }
        IdempotencyResult::Mismatch => Err(mismatch()),
    }
}

fn done_answer(shown: &ResponseView<'_>) -> ItemAnswer<'static> {
    ItemAnswer::Done {
        status: shown.status().as_u16(),
        result: shown.result.as_str(),
        id: shown.task.id.into(),
        after_current: shown.after_current,
    }
}

fn failed(error: &ApiError, request_id: &str) -> ItemAnswer<'static> {
    ItemAnswer::Failed { status: error.code().status(), error: error.problem(request_id) }
}

/// What is kept under an element's idempotency key: its result.
fn stored(names: &Names, done: &SubmitOutcome) -> Option<StoredAnswer> {
    let shown = names.shown(done).ok()?;
    let body = serde_json::to_vec(&done_answer(&shown)).ok()?.into();
    Some(StoredAnswer { status: shown.status().as_u16(), body, location: None })
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;
    use tsp_core::Millis;
    use tsp_store::catalog::Scope;
    use tsp_store_testing::memory::Fault;

    use super::super::testing::{ADMIN, NOW, Service, request};
    use crate::testing::{BOOTSTRAP, Server, delayed};

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

    #[tokio::test(start_paused = true)]
    async fn a_batch_beyond_the_limit_passes_when_the_bucket_is_full_and_a_refusal_costs_nothing() {
        let server = Server::start().await;
        server.app("trade").await;
        server.call(Method::PUT, "/api/v1/apps/trade/configs/c", delayed("c")).await.expect(201);
        let body = json!({"name": "x", "scopes": ["submit"], "rate_limit": {"count": 5, "per": "1s"}});
        let made = server.post("/api/v1/apps/trade/keys", body).await.expect(201);
        let send = async |count: usize| {
            let body = json!({"tasks": vec![json!({"config": "c", "delay": "1h"}); count]});
            let key = made["key"].as_str().unwrap();
            server.call_as(key, Method::POST, "/api/v1/apps/trade/tasks/batch", body).await
        };
        let wait = async |seconds: &str| {
            tokio::time::advance(std::time::Duration::from_secs(seconds.parse().unwrap())).await;
        };
        for count in [1, 3, 5, 6, 1_000] {
            wait("1000").await;
            let first = send(6).await;
            assert_eq!((first.status.as_u16(), first.header("ratelimit")), (200, "\"key\";r=0;t=2"));
            let refused = send(count).await;
            assert_eq!(refused.refused(), (429, "rate_limited".to_owned()), "{count}");
            assert_eq!(send(0).await.refused().0, 429);
            wait(refused.header("retry-after")).await;
            assert_eq!(send(count).await.status, 200, "{count}: {}", refused.header("retry-after"));
        }
        // A call that is wrong as a whole counts once.
        wait("1000").await;
        assert_eq!(send(0).await.refused().0, 400);
        assert_eq!(send(5).await.refused().0, 429);
        assert_eq!(send(4).await.status, 200);
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
    async fn a_data_source_that_is_away_fails_its_own_elements_only() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut config = delayed("c");
        config["span"] = 0.into();
        server.call(Method::PUT, "/api/v1/apps/trade/configs/c", config).await.expect(201);
        let auth = format!("Bearer {BOOTSTRAP}");
        let mut saved = 0;
        for key in ["", "b"] {
            let tasks: Vec<_> =
                (0..40).map(|n| json!({"config": "c", "delay": "1h", "key": format!("{key}k{n}")})).collect();
            saved += tasks.len();
            let mut headers = vec![("authorization", auth.as_str())];
            headers.extend((!key.is_empty()).then_some(("idempotency-key", key)));
            let path = "/api/v1/apps/trade/tasks/batch";
            let send = || server.call_with(Method::POST, path, &headers, json!({"tasks": tasks}));
            server.store.set_away([1, 2]);
            let away = send().await.expect(200)["results"].as_array().unwrap().clone();
            server.store.set_away([]);
            let back = send().await.expect(200)["results"].as_array().unwrap().clone();
            let mut failed = 0;
            for (away, back) in away.iter().zip(&back) {
                if away["status"] == 503 {
                    // The first call for all of them may have saved it.
                    assert!(away["error"]["detail"].as_str().unwrap().contains("may or may not"), "{away}");
                    assert_eq!(back["status"], 201);
                    failed += 1;
                } else {
                    assert_eq!((&away["status"], &away["id"]), (&201.into(), &back["id"]));
                }
            }
            assert!((1..tasks.len()).contains(&failed), "{failed}");
            let open = server.get("/api/v1/apps/trade/tasks?limit=500").await.expect(200);
            assert_eq!(open["items"].as_array().unwrap().len(), saved);
        }
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
