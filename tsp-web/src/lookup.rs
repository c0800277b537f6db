//! From names in a path to what they name, with the caller's rights checked on the way.

use std::sync::Arc;

use tsp_core::Name;
use tsp_core::config::{TaskConfig, Visibility};
use tsp_store::catalog::{App, Scope};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

/// An app for a caller with any one of `scopes`. Apps of others are as unknown as those that do not exist.
pub fn app(state: &WebState, caller: &Caller, name: &str, scopes: &[Scope]) -> ApiResult<Arc<App>> {
    let app = state.store.book().app(name).filter(|app| caller.sees(app.id)).ok_or_else(|| no_app(name))?;
    caller.require_any(scopes, &app)?;
    Ok(app)
}

/// A config of an app of the caller's.
pub fn config(
    state: &WebState,
    caller: &Caller,
    app_name: &str,
    name: &str,
    scopes: &[Scope],
) -> ApiResult<(Arc<App>, Arc<TaskConfig>)> {
    let app = app(state, caller, app_name, scopes)?;
    let config = Name::new(name).ok().and_then(|name| state.store.book().find_config(app.id, &name));
    let config = config.ok_or_else(|| no_config(app_name, name))?;
    Ok((app, config))
}

/// A public config of an app that the caller does not belong to.
pub(crate) fn public_config(
    state: &WebState,
    caller: &Caller,
    app_name: &str,
    name: &str,
) -> Option<(Arc<App>, Arc<TaskConfig>)> {
    let app = state.store.book().app(app_name).filter(|app| !caller.sees(app.id))?;
    let config = state.store.book().find_config(app.id, &Name::new(name).ok()?)?;
    (config.spec.visibility == Visibility::Public).then_some((app, config))
}

pub fn no_app(name: &str) -> ApiError {
    ApiError::not_found(format_args!("app `{}`", shown(name)))
}

pub fn no_config(app: &str, name: &str) -> ApiError {
    ApiError::not_found(format_args!("config `{}/{}`", shown(app), shown(name)))
}

/// What a caller sent, kept short and printable for an answer.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
