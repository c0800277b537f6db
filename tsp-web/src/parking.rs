//! The wait that a receiver asks for (429 and 503 with `Retry-After`): whoever lets a config go, runs something
//! of it or sends it elsewhere ends it.

use tsp_api::config as wire;
use tsp_core::{ConfigId, Timestamp};

use crate::state::WebState;

/// Ends the wait of a config, if there is one. What it belongs to is done: a failure is only logged.
pub(crate) async fn unpark(state: &WebState, config: ConfigId) {
    let now = state.now();
    if let Err(error) = state.store.unpark(config, now).await {
        tracing::warn!(%config, %error, "the wait that the receiver asked for was not ended on every shard");
    }
    state.hints.unparked(config, now);
}

pub(crate) async fn may_be_parked(state: &WebState, config: ConfigId, now: Timestamp) -> bool {
    !matches!(state.store.parked(config, now).await, Ok(None))
}

/// For an answer about one config. `None` when its shard cannot be asked.
pub(crate) async fn parked(
    state: &WebState,
    config: ConfigId,
    now: Timestamp,
) -> Option<Option<wire::Parked>> {
    match state.store.parked(config, now).await {
        Ok(park) => Some(park.map(|park| wire::Parked { until: park.until.into(), by: park.by.to_string() })),
        Err(error) => {
            tracing::warn!(%config, %error, "cannot see whether the config is parked");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};
    use tsp_core::{ConfigId, Millis, TaskId};
    use tsp_store::Catalog as _;
    use tsp_store::parks::Park;

    use crate::testing::{NOW, Server, delayed};

    const CONFIG: &str = "/api/v1/apps/trade/configs/c";

    /// A config whose receiver asked for an hour.
    async fn parked() -> (Server, ConfigId) {
        let server = Server::start().await;
        server.app("trade").await;
        let made = server.post("/api/v1/apps/trade/configs", delayed("c")).await.expect(201);
        assert_eq!(made["parked"], Value::Null);
        let app = server.store.config_cache().app("trade").unwrap();
        let config = server.store.config_cache().configs_of(app.id, None, 1)[0].id;
        let until = NOW.plus(Millis::from_hours(1));
        server.store.park(Park { config, since: NOW, until, by: TaskId::new(42) }).await;
        server.clock.advance(Millis::from_secs(1));
        let shown = server.get(CONFIG).await.expect(200);
        assert_eq!(shown["parked"], json!({"until": "2026-11-21T11:30:00.000Z", "by": "42"}));
        server.unparked();
        (server, config)
    }

    async fn is_over(server: &Server, config: ConfigId, by: &str) {
        assert_eq!(server.unparked(), [config], "{by}: the fetchers are told");
        assert_eq!(server.get(CONFIG).await.expect(200)["parked"], Value::Null, "{by}");
    }

    #[tokio::test]
    async fn whoever_lets_go_runs_or_sends_elsewhere_ends_it() {
        for verbs in [["pause", "resume"], ["disable", "enable"]] {
            let (server, config) = parked().await;
            let act = async |verb| server.post(&format!("{CONFIG}/{verb}"), Value::Null).await;
            assert_ne!(act(verbs[0]).await.expect(200)["parked"], Value::Null);
            assert_eq!(server.unparked(), []);
            assert_eq!(act(verbs[1]).await.expect(200)["parked"], Value::Null);
            is_over(&server, config, verbs[1]).await;
        }

        let (server, config) = parked().await;
        server.post(&format!("{CONFIG}/run"), Value::Null).await.expect(201);
        is_over(&server, config, "run of the config").await;

        let (server, config) = parked().await;
        let task = server.post("/api/v1/apps/trade/tasks", json!({"config": "c"})).await.expect(201);
        assert_eq!(server.unparked(), []);
        let id = task["task"]["id"].as_str().unwrap();
        server.post(&format!("/api/v1/tasks/{id}/run"), Value::Null).await.expect(200);
        is_over(&server, config, "run of a task").await;
    }

    #[tokio::test]
    async fn a_change_ends_it_only_if_it_is_one_of_the_target_or_enables() {
        let (server, config) = parked().await;
        let patch = |body| server.call(Method::PATCH, CONFIG, body);
        assert_ne!(patch(json!({"priority": 3})).await.expect(200)["parked"], Value::Null);
        assert_ne!(patch(json!({"enabled": false})).await.expect(200)["parked"], Value::Null);
        assert_eq!(server.unparked(), []);
        let url = json!({"target": {"url": "http://orders.internal/other"}});
        assert_eq!(patch(url).await.expect(200)["parked"], Value::Null);
        is_over(&server, config, "another URL").await;

        let (server, config) = parked().await;
        let patch = |body| server.call(Method::PATCH, CONFIG, body);
        patch(json!({"enabled": false})).await.expect(200);
        patch(json!({"enabled": true})).await.expect(200);
        is_over(&server, config, "enabled").await;

        let (server, config) = parked().await;
        let mut put = delayed("c");
        put["target"]["headers"] = json!({"X-A": "b"});
        put["parked"] = json!({"until": "2026-11-21T11:30:00.000Z", "by": "42"});
        server.call(Method::PUT, CONFIG, put).await.expect(200);
        is_over(&server, config, "a header more").await;
    }

    /// A node that goes by the old target would call that, and could be asked to wait again.
    #[tokio::test]
    async fn it_ends_when_all_nodes_know_the_new_target() {
        let (server, config) = parked().await;
        server.store.set_applied(0);
        let url = json!({"target": {"url": "http://orders.internal/other"}});
        let change = server.call(Method::PATCH, CONFIG, url);
        let behind = async {
            server.store.asked().await;
            assert_eq!(server.unparked(), []);
            server.store.catch_up();
        };
        tokio::join!(change, behind).0.expect(200);
        is_over(&server, config, "applied by all").await;
    }

    #[tokio::test]
    async fn lists_leave_it_out() {
        let (server, _) = parked().await;
        let list = server.get("/api/v1/apps/trade/configs").await.expect(200);
        assert!(list["items"][0].get("parked").is_none(), "{list}");
    }
}
