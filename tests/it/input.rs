//! Bad input: every field of every request, wrong in every way of its kind, is refused with 400 and
//! named. The cases are made from one valid document by changing one place at a time.

use serde_json::{Value, json};

use crate::harness::{APP, Api, Scene, Task};

/// What a field holds, and so in which ways it can be wrong.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Name,
    Text(usize),
    /// At most, if it has a bound.
    Count(Option<u64>),
    Share,
    Flag,
    OneOf,
    Duration,
    Time,
    Url,
    Headers,
    Object,
    List,
    /// Any JSON is right.
    Any,
}

/// Values that are wrong for a kind.
fn wrong(kind: Kind) -> Vec<Value> {
    let numbers = || vec![json!(7), json!(-1), json!(1.5)];
    let others = || vec![json!(true), json!([]), json!({})];
    match kind {
        Kind::Any => Vec::new(),
        Kind::Name => {
            let mut bad: Vec<_> = ["", "Upper", "-first", "last-", "sp ace", "ü", "a/b"]
                .iter()
                .map(|text| json!(text))
                .collect();
            bad.push(json!("x".repeat(65)));
            [bad, numbers(), others()].concat()
        }
        Kind::Text(longest) => [vec![json!("x".repeat(longest + 1))], numbers(), others()].concat(),
        Kind::Count(most) => {
            let mut bad = vec![json!(-1), json!(1.5), json!("3"), json!(1e30)];
            bad.extend(most.map(|most| json!(most + 1)));
            [bad, others()].concat()
        }
        Kind::Share => [vec![json!(-0.1), json!(1.1), json!("0.5")], others()].concat(),
        Kind::Flag => vec![json!("true"), json!(1), json!([]), json!({})],
        Kind::OneOf => {
            [vec![json!("none-such"), json!(""), json!("POLICY")], numbers(), vec![json!(true), json!([])]]
                .concat()
        }
        Kind::Duration => {
            let bad = ["", "5", "soon", "-5s", "1.5s", "5 s", "1m1h", "99999999999d", "PT5S"];
            [bad.iter().map(|text| json!(text)).collect(), numbers(), others()].concat()
        }
        Kind::Time => {
            let bad = [
                "",
                "tomorrow",
                "2027-01-01",
                "2027-01-01T00:00:00",
                "2027-13-01T00:00:00Z",
                "2999-01-01T00:00:00Z",
            ];
            [bad.iter().map(|text| json!(text)).collect(), numbers(), others()].concat()
        }
        Kind::Url => {
            let mut bad: Vec<_> =
                ["", "not a url", "/path", "ftp://a.example/", "file:///etc/passwd", "http://"]
                    .iter()
                    .map(|text| json!(text))
                    .collect();
            bad.extend(["http://u:p@a.example/", "http://a.example:22/"].map(|text| json!(text)));
            bad.push(json!(format!("http://a.example/{}", "x".repeat(2_100))));
            [bad, numbers(), others()].concat()
        }
        Kind::Headers => vec![
            json!("x"),
            json!(1),
            json!([]),
            json!({ "bad name": "x" }),
            json!({ "x": 1 }),
            json!({ "x": "line\nbreak" }),
            json!({ "host": "x" }),
            json!({ "content-length": "1" }),
            json!({ "TSP-Task-Id": "1" }),
            json!({ "connection": "close" }),
        ],
        Kind::Object => vec![json!("x"), json!(1), json!(true), json!([])],
        Kind::List => vec![json!("x"), json!(1), json!(true), json!({})],
    }
}

/// One changed document and the field that the answer must name.
struct Case {
    field: String,
    body: Value,
}

/// `retry.max_attempts` of a document, made on the way where it is missing.
fn put(document: &mut Value, field: &str, value: Value) {
    let mut place = document;
    for part in field.split('.') {
        place = &mut place[part];
    }
    *place = value;
}

/// Every field in every wrong way, a field that is too much in every object, and each required one missing.
fn cases(valid: &Value, fields: &[(&str, Kind)], required: &[&str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (field, kind) in fields {
        for value in wrong(*kind) {
            let mut body = valid.clone();
            put(&mut body, field, value);
            cases.push(Case { field: (*field).to_owned(), body });
        }
        if matches!(kind, Kind::Object) {
            let mut body = valid.clone();
            let name = format!("{field}.no_such_field");
            put(&mut body, &name, json!(1));
            cases.push(Case { field: name, body });
        }
    }
    let mut body = valid.clone();
    body["no_such_field"] = json!(1);
    cases.push(Case { field: "no_such_field".to_owned(), body });
    for field in required {
        let mut body = valid.clone();
        put(&mut body, field, Value::Null);
        cases.push(Case { field: (*field).to_owned(), body });
    }
    cases
}

/// Sends every case; each must be refused with 400, a code of the list, and its field by name.
async fn check(api: &Api, method: reqwest::Method, path: &str, cases: Vec<Case>) {
    let (count, mut problems) = (cases.len(), Vec::new());
    for Case { field, body } in cases {
        let answer = api.send(method.clone(), &format!("/api/v1{path}"), &[], Some(&body)).await;
        let shown = format!("`{field}` in {} → {} {}", summary(&body, &field), answer.status, answer.text);
        if answer.status != 400 {
            problems.push(shown);
            continue;
        }
        let problem = answer.json();
        let codes = ["invalid_field", "unknown_field", "egress_denied", "not_supported", "invalid_json"];
        let named = problem["errors"].as_array().is_some_and(|errors| {
            errors.iter().any(|error| names(error["field"].as_str().unwrap_or(""), &field))
        });
        if !named || !codes.iter().any(|code| problem["code"] == *code) {
            problems.push(shown);
        }
    }
    println!("{method} {path}: {count} wrong documents refused");
    assert!(
        problems.is_empty(),
        "{} of {count} were not refused well:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// The field itself, something in it, or the object that holds it.
fn names(named: &str, field: &str) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    !named.is_empty() && (inside(field, named) || inside(named, field))
}

fn summary(body: &Value, field: &str) -> String {
    let value = field.split('.').fold(body, |place, part| &place[part]);
    let text = value.to_string();
    text.chars().take(80).collect()
}

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
async fn every_field_of_a_submit() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let valid = json!({
        "config": "work", "key": "order-42", "execute_at": "2026-12-21T18:30:00+08:00", "payload": { "order": 42 },
        "on_duplicate_key": "add", "headers": { "X-Shop": "7" }, "expire_after": "1d",
        "retry": { "max_attempts": 3, "jitter": 0.2 },
    });
    scene.api.post(&format!("/apps/{APP}/tasks"), &valid).await.expect(201);
    let fields = [
        ("config", Kind::Name),
        ("key", Kind::Text(200)),
        ("execute_at", Kind::Time),
        ("on_duplicate_key", Kind::OneOf),
        ("headers", Kind::Headers),
        ("expire_after", Kind::Duration),
        ("retry", Kind::Object),
        ("retry.max_attempts", Kind::Count(None)),
        ("retry.jitter", Kind::Share),
        ("payload", Kind::Any),
    ];
    let mut all = cases(&valid, &fields, &["config"]);
    let mut with = |field: &str, value: Value| {
        let mut body = valid.clone();
        put(&mut body, field, value);
        all.push(Case { field: field.to_owned(), body });
    };
    with("key", json!(""));
    with("key", json!("a\u{0}b"));
    with("key", json!("."));
    with("key", json!(".."));
    with("delay", json!("5s"));
    // A name that cannot be is as good as one that is not there.
    all.retain(|case| case.field != "config" || !case.body["config"].is_string());
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/tasks"), all).await;
    let mut delayed = valid.clone();
    delayed["execute_at"] = Value::Null;
    let all = cases(&delayed, &[("delay", Kind::Duration)], &[]);
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/tasks"), all).await;
    scene
        .api
        .post(&format!("/apps/{APP}/tasks"), &json!({ "config": "none" }))
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn every_field_of_the_other_requests() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let id = scene.submit(Task::of("work").key("order-1").delay("5h")).await;
    let app = json!({ "name": "valid", "description": "d", "owner": "o" });
    let fields = [("name", Kind::Name), ("description", Kind::Text(10_000)), ("owner", Kind::Text(10_000))];
    check(&scene.api, reqwest::Method::POST, "/apps", cases(&app, &fields, &["name"])).await;

    let key = json!({ "name": "valid", "scopes": ["read"], "expires_at": "2026-12-21T18:30:00Z" });
    let fields = [("name", Kind::Text(1_000)), ("scopes", Kind::List), ("expires_at", Kind::Time)];
    let mut all = cases(&key, &fields, &["name", "scopes"]);
    for scopes in [json!([]), json!(["everything"]), json!([1])] {
        let mut body = key.clone();
        body["scopes"] = scopes;
        all.push(Case { field: "scopes".to_owned(), body });
    }
    // Only promises may not lie too far ahead.
    all.retain(|case| case.body["expires_at"] != "2999-01-01T00:00:00Z");
    check(&scene.api, reqwest::Method::POST, &format!("/apps/{APP}/keys"), all).await;

    let postpone = json!({ "delay": "1h" });
    let mut all = cases(&postpone, &[("delay", Kind::Duration)], &[]);
    all.push(Case { field: "execute_at".to_owned(), body: json!({ "execute_at": "tomorrow" }) });
    check(&scene.api, reqwest::Method::POST, &format!("/tasks/{id}/postpone"), all).await;
    let path = format!("/apps/{APP}/configs/work/keys/order-1/postpone");
    check(&scene.api, reqwest::Method::POST, &path, cases(&postpone, &[("delay", Kind::Duration)], &[]))
        .await;

    let preview = json!({ "schedule": { "type": "every", "interval": "5s" }, "count": 3 });
    let fields = [
        ("schedule", Kind::Object),
        ("schedule.interval", Kind::Duration),
        ("count", Kind::Count(Some(100))),
    ];
    let all = cases(&preview, &fields, &["schedule"]);
    check(&scene.api, reqwest::Method::POST, "/schedules/preview", all).await;
}

#[tokio::test]
async fn queries_and_paths() {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let tasks = format!("/apps/{APP}/tasks");
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "state=none-such",
        "status=7",
        "result=none-such",
        "order=sideways",
        "due_from=tomorrow",
        "created_to=x",
        "no_such=1",
        "parent_id=x",
        "include=everything",
        "limit=1&limit=2",
    ] {
        let answer = scene.api.get(&format!("{tasks}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        let name = query.split('=').next().unwrap();
        let problem = answer.json();
        assert_eq!(problem["code"], "invalid_query", "{query}: {problem}");
        assert_eq!(problem["errors"][0]["field"], name, "{query}: {problem}");
    }
    for cursor in ["x", "AAAA", "%00", "eyJhIjoxfQ"] {
        scene.api.get(&format!("{tasks}?cursor={cursor}")).await.refused(400, "invalid_cursor");
    }
    for path in
        ["/tasks/x", "/tasks/-1", "/tasks/0", "/tasks/99999999999999999999", "/apps/UPPER", "/apps/%00"]
    {
        let answer = scene.api.get(path).await;
        assert!([400, 404].contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
    }
}

#[tokio::test]
async fn targets_in_refused_networks_are_refused_at_once() {
    let scene =
        Scene::with(crate::harness::Tsp::settings().set("worker.http.allow_networks", "127.0.0.0/8")).await;
    for url in [
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://[64:ff9b::a00:1]/",
        "http://172.16.0.1/",
        "http://100.64.0.1/",
    ] {
        let body = json!({ "name": "denied", "kind": "delayed", "target": { "type": "http", "url": url } });
        let answer = scene.api.post(&format!("/apps/{APP}/configs"), &body).await;
        answer.refused(400, "egress_denied");
    }
}
