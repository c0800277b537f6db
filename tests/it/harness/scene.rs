//! The usual start of a test: a service with the app `shop`, and a receiver.

use serde_json::Value;

use super::tsp::Settings;
use super::{Api, Config, Receiver, Task, Tsp};

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

    /// Submits one that is due after all others of the test and waits for its callback: what has not
    /// come by then was not sent.
    pub(crate) async fn pass_sentinel(&self, after_ms: i64) {
        self.delayed("sentinel", |config| config).await;
        self.submit(Task::of("sentinel").in_ms(after_ms)).await;
        self.receiver.nth_at("/sentinel", 1).await;
    }
}

/// The id of a task as the API shows it.
#[track_caller]
pub(crate) fn id_of(task: &Value) -> String {
    task["id"].as_str().unwrap_or_else(|| panic!("no id in {task}")).to_owned()
}
