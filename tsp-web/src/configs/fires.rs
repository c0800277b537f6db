//! `GET /apps/{app}/configs/{config}/fires` and `POST /schedules/preview`.

use std::sync::Arc;
use std::thread;

use axum::extract::State;
use tokio::sync::oneshot;
use tsp_api::ErrorCode;
use tsp_api::schedule::{Fire, Fires, PreviewSchedule};
use tsp_core::Timestamp;
use tsp_core::schedule::{PREVIEW_FIRES_MAX, Schedule};
use tsp_store::catalog::Scope;

use super::wire::read_schedule;
use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::path::Path;
use crate::query::Query;
use crate::state::WebState;

/// How many fires are shown when nobody says.
const COUNT_DEFAULT: usize = 10;

/// The next fire times of a config
#[utoipa::path(
    get, path = "/apps/{app}/configs/{config}/fires", tag = "configs",
    params(
        ("app" = String, Path), ("config" = String, Path),
        ("count" = Option<u32>, Query, minimum = 1, maximum = 100),
        ("from" = Option<String>, Query, format = DateTime, description = "Fires strictly after it; by default now."),
    ),
    responses(
        (status = 200, description = "Fewer than asked for when the schedule ends.", body = Fires),
        (status = 409, description = "The config has no schedule."),
    )
)]
pub(super) async fn config_fires(
    State(state): State<Arc<WebState>>,
    caller: Caller,
    Path((app, config)): Path<(String, String)>,
    mut query: Query,
) -> ApiResult<axum::Json<Fires>> {
    let (_, found) = lookup::config(&state, &caller, &app, &config, &[Scope::Read]).await?;
    let count = query.number("count", 1..=PREVIEW_FIRES_MAX).unwrap_or(COUNT_DEFAULT);
    let from = query.time("from").unwrap_or_else(|| state.now());
    query.finish()?;
    let schedule = found.spec.schedule.clone().ok_or_else(|| {
        ApiError::new(
            ErrorCode::WrongKind,
            format!("config `{app}/{config}` is `delayed`, it has no schedule"),
        )
    })?;
    preview(&state, schedule, from, count).await
}

/// The fire times of a schedule that is not saved yet
#[utoipa::path(
    post, path = "/schedules/preview", tag = "configs",
    request_body = PreviewSchedule,
    responses((status = 200, description = "Fewer than asked for when the schedule ends.", body = Fires))
)]
pub(super) async fn preview_schedule(
    State(state): State<Arc<WebState>>,
    _caller: Caller,
    body: UnreadBody,
) -> ApiResult<axum::Json<Fires>> {
    let body = body.json::<PreviewSchedule>().await?;
    let mut errors = body.errors;
    let count = match body.value.count {
        None => COUNT_DEFAULT,
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    if !(1..=PREVIEW_FIRES_MAX).contains(&count) {
        errors.add("count", format!("must be 1 to {PREVIEW_FIRES_MAX}, is {count}"));
    }
    let from = body.value.from.map_or_else(|| state.now(), |from| from.0);
    let schedule = if let Some(schedule) = body.value.schedule {
        read_schedule(schedule, &mut errors)
    } else {
        errors.missing("schedule");
        None
    };
    match schedule {
        Some(schedule) if errors.is_empty() => preview(&state, schedule, from, count).await,
        _ => Err(errors.into()),
    }
}

/// A hundred searches may take a tenth of a second, so they run on threads of their own, a few at a time: not on
/// those of the runtime, which others may hold for seconds.
async fn preview(
    state: &WebState,
    schedule: Schedule,
    from: Timestamp,
    count: usize,
) -> ApiResult<axum::Json<Fires>> {
    let busy = || {
        ApiError::new(ErrorCode::RateLimited, "too many previews at once; try again in a moment")
            .with_retry_after(1)
    };
    let permit = state.previews.clone().try_acquire_owned().map_err(|_| busy())?;
    let (answer, fires) = oneshot::channel();
    let work = move || {
        // Nobody listens when the caller has gone.
        drop(answer.send(schedule.preview(from, count)));
        drop(permit);
    };
    thread::Builder::new().name("preview".to_owned()).spawn(work).map_err(|_| busy())?;
    let fires = fires.await.map_err(|_| ApiError::internal("a preview failed"))?;
    let note =
        fires.is_empty().then(|| format!("never fires after {from}; check its days, its year and `end_at`"));
    let items = fires
        .into_iter()
        .map(|fire| Fire { at: fire.at.into(), local: fire.local, note: fire.note })
        .collect();
    Ok(axum::Json(Fires { items, note }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Server, cron, delayed};

    #[tokio::test]
    async fn shows_the_next_fires() {
        let server = Server::start().await;
        server.app("trade").await;
        let configs = "/api/v1/apps/trade/configs";
        server.post(configs, cron("c")).await.expect(201);
        server.post(configs, delayed("d")).await.expect(201);
        let fires = server
            .get(&format!("{configs}/c/fires?count=2&from=2026-01-01T00:00:00+08:00"))
            .await
            .expect(200);
        assert_eq!(
            fires,
            json!({"items": [
                {"at": "2025-12-31T18:00:00.000Z", "local": "2026-01-01T02:00:00+08:00"},
                {"at": "2026-01-01T18:00:00.000Z", "local": "2026-01-02T02:00:00+08:00"},
            ]})
        );
        let default = server.get(&format!("{configs}/c/fires")).await.expect(200);
        assert_eq!(default["items"].as_array().unwrap().len(), 10);
        assert_eq!(
            server.get(&format!("{configs}/c/fires?count=101&from=x")).await.fields(),
            ["count", "from"]
        );
        assert_eq!(server.get(&format!("{configs}/d/fires")).await.refused(), (409, "wrong_kind".into()));
    }

    #[test]
    fn a_preview_waits_for_no_thread_that_others_hold() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.unwrap().block_on(async {
            let server = Server::start().await;
            let (held, holds) = std::sync::mpsc::channel::<()>();
            let other = tokio::task::spawn_blocking(move || holds.recv().is_err());
            let body = json!({"schedule": {"type": "every", "interval": "1h"}, "count": 1});
            server.post("/api/v1/schedules/preview", body).await.expect(200);
            drop(held);
            other.await.unwrap();
        });
    }

    #[tokio::test]
    async fn too_many_previews_are_refused() {
        let server = Server::start().await;
        let body = json!({"schedule": {"type": "every", "interval": "1h"}, "count": 1});
        let all = server.state.previews.clone().acquire_many_owned(4).await.unwrap();
        let answer = server.post("/api/v1/schedules/preview", body.clone()).await;
        assert_eq!(answer.refused(), (429, "rate_limited".into()));
        drop(all);
        server.post("/api/v1/schedules/preview", body).await.expect(200);
    }

    #[tokio::test]
    async fn previews_with_notes_on_daylight_saving() {
        let server = Server::start().await;
        let preview = |body| server.post("/api/v1/schedules/preview", body);
        let schedule = json!({"type": "cron", "expr": "0 30 2 * * ?", "timezone": "Europe/Berlin"});
        let body = json!({"schedule": schedule, "count": 1, "from": "2026-03-28T12:00:00+01:00"});
        let fires = preview(body).await.expect(200);
        assert!(fires["items"][0]["note"].as_str().unwrap().contains("does not exist"), "{fires}");
        let never = json!({"type": "cron", "expr": "0 0 0 30 2 ?", "timezone": "Europe/Berlin"});
        let fires = preview(json!({"schedule": never, "from": "2026-03-28T12:00:00Z"})).await.expect(200);
        let note = "never fires after 2026-03-28T12:00:00.000Z; check its days, its year and `end_at`";
        assert_eq!(fires, json!({"items": [], "note": note}));
        assert_eq!(preview(json!({"count": 0})).await.fields(), ["count", "schedule"]);
        let bad = json!({"schedule": {"type": "every", "interval": "1x", "zone": 1}, "count": 200});
        assert_eq!(preview(bad).await.fields(), ["count", "schedule.interval", "schedule.zone"]);
    }
}
