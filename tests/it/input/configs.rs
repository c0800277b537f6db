//! Every field of a config: made, replaced, changed.

use serde_json::{Value, json};

use super::{Case, Kind, cases, check, put, wrong};
use crate::harness::{APP, Scene};

fn config() -> Value {
    json!({
        "name": "valid", "kind": "cron", "description": "d", "owner": "o", "labels": { "team": "trade" },
        "target": { "type": "http", "url": "http://callee.example/x", "method": "POST", "headers": { "X-A": "b" },
                    "secret_headers": { "X-B": "c" } },
        "schedule": { "type": "cron", "expr": "0 0 2 * * ?", "dialect": "quartz", "timezone": "Asia/Shanghai",
                      "misfire": { "policy": "fire_once", "grace": "1h" }, "overlap": "skip" },
        "retry": { "max_attempts": 5, "backoff": { "type": "exponential", "initial": "1s", "factor": 2, "max": "5m" },
                   "jitter": 0.1, "max_age": "2d", "non_retryable_status": [410] },
        "timeout": { "connect": "2s", "total": "10s" },
        "async": { "enabled": false, "deadline": "15m" },
        "payload": null, "priority": 2, "queue": "default", "group": "default", "span": 1,
        "on_duplicate_key": "ignore", "retention": "7d", "visibility": "app", "enabled": true,
        "expire_after": "1d", "signing_secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    })
}

const CONFIG: &[(&str, Kind)] = &[
    ("name", Kind::Name),
    ("kind", Kind::OneOf),
    ("description", Kind::Text(10_000)),
    ("owner", Kind::Text(10_000)),
    ("labels", Kind::Object),
    ("target", Kind::Object),
    ("target.type", Kind::OneOf),
    ("target.url", Kind::Url),
    ("target.method", Kind::OneOf),
    ("target.headers", Kind::Headers),
    ("target.secret_headers", Kind::Headers),
    ("schedule", Kind::Object),
    ("schedule.type", Kind::OneOf),
    ("schedule.expr", Kind::OneOf),
    ("schedule.dialect", Kind::OneOf),
    ("schedule.timezone", Kind::OneOf),
    ("schedule.misfire", Kind::Object),
    ("schedule.misfire.policy", Kind::OneOf),
    ("schedule.misfire.grace", Kind::Duration),
    ("schedule.overlap", Kind::OneOf),
    ("retry", Kind::Object),
    ("retry.max_attempts", Kind::Count(Some(1_000_000_000))),
    ("retry.backoff", Kind::Object),
    ("retry.backoff.type", Kind::OneOf),
    ("retry.backoff.initial", Kind::Duration),
    ("retry.backoff.factor", Kind::Share),
    ("retry.backoff.max", Kind::Duration),
    ("retry.jitter", Kind::Share),
    ("retry.max_age", Kind::Duration),
    ("retry.non_retryable_status", Kind::List),
    ("timeout", Kind::Object),
    ("timeout.connect", Kind::Duration),
    ("timeout.total", Kind::Duration),
    ("async", Kind::Object),
    ("async.enabled", Kind::Flag),
    ("async.deadline", Kind::Duration),
    ("priority", Kind::Count(Some(4))),
    ("queue", Kind::Name),
    ("group", Kind::Name),
    ("span", Kind::Count(Some(512))),
    ("on_duplicate_key", Kind::OneOf),
    ("retention", Kind::Duration),
    ("visibility", Kind::OneOf),
    ("enabled", Kind::Flag),
    ("expire_after", Kind::Duration),
    ("signing_secrets", Kind::List),
    ("payload", Kind::Any),
];

/// `factor` may be above 1; what is wrong for a share in that way is right for it.
fn without_good_factors(cases: Vec<Case>) -> Vec<Case> {
    let good =
        |case: &Case| case.field == "retry.backoff.factor" && case.body["retry"]["backoff"]["factor"] == 1.1;
    cases.into_iter().filter(|case| !good(case)).collect()
}

#[tokio::test]
async fn the_valid_document_is_valid() {
    let scene = Scene::new().await;
    scene.api.post(&format!("/apps/{APP}/configs"), &config()).await.expect(201);
}

#[tokio::test]
async fn every_field_of_a_config() {
    let scene = Scene::new().await;
    let all = without_good_factors(cases(
        &config(),
        CONFIG,
        &["name", "kind", "target", "target.type", "target.url"],
    ));
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/configs"), all).await;
    let listed = scene.api.get(&format!("/apps/{APP}/configs")).await.expect(200);
    assert_eq!(
        listed["items"].as_array().map(Vec::len),
        Some(0),
        "a refused document left something: {listed:#}"
    );
}

#[tokio::test]
async fn every_field_of_a_config_that_is_replaced() {
    let scene = Scene::new().await;
    let path = format!("/apps/{APP}/configs");
    scene.api.post(&path, &config()).await.expect(201);
    let before = scene.api.get(&format!("{path}/valid")).await.expect(200);
    // The name stands in the path, and name and kind never change, which is another refusal.
    let fields: Vec<_> =
        CONFIG.iter().copied().filter(|(field, _)| !["name", "kind"].contains(field)).collect();
    let all = without_good_factors(cases(&config(), &fields, &["target.url"]));
    check(&scene.api, reqwest::Method::PUT, &format!("{path}/valid"), all).await;
    assert_eq!(scene.api.get(&format!("{path}/valid")).await.expect(200), before);
}

#[tokio::test]
async fn lists_within_a_config() {
    let scene = Scene::new().await;
    let wrong = [
        ("retry.non_retryable_status", json!([99])),
        ("retry.non_retryable_status", json!([1_000])),
        ("retry.non_retryable_status", json!(["410"])),
        ("signing_secrets", json!(["secret"])),
        ("signing_secrets", json!(["whsec_!!!"])),
        ("signing_secrets", json!(["whsec_c2hvcnQ="])),
        ("signing_secrets", json!([1])),
        ("retry.backoff", json!({ "type": "list", "delays": [] })),
        ("retry.backoff", json!({ "type": "list", "delays": ["soon"] })),
        ("retry.backoff", json!({ "type": "list", "initial": "1s" })),
        ("schedule", json!({ "type": "every", "interval": "10ms" })),
        ("schedule", json!({ "type": "every" })),
        ("schedule", json!({ "type": "cron", "expr": "0 0 2 * * ?" })),
        ("schedule", json!({ "type": "cron", "expr": "0 0 2 31 2 ?", "timezone": "UTC" })),
        ("labels", json!({ "team": 1 })),
    ];
    let cases = wrong.into_iter().map(|(field, value)| {
        let mut body = config();
        put(&mut body, field, value);
        Case { field: field.to_owned(), body }
    });
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/configs"), cases.collect()).await;
    let mut delayed = config();
    delayed["kind"] = json!("delayed");
    let cases = vec![Case { field: "schedule".to_owned(), body: delayed }];
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/configs"), cases).await;
}

#[tokio::test]
async fn every_field_of_a_config_that_is_changed() {
    let scene = Scene::new().await;
    let path = format!("/apps/{APP}/configs");
    scene.api.post(&path, &config()).await.expect(201);
    let before = scene.api.get(&format!("{path}/valid")).await.expect(200);
    let mut all = Vec::new();
    for (field, kind) in CONFIG.iter().filter(|(field, _)| !["name", "kind"].contains(field)) {
        for value in wrong(*kind) {
            let mut body = json!({});
            put(&mut body, field, value);
            all.push(Case { field: (*field).to_owned(), body });
        }
    }
    // Of an object a merge changes some fields: an empty one changes none, and a name may be a new header.
    all.retain(|case| !is_harmless_merge(case));
    check(&scene.api, reqwest::Method::PATCH, &format!("{path}/valid"), without_good_factors(all)).await;
    assert_eq!(scene.api.get(&format!("{path}/valid")).await.expect(200), before);
}

fn is_harmless_merge(case: &Case) -> bool {
    let value = case.field.split('.').fold(&case.body, |place, part| &place[part]);
    value.as_object().is_some_and(serde_json::Map::is_empty)
}
