//! Refusing submits on all nodes while something is done that no new task may meet (DESIGN.md section 6).

use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::task::Status;
use tsp_store::catalog::{ConfigSaved, Hold};
use tsp_store::search::{Order, Scope, TaskQuery};
use tsp_store::tasks::Actor;

use super::barrier::{self, Reach};
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::state::WebState;

const RETRY_AFTER_S: u64 = 5;

/// A config that takes no submits on any node.
#[derive(Debug)]
pub(super) struct SubmitFreeze {
    /// As it is now.
    pub(super) config: Arc<TaskConfig>,
    /// It was open, so it is opened again unless what it was closed for says otherwise.
    was_open: bool,
}

impl SubmitFreeze {
    /// Disables the config and waits until every living node knows. Not needed where changes are applied at
    /// once.
    ///
    /// # Errors
    /// 503 when some node does not get to know it in time: then the config is as it was.
    pub(super) async fn start(state: &WebState, by: &Actor, found: &Arc<TaskConfig>) -> ApiResult<Self> {
        let mut freeze = Self { config: found.clone(), was_open: false };
        if found.spec.enabled {
            match state.store.hold_config(found.id, Hold::Disable, by, state.now()).await? {
                ConfigSaved::Updated(config) => freeze = Self { config, was_open: true },
                ConfigSaved::NotFound => {
                    return Err(lookup::no_config(found.app.as_str(), found.spec.name.as_str()));
                }
                other => return Err(ApiError::internal(format!("unexpected answer to a hold: {other:?}"))),
            }
            state.hints.config_changed(found.id);
        }
        // Also when it was disabled already: that may have been a moment ago.
        match barrier::everywhere(state).await {
            Reach::Everywhere => Ok(freeze),
            Reach::Pending(seq) => {
                freeze.end(state, by).await;
                let detail =
                    "not every node knows yet that the config takes no tasks; nothing was changed, try again";
                Err(ApiError::unavailable(detail, RETRY_AFTER_S)
                    .with_internal(format_args!("config change {seq} was not applied by all")))
            }
        }
    }

    /// Whether nobody else has changed the config between `found` and now.
    pub(super) fn follows(&self, found: &TaskConfig) -> bool {
        self.config.version == found.version + i64::from(self.was_open)
    }

    /// Takes submits again, if it did. A failure is logged: the config then stays disabled, which everybody
    /// can see and mend.
    pub(super) async fn end(self, state: &WebState, by: &Actor) {
        let id = self.config.id;
        if !self.was_open || !state.store.config_cache().config(id).is_some_and(|now| self.frozen_by_us(&now))
        {
            return;
        }
        match state.store.hold_config(id, Hold::Enable, by, state.now()).await {
            Ok(_) => state.hints.config_changed(id),
            Err(error) => tracing::error!(config = %id, "the config stays disabled: {error}"),
        }
    }

    /// Whether `now` is disabled because we did it. Who changed something else meanwhile took that over; who
    /// changed nothing but the version has disabled it himself.
    fn frozen_by_us(&self, now: &TaskConfig) -> bool {
        let changed = now.spec != self.config.spec || now.paused != self.config.paused;
        !now.spec.enabled && (changed || now.version == self.config.version)
    }
}

/// Whether the config has an open task.
pub(super) async fn has_open(state: &WebState, found: &TaskConfig) -> ApiResult<bool> {
    let open = Status::ALL.into_iter().filter(|&status| status != Status::Ended).collect();
    let page = state
        .store
        .search(TaskQuery {
            scope: Scope::Config(found.id),
            key: None,
            statuses: open,
            results: Vec::new(),
            due_from: None,
            due_to: None,
            created_from: None,
            created_to: None,
            parent: None,
            order: Order::IdAsc,
            after: None,
            limit: 1,
        })
        .await?;
    Ok(!page.tasks.is_empty())
}
