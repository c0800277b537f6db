//! From an id or a business key to the task it means, with the caller's rights checked on the way.

use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::task::Task;
use tsp_core::{TaskId, TaskKey};
use tsp_store::catalog::Scope;
use tsp_store::tasks::Subject;

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::state::WebState;

/// The path of calls by business key.
pub(super) type KeyPath = (String, String, String);

/// A task for a caller with any one of `scopes`. Tasks of other apps are as unknown as those that do not
/// exist.
pub(super) async fn find(
    state: &WebState,
    caller: &Caller,
    id: &str,
    scopes: &[Scope],
) -> ApiResult<(Task, Arc<TaskConfig>)> {
    let task_id: TaskId = id.parse().map_err(|_| no_task())?;
    let task = state.store.task(task_id).await?.ok_or_else(no_task)?;
    let config =
        lookup::find(state, || state.store.config_cache().config(task.config)).await?.ok_or_else(no_task)?;
    if !caller.sees(config.app_id) || !lookup::is_open_to(caller, &config) {
        return Err(no_task());
    }
    let app = state.store.config_cache().app_by_id(config.app_id).ok_or_else(no_task)?;
    caller.require_any(scopes, &app)?;
    Ok((task, config))
}

/// As [`find`], for a look at it alone: also a task that the caller's app has submitted to a public config of
/// another. `true` where its payload, which may be the config's, is not the caller's to see.
pub(super) async fn find_to_read(
    state: &WebState,
    caller: &Caller,
    id: &str,
    scopes: &[Scope],
) -> ApiResult<(Task, Arc<TaskConfig>, bool)> {
    let task_id: TaskId = id.parse().map_err(|_| no_task())?;
    let task = state.store.task(task_id).await?.ok_or_else(no_task)?;
    let submitter = task.extra.as_ref().and_then(|extra| extra.submitter);
    let is_own = submitter.is_some() && submitter == caller.app();
    if is_own && scopes.iter().any(|&scope| caller.grants(scope)) {
        let config = lookup::find(state, || state.store.config_cache().config(task.config)).await?;
        return Ok((task, config.ok_or_else(no_task)?, true));
    }
    let (task, config) = find(state, caller, id, scopes).await?;
    Ok((task, config, false))
}

/// What a key means, without asking whether it has tasks.
pub(super) async fn by_key(
    state: &WebState,
    caller: &Caller,
    (app, config, key): &KeyPath,
    scopes: &[Scope],
) -> ApiResult<(Subject, Arc<TaskConfig>)> {
    let (_, config) = lookup::config(state, caller, app, config, scopes).await?;
    // What is no key names no task.
    let key = TaskKey::new(key).map_err(|_| no_task_of_key())?;
    Ok((Subject::Key(config.id, key), config))
}

pub(super) fn no_task() -> ApiError {
    ApiError::not_found("the task")
}

pub(super) fn no_task_of_key() -> ApiError {
    ApiError::not_found("a task with this key")
}
