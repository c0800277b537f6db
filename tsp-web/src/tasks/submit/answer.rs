//! What a submit came to, as it is sent and as it is kept.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tsp_api::ErrorCode;
use tsp_api::task::json::TaskJson;
use tsp_api::task::submit::SubmitResult;
use tsp_core::config::TaskConfig;
use tsp_core::task::{Status, Task};
use tsp_core::{ShardId, Timestamp};
use tsp_store::idempotency::StoredAnswer;
use tsp_store::tasks::SubmitOutcome;

use crate::error::{ApiError, ApiResult};
use crate::tasks::view;

/// The names that an answer needs besides the row.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    config: Arc<TaskConfig>,
    /// Whether the caller may see payloads.
    payload: bool,
}

/// A task that was saved or found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseView<'a> {
    names: &'a Names,
    pub(crate) task: &'a Task,
    pub(crate) result: SubmitResult,
    pub(crate) after_current: bool,
}

/// [`tsp_api::task::submit::SubmitAnswer`], borrowed.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    task: TaskJson<'a>,
    result: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    after_current: bool,
}

impl Names {
    pub(crate) fn new(config: Arc<TaskConfig>, payload: bool) -> Self {
        Self { config, payload }
    }

    pub(crate) fn config(&self) -> &TaskConfig {
        &self.config
    }

    /// 409 and 404 for what the store refused.
    pub(crate) fn shown<'a>(&'a self, done: &'a SubmitOutcome) -> ApiResult<ResponseView<'a>> {
        let (task, result, after_current) = match done {
            SubmitOutcome::Created(task) => (task, SubmitResult::Created, false),
            SubmitOutcome::Existing(task) => (task, SubmitResult::Existing, false),
            SubmitOutcome::Reset { task, after_current } => (task, SubmitResult::Reset, *after_current),
            SubmitOutcome::ConfigDisabled => {
                let detail = "the config is disabled and takes no tasks; enable it first";
                return Err(ApiError::new(ErrorCode::ConfigDisabled, detail));
            }
            SubmitOutcome::NotAtHome => {
                let detail = "the config's `span` was changed just now; send the task again";
                return Err(ApiError::unavailable(detail, 1));
            }
            SubmitOutcome::ConfigGone => {
                return Err(crate::lookup::no_config(
                    self.config.app.as_str(),
                    self.config.spec.name.as_str(),
                ));
            }
        };
        Ok(ResponseView { names: self, task, result, after_current })
    }

    /// For a single submit's idempotency key. Refusals are not kept.
    pub(crate) fn stored(&self, done: &SubmitOutcome) -> Option<StoredAnswer> {
        let shown = self.shown(done).ok()?;
        Some(StoredAnswer {
            status: shown.status().as_u16(),
            body: view::to_vec(&shown.document()).ok()?.into(),
            location: shown.location().and_then(|location| location.to_str().map(str::to_owned).ok()),
        })
    }
}

impl<'a> ResponseView<'a> {
    pub(crate) fn status(&self) -> StatusCode {
        match self.result {
            SubmitResult::Created => StatusCode::CREATED,
            SubmitResult::Existing | SubmitResult::Reset => StatusCode::OK,
        }
    }

    /// Of what was made.
    pub(crate) fn location(&self) -> Option<HeaderValue> {
        let made = self.result == SubmitResult::Created;
        made.then(|| HeaderValue::try_from(format!("/api/v1/tasks/{}", self.task.id)).ok()).flatten()
    }

    pub(crate) fn document(&self) -> Document<'a> {
        let task = view::shown(self.task, &self.names.config, self.names.payload);
        Document { task, result: self.result.as_str(), after_current: self.after_current }
    }
}

/// When the config has something due again, if at all: a found or flagged task is due when it was.
pub(crate) fn wake(done: &SubmitOutcome) -> Option<(ShardId, Timestamp)> {
    match done {
        SubmitOutcome::Created(task) | SubmitOutcome::Reset { task, .. } => {
            (task.status == Status::Scheduled).then_some((task.id.shard(), task.due_at))
        }
        SubmitOutcome::Existing(_)
        | SubmitOutcome::ConfigDisabled
        | SubmitOutcome::ConfigGone
        | SubmitOutcome::NotAtHome => None,
    }
}
