//! The usual start of a test: a service with the app `shop`, and a receiver.

use serde_json::Value;
use tsp_core::{Millis, Timestamp};

use super::tsp::Settings;
use super::{Api, Arrival, Config, Receiver, Task, Tsp, now};

pub(crate) const APP: &str = "shop";

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) tsp: Tsp,
    pub(crate) api: Api,
    pub(crate) receiver: Receiver,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Tsp::settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::on(settings.start().await).await
    }

    pub(crate) async fn on(tsp: Tsp) -> Self {
        let api = tsp.api();
        api.app(APP).await;
        Self { tsp, api, receiver: Receiver::start().await }
    }

    /// A delayed config whose callbacks come to `/<name>`, changed by `change` before it is made.
    pub(crate) async fn delayed(&self, name: &str, change: impl FnOnce(Config) -> Config) -> Value {
        let config = Config::delayed(name, &self.receiver.url(&format!("/{name}")));
        self.api.config(APP, change(config)).await
    }

    /// A cron config whose callbacks come to `/<name>`, changed by `change` before it is made.
    pub(crate) async fn cron(
        &self,
        name: &str,
        schedule: &Value,
        change: impl FnOnce(Config) -> Config,
    ) -> Value {
        let config = Config::cron(name, &self.receiver.url(&format!("/{name}")), schedule);
        self.api.config(APP, change(config)).await
    }

    /// Submits and returns the id.
    pub(crate) async fn submit(&self, task: Task) -> String {
        id_of(&self.api.submit(APP, task).await)
    }

    /// Submits one that is due soon, and does `action` to it before that: on a machine that was too slow for it, with
    /// another one that has more time. Returns its id, when it is due, and the answer.
    pub(crate) async fn act_before_its_time(&self, config: &str, action: &str) -> (String, Timestamp, Value) {
        for doubled in 0..6 {
            let due = now().plus(Millis::from_ms(900 << doubled));
            let id = self.submit(Task::of(config).at(due)).await;
            let answer = self.api.act(&format!("/tasks/{id}/{action}")).await;
            if now() < due {
                return (id, due, answer.expect(200));
            }
        }
        panic!("this machine does not get to `{action}` in half a minute");
    }

    /// Submits one that is due after all others of the test and waits for its callback: what has not
    /// come by then was not sent.
    pub(crate) async fn pass_sentinel(&self, after_ms: i64) {
        self.pass_sentinel_at(now().plus(Millis::from_ms(after_ms))).await;
    }

    pub(crate) async fn pass_sentinel_at(&self, due: Timestamp) {
        self.delayed("sentinel", |config| config).await;
        self.submit(Task::of("sentinel").at(due)).await;
        self.receiver.nth_at("/sentinel", 1).await;
    }

    /// Whether this task was called so far.
    pub(crate) fn was_called(&self, id: &str) -> bool {
        self.receiver.arrivals().iter().map(Arrival::task).any(|task| task == id)
    }
}

/// The id of a task as the API shows it.
#[track_caller]
pub(crate) fn id_of(task: &Value) -> String {
    task["id"].as_str().unwrap_or_else(|| panic!("no id in {task}")).to_owned()
}
