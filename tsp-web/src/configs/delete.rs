//! `DELETE /apps/{app}/configs/{config}`.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use tokio::time::{Duration, Instant};
use tsp_api::ErrorCode;
use tsp_core::config::TaskConfig;
use tsp_store::catalog::{Deleted, Expected, Hold, Scope};

use super::precondition::Precondition;
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
/// cancelled first. Tasks that are executing are waited for, for five seconds.
#[utoipa::path(
    delete, path = "/apps/{app}/configs/{config}", tag = "configs",
    params(
        ("app" = String, Path), ("config" = String, Path),
        ("cancel_open" = Option<bool>, Query),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is deleted."),
    ),
    responses(
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
) -> ApiResult<StatusCode> {
    let (_, found) = lookup::config(&state, &caller, &app, &config, &[Scope::Manage])?;
    let cancel_open = query.bool("cancel_open").unwrap_or(false);
    query.finish()?;
    precondition.check(Some(&found))?;
    let deletion = Deletion { state: &state, caller: &caller, config: &found };
    let expected = if precondition.is_given() { Expected::Version(found.version) } else { Expected::Any };
    let deleted = match deletion.attempt(expected).await? {
        Deleted::InUse(_) if cancel_open => deletion.cancel_and_attempt().await?,
        deleted => deleted,
    };
    match deleted {
        Deleted::Deleted => {
            state.hints.config_changed(found.id);
            Ok(StatusCode::NO_CONTENT)
        }
        Deleted::NotFound => Err(lookup::no_config(&app, &config)),
        Deleted::VersionMismatch => Err(Precondition::failed()),
        Deleted::InUse(open) => Err(has_open_tasks(open, cancel_open)),
    }
}

fn has_open_tasks(open: usize, cancel_open: bool) -> ApiError {
    let detail = if cancel_open {
        format!(
            "{open} tasks are executing and end with their attempt; the config is disabled, delete it again then"
        )
    } else {
        format!("{open} tasks are open; wait for them, or delete with `cancel_open=true`")
    };
    ApiError::new(ErrorCode::HasOpenTasks, detail)
}

struct Deletion<'a> {
    state: &'a WebState,
    caller: &'a Caller,
    config: &'a TaskConfig,
}

impl Deletion<'_> {
    async fn attempt(&self, expected: Expected) -> ApiResult<Deleted> {
        let (state, by) = (self.state, self.caller.actor());
        Ok(state.store.delete_config(self.config.id, expected, &by, state.now()).await?)
    }

    /// Disables the config first, so that nothing new comes while its tasks are cancelled.
    async fn cancel_and_attempt(&self) -> ApiResult<Deleted> {
        let (store, by, id) = (&self.state.store, self.caller.actor(), self.config.id);
        store.hold_config(id, Hold::Disable, &by, self.state.now()).await?;
        self.state.hints.config_changed(id);
        let start = Instant::now();
        loop {
            let cancelled = store.cancel_open(id, CANCEL_CHUNK, &by, self.state.now()).await?;
            if cancelled.left == 0 || cancelled.cancelled == 0 {
                match self.attempt(Expected::Any).await? {
                    Deleted::InUse(open) if start.elapsed() >= PATIENCE => return Ok(Deleted::InUse(open)),
                    Deleted::InUse(_) => tokio::time::sleep(POLL).await,
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
