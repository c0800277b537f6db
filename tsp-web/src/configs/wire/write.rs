//! A config as it is shown.

use http::HeaderValue;
use serde_json::value::RawValue;
use tsp_api::config as wire;
use tsp_api::{Length, Time};
use tsp_core::Timestamp;
use tsp_core::config::{Kind, OnDuplicateKey, Paused, Target, TaskConfig, Visibility};

use super::policy::write_retry;
use super::schedule::write_schedule;
use super::target::write_target;
use super::unsupported;

/// All fields; secrets only as their number and names.
pub(crate) fn config_document(config: &TaskConfig, now: Timestamp) -> wire::Config {
    let Target::Http(http) = &config.spec.target;
    let mut doc = writable(config, false);
    doc.app = Some(config.app.to_string());
    doc.version = Some(config.version);
    doc.created_at = Some(config.created_at.into());
    doc.updated_at = Some(config.updated_at.into());
    doc.paused = config.paused.as_ref().map(write_paused);
    doc.next_fire_at = next_fire_at(config, now);
    doc.signing_secret_count = u32::try_from(config.spec.signing_secrets.len()).ok();
    doc.secret_header_names = Some(http.secret_headers.keys().cloned().collect());
    doc
}

/// What can be changed, secrets included: the text that a patch is merged over.
pub(crate) fn config_json(config: &TaskConfig) -> serde_json::Result<String> {
    serde_json::to_string(&writable(config, true))
}

pub(crate) fn etag(config: &TaskConfig) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", config.version))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn writable(config: &TaskConfig, secrets: bool) -> wire::Config {
    let spec = &config.spec;
    let exposed = || spec.signing_secrets.iter().map(|secret| secret.expose().to_owned()).collect();
    let mut doc = wire::Config {
        name: Some(spec.name.to_string()),
        kind: Some(write_kind(spec.kind)),
        description: Some(spec.description.clone()),
        owner: Some(spec.owner.clone()),
        target: Some(write_target(&spec.target, secrets)),
        schedule: spec.schedule.as_ref().map(write_schedule),
        retry: Some(write_retry(&spec.retry)),
        timeout: Some(wire::Timeout {
            connect: Some(Length(spec.timeout.connect)),
            total: Some(Length(spec.timeout.total)),
        }),
        asynchronous: Some(wire::AsyncCalls {
            enabled: Some(spec.asynchronous.enabled),
            deadline: Some(Length(spec.asynchronous.deadline)),
        }),
        payload: spec.payload.as_deref().and_then(raw),
        labels: Some(spec.labels.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect()),
        priority: Some(spec.priority),
        queue: Some(spec.queue.to_string()),
        group: Some(spec.group.to_string()),
        span: Some(spec.span),
        on_duplicate_key: Some(match spec.on_duplicate_key {
            OnDuplicateKey::Ignore => wire::OnDuplicateKey::Ignore,
            OnDuplicateKey::Reset => wire::OnDuplicateKey::Reset,
            OnDuplicateKey::Add => wire::OnDuplicateKey::Add,
        }),
        expire_after: spec.expire_after.map(Length),
        retention: Some(Length(spec.retention)),
        visibility: Some(match spec.visibility {
            Visibility::Private => wire::Visibility::Private,
            Visibility::App => wire::Visibility::App,
            Visibility::Public => wire::Visibility::Public,
        }),
        signing_secrets: secrets.then(exposed),
        enabled: Some(spec.enabled),
        ..wire::Config::default()
    };
    unsupported::write_defaults(&mut doc);
    doc
}

pub(crate) fn write_kind(kind: Kind) -> wire::Kind {
    match kind {
        Kind::Delayed => wire::Kind::Delayed,
        Kind::Cron => wire::Kind::Cron,
    }
}

fn write_paused(paused: &Paused) -> wire::Paused {
    wire::Paused { by: paused.by.clone(), at: paused.at.into(), note: paused.note.clone() }
}

/// The payload was checked when it was saved.
fn raw(payload: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice::<&RawValue>(payload).ok().map(ToOwned::to_owned)
}

fn next_fire_at(config: &TaskConfig, now: Timestamp) -> Option<Time> {
    let schedule = config.spec.schedule.as_ref().filter(|_| config.runnable())?;
    schedule.next_after(now).map(Time)
}
