//! `POST /apps/{app}/configs/{config}/run`.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::config as wire;
use tsp_api::task::submit::SubmitAnswer;
use tsp_store::catalog::Scope;

use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::{ApiResult, Finish};
use crate::idempotency::IdempotencyKey;
use crate::lookup;
use crate::parking;
use crate::path::Path;
use crate::state::WebState;
use crate::tasks::{TraceParent, submit};

/// Run a config once, now
///
/// Works for both kinds, and answers as a submit.
#[utoipa::path(
    post, path = "/apps/{app}/configs/{config}/run", tag = "configs",
    params(
        ("app" = String, Path), ("config" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat."),
    ),
    request_body = Option<wire::RunConfig>,
    responses(
        (status = 201, description = "The task of the occurrence.", body = SubmitAnswer, headers(("Location" = String, description = "Its path."))),
        (status = 409, description = "The config is disabled, or the same request is being worked on."),
        (status = 422, description = "The idempotency key was used for another body."),
    )
)]
pub(super) async fn run_config(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path((app, config)): Path<(String, String)>,
    key: IdempotencyKey,
    Ok(trace): Result<TraceParent, std::convert::Infallible>,
    body: UnreadBody,
) -> ApiResult {
    let (_, found) = lookup::config(&state, &caller, &app, &config, &[Scope::Submit]).await?;
    let body = body.optional_json::<wire::RunConfig>().await?;
    body.errors.finish()?;
    let payload = body.value.payload.as_deref();
    let id = found.id;
    let answer = submit::run_config(&state, &caller, found, payload, &key, &trace, &body.raw).await?;
    parking::unpark(&state, id).await;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Server, cron};

    #[tokio::test]
    async fn makes_a_task_of_either_kind_now() {
        let server = Server::start().await;
        server.app("trade").await;
        let mut config = cron("c");
        config["payload"] = json!({"from": "config"});
        server.post("/api/v1/apps/trade/configs", config).await.expect(201);
        let run = |body| server.post("/api/v1/apps/trade/configs/c/run", body);
        let made = run(Value::Null).await.expect(201);
        assert_eq!((&made["result"], &made["task"]["origin"]), (&"created".into(), &"run".into()));
        assert_eq!(made["task"]["payload"], json!({"from": "config"}));
        assert_eq!(run(json!({"payload": [1]})).await.expect(201)["task"]["payload"], json!([1]));
        assert_eq!(run(json!({"config": "c"})).await.refused(), (400, "unknown_field".into()));
    }
}
