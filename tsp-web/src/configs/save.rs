//! What creating, replacing and patching share.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tsp_api::config as wire;
use tsp_api::{ErrorCode, Errors};
use tsp_core::config::{ConfigSpec, TaskConfig};
use tsp_core::task::Status;
use tsp_core::{Name, Timestamp};
use tsp_store::catalog::{App, ConfigSaved, Expected, SaveConfig};
use tsp_store::idempotency::Kept;
use tsp_store::search::{Order, Scope, TaskQuery};

use super::precondition::Precondition;
use super::wire::{Reader, Source, config_document, etag, read_config};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::state::WebState;

/// How often a change without `If-Match` is worked out anew because somebody else was quicker.
const TRIES: usize = 5;

/// A document for an existing config, or for a new one where the call may create it.
pub(super) struct Change<'a> {
    pub(super) state: &'a WebState,
    pub(super) caller: &'a Caller,
    pub(super) app: &'a App,
    /// The config's name as the path has it.
    pub(super) name: &'a str,
    pub(super) precondition: Precondition,
}

impl Change<'_> {
    /// Saves what `document` makes of the config as it is; it is asked again when it has changed.
    pub(super) async fn save(
        &self,
        document: impl Fn(Option<&TaskConfig>) -> ApiResult<(wire::Config, Errors)> + Send + Sync,
        source: impl for<'c> Fn(Option<&'c TaskConfig>) -> Source<'c> + Send + Sync,
    ) -> ApiResult {
        for _ in 0..TRIES {
            let now = self.state.now();
            let found = Name::new(self.name).ok();
            let found = found.and_then(|name| self.state.store.book().find_config(self.app.id, &name));
            self.precondition.check(found.as_deref())?;
            let (doc, mut errors) = document(found.as_deref())?;
            check_immutable(&doc, self.name, found.as_deref())?;
            let source = source(found.as_deref());
            let spec = read_config(reader(self.state, now), doc, Some(self.name), source, &mut errors);
            let spec = spec.filter(|_| errors.is_empty()).ok_or_else(|| ApiError::from(errors))?;
            if let Some(found) = &found {
                check_span(self.state, found, &spec).await?;
            }
            let expected = found.map_or(Expected::Absent, |found| Expected::Version(found.version));
            let save = SaveConfig { app: self.app.id, spec, expected };
            let saved = self.state.store.save_config(save, None, &self.caller.actor(), now).await?;
            let Kept::Fresh(saved) = saved else {
                return Err(ApiError::internal("a kept answer without an idempotency key"));
            };
            match saved {
                ConfigSaved::Created(config) => {
                    self.state.hints.config_changed(config.id);
                    return Ok(created(&config, now));
                }
                ConfigSaved::Updated(config) => {
                    self.state.hints.config_changed(config.id);
                    return Ok(shown(&config, now));
                }
                ConfigSaved::KindChanged => return Err(immutable("kind")),
                ConfigSaved::AlreadyExists | ConfigSaved::VersionMismatch { .. } | ConfigSaved::NotFound
                    if self.precondition.is_given() =>
                {
                    return Err(Precondition::failed());
                }
                ConfigSaved::AlreadyExists | ConfigSaved::VersionMismatch { .. } | ConfigSaved::NotFound => {}
            }
        }
        Err(ApiError::unavailable("the config is being changed by others all the time; try again", 1))
    }
}

pub(super) fn reader(state: &WebState, now: Timestamp) -> Reader<'_> {
    Reader {
        egress: &state.egress,
        payload_bytes_max: state.settings.payload_bytes_max,
        shards: state.store.shards(),
        now,
    }
}

/// 200 with the config and its `ETag`.
pub(super) fn shown(config: &TaskConfig, now: Timestamp) -> Response {
    let mut response = axum::Json(config_document(config, now)).into_response();
    response.headers_mut().insert(header::ETAG, etag(config));
    response
}

/// 201 with the config, its `ETag` and `Location`.
pub(super) fn created(config: &TaskConfig, now: Timestamp) -> Response {
    let mut response = shown(config, now);
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(location(config)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

pub(super) fn location(config: &TaskConfig) -> String {
    format!("/api/v1/apps/{}/configs/{}", config.app, config.spec.name)
}

pub(super) fn immutable(field: &str) -> ApiError {
    ApiError::field(ErrorCode::Immutable, field, "never changes; make a new config in its place")
}

fn check_immutable(doc: &wire::Config, name: &str, found: Option<&TaskConfig>) -> ApiResult<()> {
    if doc.name.as_deref().is_some_and(|given| given != name) {
        return Err(immutable("name"));
    }
    match (doc.kind, found) {
        (Some(kind), Some(found)) if super::wire::write_kind(found.spec.kind) != kind => {
            Err(immutable("kind"))
        }
        _ => Ok(()),
    }
}

/// The homes of open tasks' keys depend on the span (DESIGN.md section 5.4).
async fn check_span(state: &WebState, found: &Arc<TaskConfig>, spec: &ConfigSpec) -> ApiResult<()> {
    if found.spec.span == spec.span {
        return Ok(());
    }
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
    if page.tasks.is_empty() {
        return Ok(());
    }
    Err(ApiError::field(ErrorCode::HasOpenTasks, "span", "changes only while the config has no open task"))
}
