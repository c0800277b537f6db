//! Submits, one by one and in batches.

use http::Method;
use serde::Serialize;
use tsp_api::task::submit::{BatchAnswer, DuplicateKey, SubmitAnswer, SubmitTask};

use crate::client::Client;
use crate::error::Result;
use crate::request::Request;

/// [`tsp_api::task::submit::SubmitBatch`], borrowed.
#[derive(Serialize)]
struct Batch<'a> {
    tasks: &'a [SubmitTask],
}

impl Client {
    /// Makes a task. Durable when it answers.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`].
    pub async fn submit(&self, app: &str, task: &SubmitTask) -> Result<SubmitAnswer> {
        self.submit_request(app, task).send_json().await
    }

    /// [`Client::submit`] under an `Idempotency-Key` of the caller's choice (one per task it wants): the
    /// task is made once, however often this is called within a day, here or after a crash.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`].
    pub async fn submit_once(
        &self,
        app: &str,
        task: &SubmitTask,
        idempotency_key: &str,
    ) -> Result<SubmitAnswer> {
        self.submit_request(app, task).once(idempotency_key).send_json().await
    }

    /// Makes up to 1000 tasks; each stands alone, so look at every result.
    ///
    /// # Errors
    /// As all calls: [`crate::Error`]. A bad task is no error of the call but a result.
    pub async fn submit_batch(&self, app: &str, tasks: &[SubmitTask]) -> Result<BatchAnswer> {
        self.batch_request(app, tasks).send_json().await
    }

    /// [`Client::submit_batch`] under an `Idempotency-Key`: element i has `<key>#<i>`.
    ///
    /// # Errors
    /// As [`Client::submit_batch`].
    pub async fn submit_batch_once(
        &self,
        app: &str,
        tasks: &[SubmitTask],
        idempotency_key: &str,
    ) -> Result<BatchAnswer> {
        self.batch_request(app, tasks).once(idempotency_key).send_json().await
    }

    fn submit_request(&self, app: &str, task: &SubmitTask) -> Request {
        self.call(Method::POST, ["apps", app, "tasks"]).json(task).repeatable(ignores_duplicates(task))
    }

    fn batch_request(&self, app: &str, tasks: &[SubmitTask]) -> Request {
        let repeatable = tasks.iter().all(ignores_duplicates);
        self.call(Method::POST, ["apps", app, "tasks", "batch"]).json(&Batch { tasks }).repeatable(repeatable)
    }
}

/// A second submit of it finds the first one's task. The policy must be its own: the config's may be another.
fn ignores_duplicates(task: &SubmitTask) -> bool {
    task.key.is_some() && task.on_duplicate_key == Some(DuplicateKey::Ignore)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_happen_twice_is_repeatable() {
        let plain = SubmitTask::new("c");
        let keyed = SubmitTask::new("c").key("k");
        assert!(!ignores_duplicates(&plain));
        assert!(!ignores_duplicates(&keyed));
        assert!(!ignores_duplicates(&keyed.clone().on_duplicate_key(DuplicateKey::Reset)));
        assert!(!ignores_duplicates(&plain.on_duplicate_key(DuplicateKey::Ignore)));
        assert!(ignores_duplicates(&keyed.on_duplicate_key(DuplicateKey::Ignore)));
    }
}
