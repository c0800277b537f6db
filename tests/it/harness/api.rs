//! A small client for the API: no types of the service, so that a test sees what is on the wire.

use std::sync::Once;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::documents::{Config, Task};
use super::in_time;
use super::process::Base;

/// How often [`Api::wait_until`] looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) call: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, if the status is the expected one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} answered {}: {}", self.call, self.status, self.text);
        self.json()
    }

    /// The body of a refusal, if status and code are the expected ones.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let call = self.call.clone();
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{call} answered {body}");
        body
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text)
            .unwrap_or_else(|e| panic!("{} answered no JSON ({e}): {}", self.call, self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One header for [`Api::send`].
pub(crate) fn header(name: &'static str, value: impl Into<String>) -> (&'static str, String) {
    (name, value.into())
}

#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: Base,
    key: Option<String>,
}

impl Api {
    pub(crate) fn new(key: &str) -> Self {
        static CRYPTO: Once = Once::new();
        CRYPTO.call_once(|| {
            rustls::crypto::ring::default_provider().install_default().expect("nobody else installs one");
        });
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a client without TLS settings can be built");
        Self { http, base: Base::default(), key: Some(key.to_owned()) }
    }

    pub(crate) fn set_base(&self, url: &str) {
        self.base.set(url);
    }

    pub(crate) fn base(&self) -> String {
        self.base.get()
    }

    /// The same service under another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same service under no key.
    pub(crate) fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// A request that may fail to be answered; `path` begins with `/`, the base is in it.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base.get()));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8_lossy(&response.bytes().await?).into_owned();
        Ok(Answer { call: format!("{method} {path}"), status, headers, text })
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Option<&Value>,
    ) -> Answer {
        let bytes = body.map(|body| body.to_string().into_bytes());
        let answer = self.try_send(method.clone(), path, headers, bytes).await;
        answer.unwrap_or_else(|e| panic!("{method} {path} was not answered: {e:?}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, &v1(path), &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, &v1(path), &[], Some(body)).await
    }

    /// A POST without a body, as the actions take it.
    pub(crate) async fn act(&self, path: &str) -> Answer {
        self.send(Method::POST, &v1(path), &[], None).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, &v1(path), &[], Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, &v1(path), &[], Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, &v1(path), &[], None).await
    }

    pub(crate) async fn metrics(&self) -> String {
        self.send(Method::GET, "/metrics", &[], None).await.text
    }

    pub(crate) async fn app(&self, name: &str) {
        self.post("/apps", &json!({ "name": name })).await.expect(201);
    }

    pub(crate) async fn key(&self, app: &str, scopes: &[&str]) -> String {
        let body = json!({ "name": scopes.join("-"), "scopes": scopes });
        let made = self.post(&format!("/apps/{app}/keys"), &body).await.expect(201);
        made["key"].as_str().expect("a new key is shown").to_owned()
    }

    pub(crate) async fn config(&self, app: &str, config: Config) -> Value {
        self.post(&format!("/apps/{app}/configs"), &config.json()).await.expect(201)
    }

    /// The task as it was created.
    pub(crate) async fn submit(&self, app: &str, task: Task) -> Value {
        let mut answer = self.post(&format!("/apps/{app}/tasks"), &task.json()).await.expect(201);
        answer["task"].take()
    }

    pub(crate) async fn task(&self, id: &str) -> Value {
        self.get(&format!("/tasks/{id}")).await.expect(200)
    }

    /// Waits until the task is in `state`.
    #[track_caller]
    pub(crate) fn wait_for(&self, id: &str, state: &str) -> impl Future<Output = Value> + use<> {
        let path = format!("/tasks/{id}");
        let state = state.to_owned();
        self.wait_until(&path, format!("state `{state}`"), move |task| task["state"] == state.as_str())
    }

    /// Waits until the task has ended with `result`; another result fails at once.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, id: &str, result: &str) -> impl Future<Output = Value> + use<> {
        let (wait, result) = (self.wait_for(id, "ended"), result.to_owned());
        async move {
            let task = wait.await;
            assert_eq!(task["result"], result.as_str(), "{task:#}");
            task
        }
    }

    /// Looks at `path` again and again until `good` holds: with the metrics the only polling in these tests, for
    /// what no signal tells. Bounded by [`super::PATIENCE`]; a failure shows what was seen last.
    #[track_caller]
    pub(crate) fn wait_until<F: Fn(&Value) -> bool>(
        &self,
        path: &str,
        what: String,
        good: F,
    ) -> impl Future<Output = Value> + use<F> {
        let (api, path) = (self.clone(), path.to_owned());
        let seen = std::sync::Arc::new(parking_lot::Mutex::new(Value::Null));
        let shown = std::sync::Arc::clone(&seen);
        let looking = async move {
            let mut tick = interval(LOOK_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                // A service that is down for a moment is asked again.
                let answer = api.try_send(Method::GET, &v1(&path), &[], None).await;
                let Ok(answer) = answer else { continue };
                if answer.status != 200 {
                    *seen.lock() = Value::String(format!("{} {}", answer.status, answer.text));
                    continue;
                }
                let value = answer.json();
                if good(&value) {
                    return value;
                }
                *seen.lock() = value;
            }
        };
        in_time(Lazily(move || format!("{what}; last seen: {:#}", shown.lock())), looking)
    }
}

fn v1(path: &str) -> String {
    format!("/api/v1{path}")
}

/// Text that is made only when it is shown.
struct Lazily<F>(F);

impl<F: Fn() -> String> std::fmt::Display for Lazily<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&(self.0)())
    }
}
