//! Single submits.

use std::collections::BTreeSet;

use http::Method;
use proptest::prelude::*;
use tsp_core::config::{OnDuplicateKey, Visibility};
use tsp_core::task::Origin;
use tsp_core::{ManualClock, Millis, TaskId};
use tsp_store::TaskStore as _;
use tsp_store::catalog::Scope;

use crate::tasks::testing::{ADMIN, Answer, NOW, Service, request};

const PATH: &str = "/apps/trade/tasks";

async fn submit_with(service: &Service, headers: &[(&str, &str)], body: &str) -> Answer {
    service.send(request(Method::POST, PATH, ADMIN, headers, body.to_owned())).await
}

#[tokio::test]
async fn a_task_is_made_as_it_was_asked_for() {
    let service = Service::start().await;
    let body = "{ \"config\": \"close-order\", \"key\": \"order-42\", \
        \"execute_at\": \"2026-11-21T18:31:00+08:00\", \"payload\": {\"b\": 1.50, \"a\" : [ ]} , \
        \"headers\": {\"X-Shop\": \"7\"}, \"retry\": {\"max_attempts\": 3}, \"expire_after\": \"1h\"}";
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = submit_with(&service, &[("traceparent", trace)], body).await;
    assert_eq!(answer.status, 201, "{:?}", answer.body);
    let json = answer.json();
    assert_eq!(json["result"], "created");
    assert!(json.get("after_current").is_none());
    let task = &json["task"];
    assert_eq!(
        (&task["app"], &task["config"], &task["key"]),
        (&"trade".into(), &"close-order".into(), &"order-42".into())
    );
    assert_eq!(task["execute_at"], "2026-11-21T10:31:00.000Z");
    assert_eq!(task["actions"], serde_json::json!(["cancel", "pause", "postpone", "run"]));
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("\"payload\":{\"b\": 1.50, \"a\" : [ ]},"), "{text}");
    let id = task["id"].as_str().unwrap();
    assert_eq!(answer.headers["location"], format!("/api/v1/tasks/{id}"));

    let row = service.store.task(id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.origin, Origin::Submit);
    assert_eq!(row.expire_after, Some(Millis::from_hours(1)));
    let extra = row.extra.unwrap();
    assert_eq!(extra.headers["X-Shop"], "7");
    assert_eq!(extra.retry.unwrap().max_attempts, 3);
    assert_eq!(extra.traceparent.as_deref(), Some(trace));
    assert_eq!(service.woken(), [(service.config("close-order"), NOW.plus(Millis::from_mins(1)))]);
}

#[tokio::test]
async fn tasks_without_a_key_are_spread_by_the_seed() {
    let shards = async |seed| {
        let mut service = Service::start_with(seed).await;
        service.add_config(service.trade, "wide", |spec| spec.span = 0).await;
        let mut shards = Vec::new();
        for _ in 0..5 {
            let id: TaskId = service.submit("{\"config\":\"wide\"}").await.parse().unwrap();
            shards.push(id.shard().get());
        }
        shards
    };
    let first = shards(0).await;
    assert_eq!(BTreeSet::from_iter(&first).len(), 4, "{first:?}");
    assert_eq!(shards(0).await, first, "one seed gives one history");
    assert_ne!(shards(1).await, first, "two processes do not walk in step");
}

#[tokio::test]
async fn now_is_the_default_and_the_past_is_kept() {
    let service = Service::start().await;
    let plain = service.post(PATH, "{\"config\":\"close-order\",\"payload\":null}").await.json();
    assert_eq!(plain["task"]["execute_at"], "2026-11-21T10:30:00.000Z");
    assert_eq!(plain["task"]["payload"], serde_json::Value::Null);
    let id: TaskId = plain["task"]["id"].as_str().unwrap().parse().unwrap();
    assert!(service.store.task(id).await.unwrap().unwrap().extra.is_none());
    let past = "{\"config\":\"close-order\",\"execute_at\":\"2026-11-21T10:29:59.9999Z\"}";
    assert_eq!(service.post(PATH, past).await.json()["task"]["execute_at"], "2026-11-21T10:30:00.000Z");
    let past = "{\"config\":\"close-order\",\"execute_at\":\"2020-01-01T00:00:00Z\"}";
    let task = &service.post(PATH, past).await.json()["task"];
    assert_eq!(
        (&task["execute_at"], &task["due_at"]),
        (&"2020-01-01T00:00:00.000Z".into(), &"2026-11-21T10:30:00.000Z".into())
    );
}

#[tokio::test]
async fn the_config_gives_what_the_submit_leaves_out() {
    let mut service = Service::start().await;
    let trade = service.trade;
    service
        .add_config(trade, "rich", |spec| {
            spec.payload = Some("{\"from\": \"config\"}".into());
            spec.expire_after = Some(Millis::from_mins(5));
            spec.on_duplicate_key = OnDuplicateKey::Reset;
        })
        .await;
    let first = service.post(PATH, "{\"config\":\"rich\",\"key\":\"k\"}").await.json();
    assert_eq!(first["task"]["payload"]["from"], "config");
    let second =
        service.post(PATH, "{\"config\":\"rich\",\"key\":\"k\",\"delay\":\"1h\",\"payload\":7}").await;
    assert_eq!((second.status.as_u16(), &second.json()["result"]), (200, &"reset".into()));
    assert_eq!(second.json()["task"]["payload"], 7);
    // A reset without a payload of its own leaves the task's.
    let third = service.post(PATH, "{\"config\":\"rich\",\"key\":\"k\"}").await.json();
    assert_eq!(third["task"]["payload"], 7);
    let row =
        service.store.task(first["task"]["id"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.expire_after, Some(Millis::from_mins(5)));
}

#[tokio::test]
async fn duplicate_keys() {
    let service = Service::start().await;
    let body = |more: &str| format!("{{\"config\":\"close-order\",\"key\":\"k\",\"delay\":\"1h\"{more}}}");
    let id = service.submit(&body("")).await;
    service.woken();
    let again = service.post(PATH, body("")).await;
    assert_eq!((again.status.as_u16(), &again.json()["result"]), (200, &"existing".into()));
    assert_eq!(again.json()["task"]["id"], id.as_str());
    assert!(again.headers.get("location").is_none());
    assert!(service.woken().is_empty());
    let added = service.post(PATH, body(",\"on_duplicate_key\":\"add\"")).await;
    assert_eq!((added.status.as_u16(), &added.json()["result"]), (201, &"created".into()));
    assert_ne!(added.json()["task"]["id"], id.as_str());
    let reset = "{\"config\":\"close-order\",\"key\":\"k\",\"on_duplicate_key\":\"reset\"}";
    assert_eq!(service.post(PATH, reset).await.json()["result"], "reset");
    assert_eq!(service.begin(None).await.len(), 1);
    service.woken();
    let late = service.post(PATH, reset).await;
    assert_eq!((&late.json()["result"], &late.json()["after_current"]), (&"reset".into(), &true.into()));
    assert!(service.woken().is_empty());
}

#[tokio::test]
async fn refusals() {
    let mut service = Service::start().await;
    let trade = service.trade;
    service.add_config(trade, "off", |_| {}).await;
    service.disable("off").await;
    for (body, status, code) in [
        ("{", 400, "invalid_json"),
        ("", 400, "invalid_json"),
        ("7", 400, "invalid_field"),
        ("{}", 400, "invalid_field"),
        ("{\"config\":\"close-order\",\"colour\":1}", 400, "unknown_field"),
        ("{\"config\":\"close-order\",\"sharding_count\":2}", 400, "not_supported"),
        ("{\"config\":\"close-order\",\"retry\":{\"max_attempts\":0}}", 400, "invalid_field"),
        (
            "{\"config\":\"close-order\",\"retry\":{\"backoff\":{\"type\":\"list\",\"delays\":[]}}}",
            400,
            "invalid_field",
        ),
        ("{\"config\":\"nope\"}", 404, "not_found"),
        ("{\"config\":\"nightly\"}", 409, "wrong_kind"),
        ("{\"config\":\"off\"}", 409, "config_disabled"),
    ] {
        assert_eq!(service.post(PATH, body).await.refused(), (status, code.to_owned()), "{body}");
    }
    let large = format!("{{\"config\":\"close-order\",\"payload\":\"{}\"}}", "x".repeat(999));
    assert_eq!(service.post(PATH, large).await.refused(), (413, "too_large".to_owned()));
    let fits = format!("{{\"config\":\"close-order\",\"payload\":\"{}\"}}", "x".repeat(998));
    assert_eq!(service.post(PATH, fits).await.status, 201);
    assert_eq!(service.post("/apps/nope/tasks", "{\"config\":\"a\"}").await.refused().0, 404);
    let plain = request(Method::POST, PATH, ADMIN, &[("content-type", "text/plain")], "{}");
    assert_eq!(service.send(plain).await.refused().0, 415);
    let broken = request(Method::POST, PATH, "", &[], "{}");
    assert_eq!(service.send(broken).await.refused(), (401, "unauthenticated".to_owned()));
    assert!(service.store.dump().open.is_empty() || service.woken().len() == 1);
}

#[tokio::test]
async fn others_submit_only_to_public_configs_and_see_no_payload() {
    let mut service = Service::start().await;
    let trade = service.trade;
    service
        .add_config(trade, "gift", |spec| {
            spec.visibility = Visibility::Public;
            spec.payload = Some("\"secret\"".into());
        })
        .await;
    let foreign = service.key(Some(service.other), &[Scope::Submit]).await;
    let reader = service.key(Some(service.trade), &[Scope::Read]).await;
    let send = |key: String, body: &'static str| service.send(request(Method::POST, PATH, &key, &[], body));
    let public = send(foreign.clone(), "{\"config\":\"gift\",\"key\":\"k\"}").await;
    assert_eq!(public.status, 201, "{:?}", public.body);
    assert!(public.json()["task"].get("payload").is_none());
    // Its own task it may look at, and nobody else's.
    let own = format!("/tasks/{}", public.json()["task"]["id"].as_str().unwrap());
    let look = |key: &str, path: &str| service.send(request(Method::GET, path, key, &[], ""));
    let seen = look(&foreign, &own).await;
    assert_eq!(
        (seen.status.as_u16(), &seen.json()["key"], seen.json().get("payload")),
        (200, &"k".into(), None)
    );
    let theirs = service.submit("{\"config\":\"gift\",\"delay\":\"1h\"}").await;
    assert_eq!(look(&foreign, &format!("/tasks/{theirs}")).await.refused().0, 404);
    let cancel = request(Method::POST, &format!("{own}/cancel"), &foreign, &[], "");
    assert_eq!(service.send(cancel).await.refused().0, 404);
    assert_eq!(look(&foreign, &format!("{own}/attempts")).await.refused().0, 404);
    let private = send(foreign.clone(), "{\"config\":\"close-order\"}").await;
    let missing = service.post("/apps/nope/tasks", "{\"config\":\"close-order\"}").await;
    assert_eq!(private.refused(), (404, "not_found".to_owned()));
    assert_eq!(private.json()["detail"].as_str().unwrap().replace("trade", "nope"), missing.json()["detail"]);
    for body in ["{}", "{", "{\"config\":\"close-order\",\"x\":1}"] {
        assert_eq!(send(foreign.clone(), body).await.refused(), (404, "not_found".to_owned()), "{body}");
    }
    assert_eq!(send(reader, "{\"config\":\"close-order\"}").await.refused(), (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn a_private_config_is_known_to_those_who_manage_it() {
    let mut service = Service::start().await;
    let trade = service.trade;
    service.add_config(trade, "inner", |spec| spec.visibility = Visibility::Private).await;
    let task = service.submit("{\"config\":\"inner\",\"key\":\"k\",\"delay\":\"1h\"}").await;
    let open = service.submit("{\"config\":\"open\",\"delay\":\"1h\"}").await;
    let by_id = format!("/tasks/{task}");
    for (scopes, status) in [(vec![Scope::Manage], 200), (vec![Scope::Read, Scope::Submit], 404)] {
        let key = service.key(Some(service.trade), &scopes).await;
        let get = |path: &str| service.send(request(Method::GET, path, &key, &[], ""));
        for path in [by_id.as_str(), "/apps/trade/configs/inner", "/apps/trade/configs/inner/keys/k"] {
            assert_eq!(get(path).await.status.as_u16(), status, "{path}");
        }
        let knows = status == 200;
        let found = async |path: &str| get(path).await.json()["items"].as_array().unwrap().len();
        assert_eq!(found("/apps/trade/tasks").await, 1 + usize::from(knows));
        assert_eq!(found("/apps/trade/tasks?config=inner").await, usize::from(knows));
        assert_eq!(found("/apps/trade/tasks?config=inner,open").await, 1 + usize::from(knows));
        assert_eq!(found("/apps/trade/configs").await, 4 + usize::from(knows));
        let submit = |body: &'static str| service.send(request(Method::POST, PATH, &key, &[], body));
        let body = "{\"config\":\"inner\",\"key\":\"k\"}";
        assert_eq!(submit(body).await.status.as_u16(), status);
        let act = request(Method::POST, &format!("{by_id}/postpone"), &key, &[], "{\"delay\":\"2h\"}");
        assert_eq!(service.send(act).await.status.as_u16(), status);
        assert_eq!(get(&format!("/tasks/{open}")).await.status, 200);
    }
}

#[tokio::test]
async fn a_repeat_with_an_idempotency_key_gets_the_first_answer() {
    let mut service = Service::start().await;
    let trade = service.trade;
    service.add_config(trade, "brief", |_| {}).await;
    let headers = [("idempotency-key", "i-1")];
    let first = submit_with(&service, &headers, "{\"config\":\"brief\",\"delay\":\"1h\"}").await;
    service.clock.advance(Millis::from_mins(1));
    // Also when the config takes no tasks any more: the first one was made.
    service.disable("brief").await;
    let second = submit_with(&service, &headers, "{ \"delay\": \"1h\", \"config\": \"brief\" }").await;
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!(second.headers["location"], first.headers["location"]);
    assert_eq!(second.headers["idempotency-replayed"], "true");
    assert!(first.headers.get("idempotency-replayed").is_none());
    let other = submit_with(&service, &headers, "{\"config\":\"brief\",\"delay\":\"2h\"}").await;
    assert_eq!(other.refused(), (422, "idempotency_mismatch".to_owned()));
    let refused = submit_with(&service, &[("idempotency-key", "i-2")], "{\"config\":\"brief\"}").await;
    assert_eq!(refused.refused().1, "config_disabled");
}

#[tokio::test]
async fn without_ids_it_is_unavailable() {
    let service = Service::start().await;
    let ahead = ManualClock::at(NOW);
    ahead.advance(Millis::from_hours(1));
    service.clock.advance_to(tsp_core::Clock::now(&ahead));
    let answer = service.post(PATH, "{\"config\":\"close-order\"}").await;
    assert_eq!(answer.refused(), (503, "unavailable".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_body_is_more_than_a_bad_request(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        near in "\\{\"(config|key|delay|payload|retry|headers|x)\":[\\[{\"]?[a-z0-9\",:.]{0,20}[\\]}\"]?\\}?",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let service = Service::start().await;
            for path in [PATH, "/apps/trade/tasks/batch"] {
                for body in [bytes.clone(), near.clone().into_bytes()] {
                    let status = service.post(path, body).await.status.as_u16();
                    assert!((400..500).contains(&status), "{status}");
                }
            }
        });
    }
}
