//! Who may call what: every operation of the OpenAPI document, with no key, with a key of each scope,
//! with a key of another app, and with a wrong one.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{APP, Api, Config, Scene, Task};

/// What needs no credentials (API.md section 1).
const OPEN: &[&str] = &[
    "/healthz",
    "/readyz",
    "/docs",
    "/api/v1/openapi.json",
    "/api/v1/session",
    "/api/v1/setup",
    "/api/v1/tasks/{id}/complete",
    "/api/v1/tasks/{id}/progress",
    "/api/v1/dev/clock",
    "/dev/inbox",
];

#[derive(Clone, Debug)]
struct Operation {
    method: Method,
    /// With its parameters in braces.
    template: String,
}

impl Operation {
    /// Is about one app, its configs or tasks.
    fn of_app(&self) -> bool {
        self.template.contains("{app}") || self.template.contains("/tasks/{id}")
    }

    fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

async fn operations(api: &Api) -> Vec<Operation> {
    let document = api.send(Method::GET, "/api/v1/openapi.json", &[], None).await.expect(200);
    let paths: BTreeMap<String, Value> =
        serde_json::from_value(document["paths"].clone()).expect("the document has paths");
    let mut operations = Vec::new();
    for (template, item) in paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if !item[method.as_str().to_lowercase()].is_null() {
                operations.push(Operation { method, template: template.clone() });
            }
        }
    }
    assert!(operations.len() >= 25, "the document holds {} operations only", operations.len());
    operations
}

/// The real path, about things that are there and belong to `APP`.
fn path(operation: &Operation, task: &str) -> String {
    let mut path = operation.template.clone();
    if path.contains("/keys/{id}") {
        path = path.replace("{id}", "999999");
    }
    for (name, value) in [("{app}", APP), ("{config}", "work"), ("{key}", "order-1"), ("{id}", task)] {
        path = path.replace(name, value);
    }
    let filled = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
    filled.collect::<Vec<_>>().join("/")
}

struct AuthWalk {
    scene: Scene,
    operations: Vec<Operation>,
    task: String,
}

async fn walk() -> AuthWalk {
    let scene = Scene::new().await;
    scene.delayed("work", |config| config).await;
    let task = scene.submit(Task::of("work").key("order-1").delay("5h")).await;
    let operations = operations(&scene.api).await;
    let closed = operations.into_iter().filter(|one| !OPEN.contains(&one.template.as_str())).collect();
    AuthWalk { scene, operations: closed, task }
}

impl AuthWalk {
    /// An empty object: enough to get past the credentials, and wrong enough to change nothing.
    async fn call(&self, api: &Api, operation: &Operation) -> (u16, String) {
        let path = path(operation, &self.task);
        let body = operation.writes().then(|| b"{\"no_such_field\":1}".to_vec());
        let answer = api.try_send(operation.method.clone(), &path, &[], body).await;
        let answer = answer.unwrap_or_else(|e| panic!("{} {path} was not answered: {e:?}", operation.method));
        (answer.status, format!("{} {path}: {} {}", operation.method, answer.status, answer.text))
    }
}

#[tokio::test]
async fn without_a_good_key_nothing_is_answered() {
    let walk = walk().await;
    let keys = [
        walk.scene.api.without_key(),
        walk.scene.api.with_key("not-a-key-that-anybody-made"),
        walk.scene.api.with_key(""),
    ];
    for operation in &walk.operations {
        for api in &keys {
            let (status, said) = walk.call(api, operation).await;
            assert_eq!(status, 401, "{said}");
        }
    }
    println!("{} operations, each refused without a good key", walk.operations.len());
}

#[tokio::test]
async fn a_removed_or_expired_key_is_no_key() {
    let scene = Scene::new().await;
    let made = json!({ "name": "gone", "scopes": ["read"] });
    let made = scene.api.post(&format!("/apps/{APP}/keys"), &made).await.expect(201);
    let api = scene.api.with_key(made["key"].as_str().unwrap());
    api.get(&format!("/apps/{APP}")).await.expect(200);
    let id = made["id"].as_str().expect("ids are strings");
    scene.api.delete(&format!("/apps/{APP}/keys/{id}")).await.expect(204);
    // Within 5 s everywhere; in the process that removed it, at once.
    api.get(&format!("/apps/{APP}")).await.refused(401, "unauthenticated");
    let listed = scene.api.get(&format!("/apps/{APP}/keys")).await.expect(200);
    assert!(!listed.to_string().contains(made["key"].as_str().unwrap()), "keys are shown once");
}

#[tokio::test]
async fn a_key_of_another_app_sees_and_changes_nothing_here() {
    let walk = walk().await;
    walk.scene.api.app("other").await;
    let key = walk.scene.api.key("other", &["admin"]).await;
    let api = walk.scene.api.with_key(&key);
    for operation in walk.operations.iter().filter(|one| one.of_app()) {
        let (status, said) = walk.call(&api, operation).await;
        assert!([403, 404].contains(&status), "{said}");
    }
    // It does not even learn which of them exist.
    let there = api.get(&format!("/tasks/{}", walk.task)).await.refused(404, "not_found");
    let not_there = api.get(&format!("/tasks/{}", u64::MAX / 4)).await.refused(404, "not_found");
    assert_eq!(there["title"], not_there["title"]);
    api.get("/apps/other").await.expect(200);
    let apps = api.get("/apps").await;
    assert!(!apps.text.contains(&format!("\"{APP}\"")), "{}", apps.text);
}

/// What a scope may call, as API.md section 1 says it.
fn allowed(scope: &str, operation: &Operation) -> bool {
    let template = operation.template.as_str();
    let task_action = ["cancel", "pause", "resume", "postpone", "run"]
        .iter()
        .any(|action| template.ends_with(&format!("/{action}")))
        && (template.contains("/tasks/") || template.contains("/keys/{key}"));
    // A run by hand answers as a submit, and makes no more than one.
    let submits =
        ["/tasks", "/tasks/batch", "/configs/{config}/run"].iter().any(|end| template.ends_with(end));
    let about_keys = template.contains("/apps/{app}/keys");
    let gets = !operation.writes();
    match scope {
        "read" => gets && !about_keys,
        "submit" => {
            (operation.writes() && (submits || task_action))
                || (gets && (template.ends_with("/tasks/{id}") || template.contains("/keys/{key}")))
        }
        "manage" => !about_keys && (gets || template != "/api/v1/apps/{app}"),
        _ => true,
    }
}

#[tokio::test]
async fn each_scope_opens_its_own_calls_and_no_others() {
    let walk = walk().await;
    let mut refused = 0;
    for scope in ["read", "submit", "manage", "admin"] {
        let key = walk.scene.api.key(APP, &[scope]).await;
        let api = walk.scene.api.with_key(&key);
        for operation in walk.operations.iter().filter(|one| one.of_app()) {
            let destroys = operation.method == Method::DELETE || operation.template.ends_with("/disable");
            let may = allowed(scope, operation);
            if may && destroys {
                continue;
            }
            let (status, said) = walk.call(&api, operation).await;
            let denied = status == 403 || status == 401;
            // The previews of `submit` may see more than they must; what matters is what they may change.
            assert!(!(may && denied), "`{scope}` is kept from what it may: {said}");
            if !may && operation.writes() {
                assert!([403, 404].contains(&status), "`{scope}` is let in: {said}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "{refused} refusals only");
}

#[tokio::test]
async fn global_calls_need_a_global_key_and_nobody_grants_more_than_they_have() {
    let walk = walk().await;
    let admin = walk.scene.api.with_key(&walk.scene.api.key(APP, &["admin"]).await);
    admin.post("/apps", &json!({ "name": "mine" })).await.refused(403, "forbidden");
    for path in ["/nodes", "/audit"] {
        let status = admin.get(path).await.status;
        assert!([403, 404].contains(&status), "{path}: {status}");
    }
    let manage = walk.scene.api.with_key(&walk.scene.api.key(APP, &["manage"]).await);
    let key = json!({ "name": "more", "scopes": ["admin"] });
    manage.post(&format!("/apps/{APP}/keys"), &key).await.refused(403, "forbidden");
    let submit = walk.scene.api.with_key(&walk.scene.api.key(APP, &["submit"]).await);
    let config = Config::delayed("mine", &walk.scene.receiver.url("/")).json();
    submit.post(&format!("/apps/{APP}/configs"), &config).await.refused(403, "forbidden");
    submit.post(&format!("/tasks/{}/replay", walk.task), &json!({})).await.refused(403, "forbidden");
    submit.post(&format!("/tasks/{}/cancel", walk.task), &json!({})).await.expect(200);
}
