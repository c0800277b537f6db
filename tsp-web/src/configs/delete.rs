//! `DELETE /apps/{app}/configs/{config}`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use tokio::time::{Duration, Instant};
use tsp_api::ErrorCode;
use tsp_api::cluster::PendingChange;
use tsp_core::config::TaskConfig;
use tsp_store::catalog::{DeleteResult, ExpectedVersion, Hold, Scope};
use tsp_store::tasks::Actor;

use super::barrier;
use super::precondition::Precondition;
use super::save::read_dry_run;
use super::submit_freeze::{SubmitFreeze, has_open};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

/// How many open tasks are cancelled in one go.
const CANCEL_CHUNK: usize = 1_000;
/// How long a delete waits for tasks that are executing.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// Delete a config
///
/// Needs that no task is open, or `cancel_open=true`: then it is disabled, and its open tasks are
/// cancelled first. Tasks that are executing are waited for, for five seconds. Answered when every living
/// node has applied it.
#[utoipa::path(
    delete, path = "/apps/{app}/configs/{config}", tag = "configs",
    params(
        ("app" = String, Path), ("config" = String, Path),
        ("cancel_open" = Option<bool>, Query),
        ("dry_run" = Option<bool>, Query, description = "Checks and answers as ever, and changes nothing: no version, no line in the audit log, nothing kept under an idempotency key."),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is deleted."),
    ),
    responses(
        (status = 202, description = "Deleted; some node has not applied it within five seconds.", body = PendingChange),
        (status = 204, description = "Deleted."),
        (status = 409, description = "It has open tasks."),
        (status = 412, description = "The config has another version."),
    )
)]
pub(super) async fn delete_config(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path((app, config)): Path<(String, String)>,
    mut query: Query,
    precondition: Precondition,
) -> ApiResult {
    let (_, found) = lookup::config(&state, &caller, &app, &config, &[Scope::Manage]).await?;
    let cancel_open = query.bool("cancel_open").unwrap_or(false);
    let dry_run = read_dry_run(&mut query);
    query.finish()?;
    precondition.check(Some(&found))?;
    if dry_run {
        check_none_open(&state, &found, cancel_open).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let id = found.id;
    let pinned = precondition.is_given();
    let deletion = Deletion { state: state.clone(), by: caller.actor(), config: found, cancel_open, pinned };
    match state.to_the_end(deletion.run()).await? {
        DeleteResult::Deleted => {
            state.hints.config_changed(id);
            Ok(barrier::everywhere(&state).await.answer(StatusCode::NO_CONTENT))
        }
        DeleteResult::NotFound => Err(lookup::no_config(&app, &config)),
        DeleteResult::VersionMismatch => Err(Precondition::failed()),
        DeleteResult::InUse(open) => {
            let detail = format!("{open} tasks are open; wait for them, or delete with `cancel_open=true`");
            Err(ApiError::new(ErrorCode::HasOpenTasks, detail))
        }
    }
}

async fn check_none_open(state: &WebState, found: &TaskConfig, cancel_open: bool) -> ApiResult<()> {
    if !cancel_open && has_open(state, found).await? {
        let detail = "tasks are open; wait for them, or delete with `cancel_open=true`";
        return Err(ApiError::new(ErrorCode::HasOpenTasks, detail));
    }
    Ok(())
}

/// What was done stays done, so the refusal tells it.
fn still_executing(open: usize, cancelled: usize) -> ApiError {
    let detail = format!(
        "the config is disabled now and {cancelled} tasks are cancelled, but {open} are executing and end with \
        their attempt; delete the config again then"
    );
    ApiError::new(ErrorCode::HasOpenTasks, detail)
}

struct Deletion {
    state: Arc<WebState>,
    by: Actor,
    config: Arc<TaskConfig>,
    cancel_open: bool,
    /// Only the version that `config` has.
    pinned: bool,
}

impl Deletion {
    async fn run(self) -> ApiResult<DeleteResult> {
        if !barrier::is_immediate(&self.state).await? {
            return self.freeze().await;
        }
        match self.attempt(self.expected(&self.config)).await? {
            DeleteResult::InUse(_) if self.cancel_open => {
                // So that nothing new comes while its tasks are cancelled.
                self.state
                    .store
                    .hold_config(self.config.id, Hold::Disable, &self.by, self.state.now())
                    .await?;
                self.state.hints.config_changed(self.config.id);
                self.cancel_and_attempt().await
            }
            deleted => Ok(deleted),
        }
    }

    /// While no node takes submits: another one could save a task between the count and the deletion.
    async fn freeze(&self) -> ApiResult<DeleteResult> {
        check_none_open(&self.state, &self.config, self.cancel_open).await?;
        let freeze = SubmitFreeze::start(&self.state, &self.by, &self.config).await?;
        if self.pinned && !freeze.follows(&self.config) {
            freeze.end(&self.state, &self.by).await;
            return Ok(DeleteResult::VersionMismatch);
        }
        match self.attempt(self.expected(&freeze.config)).await {
            Ok(DeleteResult::Deleted) => Ok(DeleteResult::Deleted),
            Ok(DeleteResult::InUse(_)) if self.cancel_open => self.cancel_and_attempt().await,
            refused => {
                freeze.end(&self.state, &self.by).await;
                refused
            }
        }
    }

    fn expected(&self, config: &TaskConfig) -> ExpectedVersion {
        if self.pinned { ExpectedVersion::Version(config.version) } else { ExpectedVersion::Any }
    }

    async fn attempt(&self, expected: ExpectedVersion) -> ApiResult<DeleteResult> {
        let state = &self.state;
        Ok(state.store.delete_config(self.config.id, expected, &self.by, state.now()).await?)
    }

    /// Of a config that takes no submits any more.
    async fn cancel_and_attempt(&self) -> ApiResult<DeleteResult> {
        let (store, by, id) = (&self.state.store, &self.by, self.config.id);
        let start = Instant::now();
        let mut count = 0;
        loop {
            let cancelled = store.cancel_open(id, CANCEL_CHUNK, by, self.state.now()).await?;
            count += cancelled.cancelled;
            if cancelled.left == 0 || cancelled.cancelled == 0 {
                match self.attempt(ExpectedVersion::Any).await? {
                    DeleteResult::InUse(open) if start.elapsed() >= PATIENCE => {
                        return Err(still_executing(open, count));
                    }
                    DeleteResult::InUse(_) => tokio::time::sleep(POLL).await,
                    deleted => return Ok(deleted),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{BOOTSTRAP, Server, delayed};

    #[tokio::test]
    async fn needs_no_open_tasks_or_cancels_them() {
        let server = Server::start().await;
        server.app("trade").await;
        let config = "/api/v1/apps/trade/configs/c";
        server.call(Method::PUT, config, delayed("c")).await.expect(201);
        let submit = json!({"config": "c", "delay": "1h"});
        let task = server.post("/api/v1/apps/trade/tasks", submit).await.expect(201);
        let delete = |query: &str| {
            let path = format!("{config}{query}");
            let server = &server;
            async move { server.call(Method::DELETE, &path, Value::Null).await }
        };
        assert_eq!(delete("").await.refused(), (409, "has_open_tasks".into()));
        assert_eq!(delete("?cancel_open=perhaps").await.refused(), (400, "invalid_query".into()));
        let auth = format!("Bearer {BOOTSTRAP}");
        let headers = [("authorization", auth.as_str()), ("if-match", "\"7\"")];
        let stale = server.call_with(Method::DELETE, config, &headers, Value::Null).await;
        assert_eq!(stale.refused(), (412, "version_mismatch".into()));
        let deleted = delete("?cancel_open=true").await;
        assert_eq!((deleted.status.as_u16(), deleted.body.len()), (204, 0));
        assert_eq!(delete("").await.refused(), (404, "not_found".into()));
        let path = format!("/api/v1/tasks/{}", task["task"]["id"].as_str().unwrap());
        assert!(matches!(server.get(&path).await.status.as_u16(), 200 | 404));
    }
}
