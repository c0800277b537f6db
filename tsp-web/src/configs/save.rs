//! What creating, replacing and patching share.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tokio::time::Duration;
use tsp_api::config as wire;
use tsp_api::{ErrorCode, Errors};
use tsp_core::config::{ConfigSpec, TaskConfig};
use tsp_core::{AppId, ConfigId, Timestamp};
use tsp_store::catalog::{App, ConfigSaved, ExpectedVersion, SaveConfig};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::Actor;

use super::barrier;
use super::precondition::Precondition;
use super::submit_freeze::{SubmitFreeze, has_open};
use super::wire::{Reader, Source, config_document, etag, read_config};
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};
use crate::lookup;
use crate::parking;
use crate::query::Query;
use crate::state::WebState;

/// How often a change without `If-Match` is worked out again because another node was quicker.
const TRIES: u32 = 20;
/// The longest pause before the first of them; it grows from one to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// What is to be saved.
pub(super) struct Draft {
    pub(super) doc: wire::Config,
    pub(super) errors: Errors,
    /// The secret headers that stay behind because the target moves to another origin.
    pub(super) left_behind: Vec<String>,
}

/// A document for an existing config, or for a new one where the call may create it.
pub(super) struct Change<'a> {
    pub(super) state: &'a Arc<WebState>,
    pub(super) caller: &'a Caller,
    pub(super) app: &'a App,
    /// The config's name as the path has it.
    pub(super) name: &'a str,
    pub(super) precondition: Precondition,
    /// Nothing is changed.
    pub(super) dry_run: bool,
}

impl Change<'_> {
    /// Saves what `document` makes of the config as it is; it is asked again when it has changed.
    pub(super) async fn save(
        &self,
        document: impl Fn(Option<&TaskConfig>) -> ApiResult<Draft> + Send + Sync,
        source: impl for<'c> Fn(Option<&'c TaskConfig>) -> Source<'c> + Send + Sync,
    ) -> ApiResult {
        for tried in 0..TRIES {
            let turn = self.state.turns.take(self.app.id, self.name).await;
            let now = self.state.now();
            let found = lookup::config_named(self.state, self.app, self.name).await?;
            self.precondition.check(found.as_deref())?;
            let Draft { doc, mut errors, left_behind } = document(found.as_deref())?;
            check_immutable(&doc, self.name, found.as_deref())?;
            let source = source(found.as_deref());
            let spec = read_config(reader(self.state, now), doc, Some(self.name), source, &mut errors);
            let spec = spec.filter(|_| errors.is_empty()).ok_or_else(|| ApiError::from(errors))?;
            if self.dry_run {
                return self.would_be(found.as_deref(), spec, left_behind, now).await;
            }
            let unparks = found.as_deref().is_some_and(|found| ends_a_wait(&found.spec, &spec));
            let reach = found.as_deref().is_some_and(|found| concerns_all(&found.spec, &spec));
            let saved = match found {
                Some(found) if found.spec.span != spec.span => {
                    // It waits for other nodes, and nobody has to wait for it.
                    drop(turn);
                    self.save_span(found, spec).await?
                }
                found => {
                    let expected = found
                        .map_or(ExpectedVersion::Absent, |found| ExpectedVersion::Version(found.version));
                    let saved = self.save_as(spec, expected).await?;
                    drop(turn);
                    saved
                }
            };
            match saved {
                ConfigSaved::Created(config) => {
                    self.state.hints.config_changed(config.id);
                    return Ok(created(&config, now));
                }
                ConfigSaved::Updated(config) => {
                    self.state.hints.config_changed(config.id);
                    let reached = self.take_effect(config.id, unparks, reach, now).await;
                    let notice = notice(left_behind);
                    let done = changed(self.state, &config, notice.clone(), now).await;
                    return Ok(match reached {
                        Some(reached) if reach => reached.answer_with(notice, done),
                        _ => done,
                    });
                }
                ConfigSaved::KindChanged => return Err(immutable("kind")),
                ConfigSaved::InUse(_) => return Err(span_in_use()),
                ConfigSaved::AlreadyExists | ConfigSaved::VersionMismatch { .. } | ConfigSaved::NotFound
                    if self.precondition.is_given() =>
                {
                    return Err(Precondition::failed());
                }
                ConfigSaved::AlreadyExists | ConfigSaved::VersionMismatch { .. } | ConfigSaved::NotFound => {
                    // Not all at the same moment again, and upon what the other node has made of it.
                    tokio::time::sleep(
                        PAUSE.mul_f64(f64::from(tried) * self.state.entropy.jitter_fraction()),
                    )
                    .await;
                    self.state.store.refresh().await?;
                }
            }
        }
        Err(ApiError::unavailable("the config is being changed by others all the time; try again", 1))
    }

    /// Waits until every process has read the change, where all must know of it, and ends the receiver's wait where the
    /// change does.
    async fn take_effect(
        &self,
        id: ConfigId,
        unparks: bool,
        reach: bool,
        now: Timestamp,
    ) -> Option<barrier::Reach> {
        // A worker that knows only the old target would call that, and could be asked to wait again.
        let waits = unparks && parking::may_be_parked(self.state, id, now).await;
        let reached = if reach || waits { Some(barrier::everywhere(self.state).await) } else { None };
        if unparks {
            parking::unpark(self.state, id).await;
        }
        reached
    }

    /// What a change would be answered with.
    async fn would_be(
        &self,
        found: Option<&TaskConfig>,
        spec: ConfigSpec,
        left_behind: Vec<String>,
        now: Timestamp,
    ) -> ApiResult<Response> {
        let Some(found) = found else { return Ok(created(&new_config(self.app, spec, now), now)) };
        if found.spec.span != spec.span {
            check_none_open(self.state, found).await?;
        }
        let version = found.version + 1;
        let config = TaskConfig { spec, version, updated_at: now, ..found.clone() };
        Ok(changed(self.state, &config, notice(left_behind), now).await)
    }

    async fn save_as(&self, spec: ConfigSpec, expected: ExpectedVersion) -> ApiResult<ConfigSaved> {
        save_as(self.state, self.app.id, spec, expected, &self.caller.actor()).await
    }

    /// To the end even if the caller goes away: on its way the config takes no submits.
    async fn save_span(&self, found: Arc<TaskConfig>, spec: ConfigSpec) -> ApiResult<ConfigSaved> {
        let (state, by) = (self.state.clone(), self.caller.actor());
        self.state.to_the_end(async move { save_span(&state, &found, spec, &by).await }).await
    }
}

/// Whether a change ends the wait that the receiver asked for: it is another one, or it is to go on.
fn ends_a_wait(old: &ConfigSpec, new: &ConfigSpec) -> bool {
    old.target != new.target || (new.enabled && !old.enabled)
}

/// Whether a change is answered only when every node has applied it.
fn concerns_all(old: &ConfigSpec, new: &ConfigSpec) -> bool {
    old.group != new.group || old.span != new.span || old.enabled != new.enabled
}

async fn save_as(
    state: &WebState,
    app: AppId,
    spec: ConfigSpec,
    expected: ExpectedVersion,
    by: &Actor,
) -> ApiResult<ConfigSaved> {
    let save = SaveConfig { app, spec, expected };
    match state.store.save_config(save, None, by, state.now()).await? {
        IdempotencyResult::Fresh(saved) => Ok(saved),
        IdempotencyResult::Replayed(_) | IdempotencyResult::Mismatch => {
            Err(ApiError::internal("a kept answer without an idempotency key"))
        }
    }
}

/// The homes of open tasks' keys depend on the span (DESIGN.md section 5.4). So while it changes there is no
/// open task, and nobody makes one.
async fn save_span(
    state: &WebState,
    found: &Arc<TaskConfig>,
    spec: ConfigSpec,
    by: &Actor,
) -> ApiResult<ConfigSaved> {
    check_none_open(state, found).await?;
    if barrier::is_immediate(state).await? {
        return save_as(state, found.app_id, spec, ExpectedVersion::Version(found.version), by).await;
    }
    let freeze = SubmitFreeze::start(state, by, found).await?;
    let saved = match check_none_open(state, found).await {
        Err(refused) => Err(refused),
        Ok(()) if !freeze.follows(found) => {
            Ok(ConfigSaved::VersionMismatch { version: freeze.config.version })
        }
        Ok(()) => {
            save_as(state, found.app_id, spec, ExpectedVersion::Version(freeze.config.version), by).await
        }
    };
    if !matches!(saved, Ok(ConfigSaved::Updated(_))) {
        freeze.end(state, by).await;
    }
    saved
}

async fn check_none_open(state: &WebState, found: &TaskConfig) -> ApiResult<()> {
    if has_open(state, found).await? { Err(span_in_use()) } else { Ok(()) }
}

fn span_in_use() -> ApiError {
    let message = "changes only while the config has no open task";
    ApiError::field(ErrorCode::HasOpenTasks, "span", message)
}

pub(super) fn reader(state: &WebState, now: Timestamp) -> Reader<'_> {
    Reader {
        egress: &state.egress,
        check_tls: state.check_tls,
        payload_bytes_max: state.settings.payload_bytes_max,
        shards: state.store.shards(),
        now,
    }
}

/// `?dry_run=true`: whether a call only says what it would do.
pub(super) fn read_dry_run(query: &mut Query) -> bool {
    query.bool("dry_run").unwrap_or(false)
}

/// A config as it would be made; it has no id, which nobody sees.
pub(super) fn new_config(app: &App, spec: ConfigSpec, now: Timestamp) -> TaskConfig {
    TaskConfig {
        id: ConfigId::default(),
        app_id: app.id,
        app: app.name.clone(),
        spec,
        paused: None,
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// 200 with the config and its `ETag`.
pub(super) async fn shown(state: &WebState, config: &TaskConfig, now: Timestamp) -> Response {
    let parked = parking::parked(state, config.id, now).await;
    answer(config, wire::Config { parked, ..config_document(config, now) })
}

/// A config that was made just now.
pub(super) fn new_document(config: &TaskConfig, now: Timestamp) -> wire::Config {
    wire::Config { parked: Some(None), ..config_document(config, now) }
}

fn answer(config: &TaskConfig, document: wire::Config) -> Response {
    let mut response = axum::Json(document).into_response();
    response.headers_mut().insert(header::ETAG, etag(config));
    response
}

/// What a change did beside what it was asked for.
fn notice(left_behind: Vec<String>) -> Option<wire::Notice> {
    (!left_behind.is_empty()).then(|| wire::Notice::secret_headers_dropped(left_behind))
}

/// The same after a change, with what it did beside.
async fn changed(
    state: &WebState,
    config: &TaskConfig,
    notice: Option<wire::Notice>,
    now: Timestamp,
) -> Response {
    let parked = parking::parked(state, config.id, now).await;
    answer(config, wire::Config { parked, notice, ..config_document(config, now) })
}

/// 201 with the config, its `ETag` and `Location`.
pub(super) fn created(config: &TaskConfig, now: Timestamp) -> Response {
    let mut response = answer(config, new_document(config, now));
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
