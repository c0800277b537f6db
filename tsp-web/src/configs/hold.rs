//! `POST /apps/{app}/configs/{config}/pause`, `/resume`, `/enable`, `/disable`: answered when every living
//! node has applied it.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::Errors;
use tsp_api::cluster::PendingChange;
use tsp_api::config::{self as wire, HoldNote, NOTE_CHARS_MAX};
use tsp_store::catalog::{ConfigSaved, Hold, Scope};

use super::barrier;
use super::save::shown;
use super::wire::text;
use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult, Finish};
use crate::lookup;
use crate::parking;
use crate::path::Path;
use crate::state::WebState;

type Names = Path<(String, String)>;

/// The handler of one hold, by its name, which is its `operationId`.
macro_rules! holds {
    ($($(#[doc = $doc:tt])+ $name:ident $path:tt $done:tt |$note:tt| $hold:expr;)+) => {$(
        $(#[doc = $doc])+
        #[utoipa::path(
            post, path = $path, tag = "configs",
            params(("app" = String, Path), ("config" = String, Path)),
            request_body = Option<HoldNote>,
            responses(
                (status = 200, description = $done, body = wire::Config, headers(("ETag" = String, description = "Its version."))),
                (status = 202, description = "Saved; some node has not applied it within five seconds.", body = PendingChange),
            )
        )]
        pub(super) async fn $name(
            State(state): State<Arc<WebState>>,
            caller: Caller,
            path: Names,
            body: UnreadBody,
        ) -> ApiResult {
            hold(&state, &caller, path, body, |$note| $hold).await
        }
    )+};
}

holds! {
    /// Hold a config: its tasks stay and wait
    pause_config "/apps/{app}/configs/{config}/pause" "Held." |note| Hold::Pause { note };
    /// Let a held config go on
    resume_config "/apps/{app}/configs/{config}/resume" "Goes on." |_| Hold::Resume;
    /// Enable a config
    enable_config "/apps/{app}/configs/{config}/enable" "Enabled." |_| Hold::Enable;
    /// Disable a config: it takes no submits, and its tasks wait
    disable_config "/apps/{app}/configs/{config}/disable" "Disabled." |_| Hold::Disable;
}

async fn read_note(body: UnreadBody) -> ApiResult<Option<String>> {
    let body = body.optional_json::<HoldNote>().await?;
    let mut errors: Errors = body.errors;
    let note = body.value.note.map(|note| text(Some(note), NOTE_CHARS_MAX, "note", &mut errors));
    errors.finish()?;
    Ok(note)
}

/// Whether the caller may comes first, whatever the body says.
async fn hold(
    state: &WebState,
    caller: &Caller,
    Path((app, config)): Names,
    body: UnreadBody,
    hold: impl FnOnce(Option<String>) -> Hold,
) -> ApiResult {
    let (_, found) = lookup::config(state, caller, &app, &config, &[Scope::Manage]).await?;
    let hold = hold(read_note(body).await?);
    let now = state.now();
    let lets_go = matches!(hold, Hold::Resume | Hold::Enable);
    match state.store.hold_config(found.id, hold, &caller.actor(), now).await? {
        ConfigSaved::Updated(config) | ConfigSaved::Created(config) => {
            state.hints.config_changed(config.id);
            if lets_go {
                parking::unpark(state, config.id).await;
            }
            let done = shown(state, &config, now).await;
            Ok(barrier::everywhere(state).await.answer(done))
        }
        ConfigSaved::NotFound => Err(lookup::no_config(&app, &config)),
        other => Err(ApiError::internal(format!("unexpected answer to a hold: {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Server, cron};

    #[tokio::test]
    async fn holds_with_a_note_and_lets_go() {
        let server = Server::start().await;
        server.app("trade").await;
        server.post("/api/v1/apps/trade/configs", cron("c")).await.expect(201);
        let post = |verb: &str, body| {
            let path = format!("/api/v1/apps/trade/configs/c/{verb}");
            let server = &server;
            async move { server.post(&path, body).await }
        };
        let paused = post("pause", json!({"note": "release"})).await;
        assert_eq!(paused.header("etag"), "\"2\"");
        let paused = paused.expect(200);
        assert_eq!(
            paused["paused"],
            json!({"by": "bootstrap", "at": "2026-11-21T10:30:00.000Z", "note": "release"})
        );
        assert_eq!(paused["next_fire_at"], Value::Null);
        assert_eq!(post("resume", Value::Null).await.expect(200)["paused"], Value::Null);
        assert_eq!(post("disable", json!({})).await.expect(200)["enabled"], false);
        let submit = server.post("/api/v1/apps/trade/configs/c/run", Value::Null).await;
        assert_eq!(submit.refused(), (409, "config_disabled".into()));
        assert_eq!(post("enable", Value::Null).await.expect(200)["enabled"], true);
        assert_eq!(server.told(), 5);
        assert_eq!(post("pause", json!({"note": "x".repeat(501)})).await.fields(), ["note"]);
        assert_eq!(post("pause", json!({"why": "x"})).await.refused(), (400, "unknown_field".into()));
        let nowhere = server.post("/api/v1/apps/trade/configs/d/pause", json!({"why": "x"})).await;
        assert_eq!(nowhere.refused().0, 404);
    }
}
