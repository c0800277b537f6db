//! From names in a path to what they name, with the caller's rights checked on the way.

use std::sync::Arc;

use tsp_core::Name;
use tsp_core::config::{TaskConfig, Visibility};
use tsp_core::text::is_printable;
use tsp_store::catalog::{App, Scope};

use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

/// What `look` finds in the config cache; before it is nothing, the store asks for what other nodes have changed.
pub(crate) async fn find<T>(state: &WebState, look: impl Fn() -> Option<T> + Send) -> ApiResult<Option<T>> {
    if let Some(found) = look() {
        return Ok(Some(found));
    }
    state.store.refresh().await?;
    Ok(look())
}

/// An app for a caller with any one of `scopes`. Apps of others are as unknown as those that do not exist.
pub async fn app(state: &WebState, caller: &Caller, name: &str, scopes: &[Scope]) -> ApiResult<Arc<App>> {
    let seen = find(state, || state.store.config_cache().app(name).filter(|app| caller.sees(app.id))).await?;
    let app = seen.ok_or_else(|| no_app(name))?;
    caller.require_any(scopes, &app)?;
    Ok(app)
}

/// A config of an app of the caller's.
pub async fn config(
    state: &WebState,
    caller: &Caller,
    app_name: &str,
    name: &str,
    scopes: &[Scope],
) -> ApiResult<(Arc<App>, Arc<TaskConfig>)> {
    let app = app(state, caller, app_name, scopes).await?;
    let config = config_named(state, &app, name).await?.filter(|config| is_open_to(caller, config));
    Ok((app, config.ok_or_else(|| no_config(app_name, name))?))
}

/// Whether a caller who sees the config's app sees the config too: a private one is known to those who manage
/// configs, and to nobody else.
pub(crate) fn is_open_to(caller: &Caller, config: &TaskConfig) -> bool {
    config.spec.visibility != Visibility::Private || caller.grants(Scope::Manage)
}

/// What is no name names no config.
pub(crate) async fn config_named(
    state: &WebState,
    app: &App,
    name: &str,
) -> ApiResult<Option<Arc<TaskConfig>>> {
    let Ok(name) = Name::new(name) else { return Ok(None) };
    find(state, || state.store.config_cache().find_config(app.id, &name)).await
}

/// A public config of an app that the caller does not belong to, as far as this node knows.
pub(crate) fn public_config(
    state: &WebState,
    caller: &Caller,
    app_name: &str,
    name: &str,
) -> Option<(Arc<App>, Arc<TaskConfig>)> {
    let app = state.store.config_cache().app(app_name).filter(|app| !caller.sees(app.id))?;
    let config = state.store.config_cache().find_config(app.id, &Name::new(name).ok()?)?;
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
    text.chars().filter(|c| is_printable(*c)).take(64).collect()
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};
    use tsp_store::Catalog as _;

    use crate::testing::{Answer, Server, delayed};

    const APP: &str = "/api/v1/apps/trade";
    const CONFIG: &str = "/api/v1/apps/trade/configs/c";

    async fn start() -> Server {
        let server = Server::start().await;
        server.app("trade").await;
        server.call(Method::PUT, CONFIG, delayed("c")).await.expect(201);
        server.store.refreshed();
        server
    }

    async fn batch(server: &Server, configs: &[&str]) -> Answer {
        let tasks: Vec<_> = configs.iter().map(|name| json!({"config": name})).collect();
        server.post(&format!("{APP}/tasks/batch"), json!({ "tasks": tasks })).await
    }

    #[tokio::test]
    async fn what_another_node_has_just_made_is_found() {
        let server = start().await;
        let task =
            server.post(&format!("{APP}/tasks"), json!({"config": "c", "delay": "1h"})).await.expect(201);
        let task = format!("/api/v1/tasks/{}", task["task"]["id"].as_str().unwrap());
        let search = format!("{APP}/tasks?config=c");
        for path in [APP, CONFIG, &task, &search, &format!("{APP}/configs"), &format!("{CONFIG}/fires")] {
            server.store.hide("trade");
            let status = server.get(path).await.status;
            assert!(status == 200 || (path.ends_with("fires") && status == 409), "{path}: {status}");
            assert_eq!(server.store.refreshed(), 1, "{path}");
        }
        server.store.hide_configs(server.store.config_cache().all_configs());
        assert_eq!(server.get(&search).await.expect(200)["items"].as_array().map(Vec::len), Some(1));
        server.store.hide_configs(server.store.config_cache().all_configs());
        server.call(Method::PATCH, CONFIG, json!({"priority": 1})).await.expect(200);
        server.store.hide_configs(server.store.config_cache().all_configs());
        server.post(&format!("{APP}/tasks"), json!({"config": "c"})).await.expect(201);
        server.store.hide("trade");
        server.post(&format!("{APP}/tasks"), json!({"config": "c"})).await.expect(201);
    }

    #[tokio::test]
    async fn a_public_config_of_others_is_found() {
        let server = start().await;
        server.call(Method::PATCH, CONFIG, json!({"visibility": "public"})).await.expect(200);
        server.app("other").await;
        let key = server.key("other", &["read"]).await;
        server.store.hide("trade");
        let found = server.call_as(&key, Method::GET, CONFIG, Value::Null).await.expect(200);
        assert_eq!((&found["name"], &found["version"]), (&json!("c"), &Value::Null));
    }

    #[tokio::test]
    async fn a_batch_refreshes_once_and_what_is_known_costs_nothing() {
        let server = start().await;
        server.store.hide_configs(server.store.config_cache().all_configs());
        let lines = batch(&server, &["c", "nope", "c", "neither"]).await.expect(200);
        let statuses: Vec<_> = lines["results"].as_array().unwrap().iter().map(|it| &it["status"]).collect();
        assert_eq!(statuses, [201, 404, 201, 404]);
        assert_eq!(server.store.refreshed(), 1);
        batch(&server, &["c", "c"]).await.expect(200);
        server.get(CONFIG).await.expect(200);
        server.post(&format!("{APP}/tasks"), json!({"config": "c"})).await.expect(201);
        assert_eq!(server.store.refreshed(), 0);
        assert_eq!(server.get("/api/v1/apps/nope").await.refused().0, 404);
        assert_eq!(server.store.refreshed(), 1);
    }
}
