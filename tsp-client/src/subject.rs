//! Calls on one task, meant by its id or by its business key.

use http::Method;
use serde_json::json;
use tsp_api::task::change::{CancelAnswer, CompleteBody, PostponeBody, ProgressBody};
use tsp_api::task::{Attempt, AttemptList, Task};

use crate::client::Client;
use crate::error::Result;
use crate::request::Request;

/// One task. By key it is the open one, else the latest that ended; `add`ed ones go by id.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    client: &'a Client,
    path: Vec<&'a str>,
}

impl Client {
    pub fn task<'a>(&'a self, id: &'a str) -> Subject<'a> {
        Subject { client: self, path: vec!["tasks", id] }
    }

    pub fn by_key<'a>(&'a self, app: &'a str, config: &'a str, key: &'a str) -> Subject<'a> {
        Subject { client: self, path: vec!["apps", app, "configs", config, "keys", key] }
    }

    /// [`Subject::get`] by id.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`]; 404 for what does not exist or is foreign.
    pub async fn get(&self, id: &str) -> Result<Task> {
        self.task(id).get().await
    }

    /// [`Subject::get`] by business key.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_by_key(&self, app: &str, config: &str, key: &str) -> Result<Task> {
        self.by_key(app, config, key).get().await
    }

    /// An ended task again, under the same id.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`]; 409 `key_in_use` while another open task holds its key.
    pub async fn replay(&self, id: &str) -> Result<Task> {
        self.task(id).act("replay").send_json().await
    }

    /// Closed attempts, oldest first.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`].
    pub async fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        let list: AttemptList = self.call(Method::GET, ["tasks", id, "attempts"]).send_json().await?;
        Ok(list.items)
    }

    /// Ends what was answered with 202. Needs the callback's token, no key.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`]; 403 `wrong_token` for a wrong or old token.
    pub async fn complete(&self, id: &str, body: &CompleteBody) -> Result<Task> {
        self.task(id).act("complete").json(body).send_json().await
    }

    /// Reports how far an awaiting task is. Needs the callback's token, no key.
    ///
    /// # Errors
    /// As [`Client::complete`].
    pub async fn progress(&self, id: &str, body: &ProgressBody) -> Result<Task> {
        self.task(id).act("progress").json(body).send_json().await
    }
}

impl Subject<'_> {
    /// # Errors
    /// As all calls: [`crate::Error`].
    pub async fn get(&self) -> Result<Task> {
        self.client.call(Method::GET, self.path.iter().copied()).send_json().await
    }

    /// # Errors
    /// As all calls: [`crate::Error`]. Too late is no error but an answer.
    pub async fn cancel(&self) -> Result<CancelAnswer> {
        self.act("cancel").send_json().await
    }

    /// Holds a task that no attempt is running of.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`]; 409 `invalid_transition` says what is allowed.
    pub async fn pause(&self) -> Result<Task> {
        self.act("pause").send_json().await
    }

    /// # Errors
    /// As [`Subject::pause`].
    pub async fn resume(&self) -> Result<Task> {
        self.act("resume").send_json().await
    }

    /// To a point in time, RFC 3339 with an offset; also an earlier one.
    ///
    /// # Errors
    /// As [`Subject::pause`].
    pub async fn postpone_to(&self, execute_at: &str) -> Result<Task> {
        let body = PostponeBody { execute_at: Some(execute_at.to_owned()), delay: None };
        self.act("postpone").json(&body).send_json().await
    }

    /// To a time from now, a duration like `30m`.
    ///
    /// # Errors
    /// As [`Subject::pause`].
    pub async fn postpone_by(&self, delay: &str) -> Result<Task> {
        let body = PostponeBody { execute_at: None, delay: Some(delay.to_owned()) };
        self.act("postpone").json(&body).send_json().await
    }

    /// Due now.
    ///
    /// # Errors
    /// As [`Subject::pause`].
    pub async fn run(&self) -> Result<Task> {
        self.act("run").send_json().await
    }

    fn act(&self, action: &str) -> Request {
        let path = self.path.iter().copied().chain([action]);
        self.client.call(Method::POST, path).json(&json!({}))
    }
}
