//! A whole config.

use std::collections::BTreeMap;

use bytes::Bytes;
use tsp_api::app::{DESCRIPTION_CHARS_MAX, OWNER_CHARS_MAX};
use tsp_api::config::{self as wire, LABEL_NAME_CHARS_MAX, LABEL_VALUE_CHARS_MAX, LABELS_MAX};
use tsp_api::{ErrorCode, Errors, Length};
use tsp_core::config::{
    ConfigSpec, Kind, OnDuplicateKey, PRIORITY_DEFAULT, PRIORITY_MAX, RETENTION_DEFAULT, RETENTION_MAX,
    Secret, Target, TaskConfig, Visibility,
};
use tsp_core::egress::EgressPolicy;
use tsp_core::schedule::Schedule;
use tsp_core::text::is_printable;
use tsp_core::{Millis, Name, Timestamp};

use super::policy::{length, read_async, read_retry, read_timeout};
use super::schedule::{check_fires, read_schedule};
use super::secrets::read_signing_secrets;
use super::target::read_target;
use super::unsupported;
use crate::state::TlsCheck;

const EXPIRE_MAX: Millis = Millis::from_days(3_650);

/// Where a document comes from, which decides what absent secrets mean.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// A new config.
    New,
    /// A PUT over this one: secrets left out stay.
    Replacing(&'a TaskConfig),
    /// This one with a patch merged over it: secrets left out were removed by the patch.
    Patching(&'a TaskConfig),
}

/// What reading needs to know of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) egress: &'a EgressPolicy,
    pub(crate) check_tls: TlsCheck,
    pub(crate) payload_bytes_max: usize,
    pub(crate) shards: u16,
    pub(crate) now: Timestamp,
}

/// `None` when something is wrong, which then stands in `errors`. A `name` that is not given is `path_name`.
pub(crate) fn read_config(
    reader: Reader<'_>,
    doc: wire::Config,
    path_name: Option<&str>,
    source: Source<'_>,
    errors: &mut Errors,
) -> Option<ConfigSpec> {
    unsupported::refuse(&doc, errors);
    let name = read_name(doc.name.as_deref().or(path_name), errors);
    let kind = read_kind(doc.kind, errors);
    let schedule = read_schedule_of(doc.schedule, kind, reader.now, source, errors);
    let kept = source.kept_secrets();
    let target = if let Some(target) = doc.target {
        read_target(target, &kept.headers, kept.key.as_ref(), reader.egress, reader.check_tls, errors)
    } else {
        errors.missing("target");
        None
    };
    let signing_secrets = match &doc.signing_secrets {
        Some(given) => read_signing_secrets(given, errors),
        None => kept.signing,
    };
    let spec = ConfigSpec {
        description: text(doc.description, DESCRIPTION_CHARS_MAX, "description", errors),
        owner: text(doc.owner, OWNER_CHARS_MAX, "owner", errors),
        labels: read_labels(doc.labels.unwrap_or_default(), errors),
        schedule,
        retry: read_retry(doc.retry.unwrap_or_default(), errors),
        timeout: read_timeout(&doc.timeout.unwrap_or_default(), errors),
        asynchronous: read_async(&doc.asynchronous.unwrap_or_default(), errors),
        payload: doc.payload.map(|payload| read_payload(payload.get(), reader, errors)),
        priority: up_to(doc.priority.unwrap_or(PRIORITY_DEFAULT), PRIORITY_MAX, "priority", errors),
        queue: Name::default_name(),
        group: read_group(doc.group.as_deref(), errors),
        span: up_to(doc.span.unwrap_or(1), reader.shards, "span", errors),
        on_duplicate_key: match doc.on_duplicate_key {
            None | Some(wire::OnDuplicateKey::Ignore) => OnDuplicateKey::Ignore,
            Some(wire::OnDuplicateKey::Reset) => OnDuplicateKey::Reset,
            Some(wire::OnDuplicateKey::Add) => OnDuplicateKey::Add,
        },
        expire_after: doc
            .expire_after
            .map(|after| length(Some(after), Millis::ZERO, EXPIRE_MAX, "expire_after", errors)),
        retention: read_retention(doc.retention, errors),
        visibility: match doc.visibility {
            Some(wire::Visibility::Private) => Visibility::Private,
            None | Some(wire::Visibility::App) => Visibility::App,
            Some(wire::Visibility::Public) => Visibility::Public,
        },
        signing_secrets,
        enabled: doc.enabled.unwrap_or(true),
        // Last, so that all others are looked at even if one of these is missing.
        name: name?,
        kind: kind?,
        target: target?,
    };
    errors.is_empty().then_some(spec)
}

#[derive(Default)]
struct KeptSecrets {
    headers: BTreeMap<String, Secret>,
    key: Option<Secret>,
    signing: Vec<Secret>,
}

impl Source<'_> {
    fn kept_secrets(self) -> KeptSecrets {
        let Self::Replacing(config) = self else { return KeptSecrets::default() };
        let Target::Http(http) = &config.spec.target;
        KeptSecrets {
            headers: http.secret_headers.clone(),
            key: http.tls.as_ref().and_then(|tls| tls.key.clone()),
            signing: config.spec.signing_secrets.clone(),
        }
    }

    fn saved_schedule(&self) -> Option<&Schedule> {
        match self {
            Self::New => None,
            Self::Replacing(config) | Self::Patching(config) => config.spec.schedule.as_ref(),
        }
    }
}

fn read_name(given: Option<&str>, errors: &mut Errors) -> Option<Name> {
    let Some(given) = given else {
        errors.missing("name");
        return None;
    };
    Name::new(given).map_err(|error| errors.add("name", error.to_string())).ok()
}

/// A name that is no good is reported, and the default stands in its place.
fn read_group(given: Option<&str>, errors: &mut Errors) -> Name {
    let named = given
        .map(Name::group)
        .and_then(|name| name.map_err(|error| errors.add("group", error.to_string())).ok());
    named.unwrap_or_else(Name::default_name)
}

fn read_kind(given: Option<wire::Kind>, errors: &mut Errors) -> Option<Kind> {
    match given {
        Some(wire::Kind::Delayed) => Some(Kind::Delayed),
        Some(wire::Kind::Cron) => Some(Kind::Cron),
        None => {
            errors.missing("kind");
            None
        }
    }
}

fn read_schedule_of(
    given: Option<tsp_api::schedule::Schedule>,
    kind: Option<Kind>,
    now: Timestamp,
    source: Source<'_>,
    errors: &mut Errors,
) -> Option<Schedule> {
    match (given, kind) {
        (None, Some(Kind::Cron)) => {
            errors.missing("schedule");
            None
        }
        (None, _) => None,
        (Some(_), Some(Kind::Delayed)) => {
            errors.add("schedule", "belongs to `kind: cron`; a delayed config gets its tasks by submit");
            None
        }
        (Some(given), _) => {
            let schedule = read_schedule(given, errors)?;
            if source.saved_schedule() != Some(&schedule) {
                check_fires(&schedule, now, errors);
            }
            Some(schedule)
        }
    }
}

/// A text for people: no control characters but line breaks and tabs.
pub(crate) fn text(given: Option<String>, chars_max: usize, field: &str, errors: &mut Errors) -> String {
    let given = given.unwrap_or_default();
    if given.chars().count() > chars_max {
        errors.add(field, format!("must be at most {chars_max} characters"));
    } else if given.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        errors.add(field, "may hold no control characters");
    }
    given
}

fn read_labels(given: BTreeMap<String, Option<String>>, errors: &mut Errors) -> BTreeMap<String, String> {
    let labels: BTreeMap<String, String> =
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    if labels.len() > LABELS_MAX {
        errors.add("labels", format!("may hold at most {LABELS_MAX} labels"));
    }
    for (name, value) in &labels {
        if !is_label(name, 1, LABEL_NAME_CHARS_MAX) {
            errors.add(
                format!("labels.{name}"),
                format!("must have a name of 1 to {LABEL_NAME_CHARS_MAX} printable characters"),
            );
        } else if !is_label(value, 0, LABEL_VALUE_CHARS_MAX) {
            errors.add(
                format!("labels.{name}"),
                format!("must be at most {LABEL_VALUE_CHARS_MAX} printable characters"),
            );
        }
    }
    labels
}

fn is_label(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.chars().count()) && text.chars().all(is_printable)
}

fn read_payload(raw: &str, reader: Reader<'_>, errors: &mut Errors) -> Bytes {
    if raw.len() > reader.payload_bytes_max {
        let message = format!("may have at most {} bytes", reader.payload_bytes_max);
        errors.add_as(ErrorCode::TooLarge, "payload", message);
    }
    Bytes::copy_from_slice(raw.as_bytes())
}

fn up_to<T: Copy + PartialOrd + std::fmt::Display>(given: T, max: T, field: &str, errors: &mut Errors) -> T {
    if given > max {
        errors.add(field, format!("must be 0 to {max}, is {given}"));
    }
    given
}

fn read_retention(given: Option<Length>, errors: &mut Errors) -> Millis {
    let Some(Length(retention)) = given else { return RETENTION_DEFAULT };
    if retention > RETENTION_MAX {
        errors.add("retention", "must be `0s` to `3650d`");
    }
    retention
}
