//! Configs as their owners wrote them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tsp_core::config::{
    AsyncPolicy, ConfigSpec, HttpTarget, Kind, OnDuplicateKey, Secret, Target, TargetTls, Timeouts,
    Visibility,
};
use tsp_core::{Millis, Name};

use super::retry::RetryDoc;
use super::schedule::ScheduleDoc;
use super::seal::Sealer;
use super::{CodecResult, by_word, payload_text};

/// What becomes of secrets in a document.
#[derive(Debug, Clone, Copy)]
pub enum Secrets<'a> {
    /// For the config's own row.
    Seal(&'a Sealer),
    /// For the change log, which shows that there are some, not what they are.
    Hide,
}

/// Stands for a secret where secrets are hidden.
const HIDDEN: &str = "***";

impl Secrets<'_> {
    fn write(self, secret: &Secret) -> CodecResult<String> {
        match self {
            Self::Seal(sealer) => sealer.seal(secret.expose()),
            Self::Hide => Ok(HIDDEN.to_owned()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct ConfigDoc {
    name: String,
    kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    owner: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    target: TargetDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleDoc>,
    retry: RetryDoc,
    timeout: TimeoutDoc,
    #[serde(rename = "async")]
    asynchronous: AsyncDoc,
    /// The payload's own text, kept byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    priority: u8,
    queue: String,
    group: String,
    span: u16,
    on_duplicate_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expire_after: Option<i64>,
    retention: i64,
    visibility: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signing_secrets: Vec<String>,
    enabled: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum TargetDoc {
    Http {
        method: String,
        url: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        secret_headers: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<TlsDoc>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct TlsDoc {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cert: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TimeoutDoc {
    connect: i64,
    total: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct AsyncDoc {
    enabled: bool,
    deadline: i64,
}

pub fn config_to_json(spec: &ConfigSpec, secrets: Secrets<'_>) -> CodecResult<String> {
    let doc = ConfigDoc {
        name: spec.name.as_str().to_owned(),
        kind: spec.kind.as_str().to_owned(),
        description: spec.description.clone(),
        owner: spec.owner.clone(),
        labels: spec.labels.clone(),
        target: target_doc(&spec.target, secrets)?,
        schedule: spec.schedule.as_ref().map(ScheduleDoc::from),
        retry: RetryDoc::from(&spec.retry),
        timeout: TimeoutDoc { connect: spec.timeout.connect.ms(), total: spec.timeout.total.ms() },
        asynchronous: AsyncDoc {
            enabled: spec.asynchronous.enabled,
            deadline: spec.asynchronous.deadline.ms(),
        },
        payload: spec.payload.as_deref().map(payload_text).transpose()?,
        priority: spec.priority,
        queue: spec.queue.as_str().to_owned(),
        group: spec.group.as_str().to_owned(),
        span: spec.span,
        on_duplicate_key: spec.on_duplicate_key.as_str().to_owned(),
        expire_after: spec.expire_after.map(Millis::ms),
        retention: spec.retention.ms(),
        visibility: spec.visibility.as_str().to_owned(),
        signing_secrets: spec.signing_secrets.iter().map(|s| secrets.write(s)).collect::<Result<_, _>>()?,
        enabled: spec.enabled,
    };
    serde_json::to_string(&doc).map_err(|error| error.to_string())
}

/// Reads what [`config_to_json`] wrote with sealed secrets.
pub fn config_from_json(text: &str, sealer: &Sealer) -> CodecResult<ConfigSpec> {
    let doc: ConfigDoc = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let name = |text: &str| Name::new(text).map_err(|error| format!("`{text}`: {error}"));
    let secret = |sealed: &String| sealer.open(sealed).map(|text| Secret::new(&text));
    Ok(ConfigSpec {
        name: name(&doc.name)?,
        kind: by_word(&[Kind::Delayed, Kind::Cron], &doc.kind, Kind::as_str)?,
        description: doc.description,
        owner: doc.owner,
        labels: doc.labels,
        target: read_target(doc.target, sealer)?,
        schedule: doc.schedule.map(ScheduleDoc::into_schedule).transpose()?,
        retry: doc.retry.into(),
        timeout: Timeouts {
            connect: Millis::from_ms(doc.timeout.connect),
            total: Millis::from_ms(doc.timeout.total),
        },
        asynchronous: AsyncPolicy {
            enabled: doc.asynchronous.enabled,
            deadline: Millis::from_ms(doc.asynchronous.deadline),
        },
        payload: doc.payload.map(Bytes::from),
        priority: doc.priority,
        queue: name(&doc.queue)?,
        group: name(&doc.group)?,
        span: doc.span,
        on_duplicate_key: by_word(
            &[OnDuplicateKey::Ignore, OnDuplicateKey::Reset, OnDuplicateKey::Add],
            &doc.on_duplicate_key,
            OnDuplicateKey::as_str,
        )?,
        expire_after: doc.expire_after.map(Millis::from_ms),
        retention: Millis::from_ms(doc.retention),
        visibility: by_word(
            &[Visibility::Private, Visibility::App, Visibility::Public],
            &doc.visibility,
            Visibility::as_str,
        )?,
        signing_secrets: doc.signing_secrets.iter().map(secret).collect::<Result<_, _>>()?,
        enabled: doc.enabled,
    })
}

fn target_doc(target: &Target, secrets: Secrets<'_>) -> CodecResult<TargetDoc> {
    let Target::Http(http) = target;
    let secret_headers = http
        .secret_headers
        .iter()
        .map(|(name, secret)| Ok((name.clone(), secrets.write(secret)?)))
        .collect::<CodecResult<_>>()?;
    Ok(TargetDoc::Http {
        method: http.method.clone(),
        url: http.url.clone(),
        headers: http.headers.clone(),
        secret_headers,
        tls: http.tls.as_ref().map(|tls| tls_doc(tls, secrets)).transpose()?,
    })
}

fn tls_doc(tls: &TargetTls, secrets: Secrets<'_>) -> CodecResult<TlsDoc> {
    let key = tls.key.as_ref().map(|key| secrets.write(key)).transpose()?;
    Ok(TlsDoc { ca: tls.ca.clone(), cert: tls.cert.clone(), key })
}

fn read_target(doc: TargetDoc, sealer: &Sealer) -> CodecResult<Target> {
    let TargetDoc::Http { method, url, headers, secret_headers, tls } = doc;
    let secret_headers = secret_headers
        .into_iter()
        .map(|(name, sealed)| Ok((name, Secret::new(&sealer.open(&sealed)?))))
        .collect::<CodecResult<_>>()?;
    let tls = tls.map(|doc| read_tls(doc, sealer)).transpose()?;
    Ok(Target::Http(Arc::new(HttpTarget { method, url, headers, secret_headers, tls })))
}

fn read_tls(doc: TlsDoc, sealer: &Sealer) -> CodecResult<TargetTls> {
    let key = doc.key.map(|sealed| sealer.open(&sealed)).transpose()?;
    Ok(TargetTls { ca: doc.ca, cert: doc.cert, key: key.as_deref().map(Secret::new) })
}
