//! Reads one task of a submit: by hand, from the body's own bytes, with every wrong field named.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use tsp_api::config::Retry;
use tsp_api::task::submit::{AHEAD_DAYS_MAX, DuplicateKey};
use tsp_api::time::parse_time;
use tsp_api::{ErrorCode, Errors};
use tsp_core::config::OnDuplicateKey;
use tsp_core::duration::parse_duration;
use tsp_core::headers::{check_user_header, check_user_header_limits};
use tsp_core::{Millis, Name, TaskKey, Timestamp};

use crate::body::{Json, add_doubles};
use crate::error::{ApiError, ApiResult};
use crate::tasks::fields;

const FIELDS: [&str; 10] = [
    "config",
    "key",
    "execute_at",
    "delay",
    "payload",
    "on_duplicate_key",
    "headers",
    "retry",
    "expire_after",
    "sharding_count",
];

/// The most parts an occurrence may have (DESIGN.md section 5.1).
const SHARDING_COUNT_MAX: u64 = 1000;

/// A task as its caller wrote it. What was wrong was left out and stands in `errors`, so that what the
/// config has to say is in the same answer.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) config: Option<Name>,
    pub(crate) key: Option<TaskKey>,
    pub(crate) execute_at: Timestamp,
    /// A piece of the body.
    pub(crate) payload: Option<&'a RawValue>,
    pub(crate) on_duplicate_key: Option<OnDuplicateKey>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) retry: Option<Retry>,
    pub(crate) expire_after: Option<Millis>,
    pub(crate) errors: Errors,
}

impl<'a> Draft<'a> {
    /// # Errors
    /// Only when `text` is no JSON object.
    pub(crate) fn read(text: &'a [u8], now: Timestamp) -> ApiResult<Self> {
        let mut errors = Errors::new();
        let [config, key, execute_at, delay, payload, duplicate, headers, retry, expire_after, sharding] =
            fields::read(text, &FIELDS, "", &mut errors).map_err(|error| unreadable(&error))?;
        Ok(Self {
            config: read_config(config, &mut errors),
            key: read_key(key, &mut errors),
            execute_at: read_time(execute_at, delay, now, &mut errors).unwrap_or(now),
            payload,
            on_duplicate_key: read_duplicate(duplicate, &mut errors),
            headers: read_headers(headers, &mut errors),
            retry: read_retry(retry, &mut errors),
            expire_after: read_expiry(expire_after, &mut errors),
            errors: {
                check_sharding(sharding, &mut errors);
                errors
            },
        })
    }
}

/// The error of a body that is no object.
pub(crate) fn unreadable(error: &serde_json::Error) -> ApiError {
    let code = if error.is_data() { ErrorCode::InvalidField } else { ErrorCode::InvalidJson };
    ApiError::new(code, error.to_string())
}

fn read_config(value: Option<&RawValue>, errors: &mut Errors) -> Option<Name> {
    let Some(text) = fields::text_of(value, "config", errors) else {
        errors.missing("config");
        return None;
    };
    note("config", Name::new(&text), errors)
}

fn read_key(value: Option<&RawValue>, errors: &mut Errors) -> Option<TaskKey> {
    let text = fields::text_of(value, "key", errors)?;
    note("key", TaskKey::new(&text), errors)
}

/// The time a task is promised for: a point, or a length from now. `None` when neither is given or it is
/// wrong.
pub(crate) fn read_time(
    execute_at: Option<&RawValue>,
    delay: Option<&RawValue>,
    now: Timestamp,
    errors: &mut Errors,
) -> Option<Timestamp> {
    let at = fields::text_of(execute_at, "execute_at", errors);
    let after = fields::text_of(delay, "delay", errors);
    choose_time(at, after, now, errors)
}

/// [`read_time`] for texts.
pub(crate) fn choose_time(
    execute_at: Option<Cow<'_, str>>,
    delay: Option<Cow<'_, str>>,
    now: Timestamp,
    errors: &mut Errors,
) -> Option<Timestamp> {
    let (field, at) = match (execute_at, delay) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            errors.add("delay", "must not be given together with `execute_at`; leave one of them out");
            return None;
        }
        (Some(text), None) => ("execute_at", note("execute_at", parse_time(&text), errors)?),
        (None, Some(text)) => ("delay", now.plus(note("delay", parse_duration(&text), errors)?)),
    };
    if at.since(now) > Millis::from_days(AHEAD_DAYS_MAX) {
        errors.add(field, "is more than ten years ahead; give an earlier time");
        return None;
    }
    Some(at)
}

fn read_duplicate(value: Option<&RawValue>, errors: &mut Errors) -> Option<OnDuplicateKey> {
    let field = "on_duplicate_key";
    let text = fields::text_of(value, field, errors)?;
    let policy = DuplicateKey::parse(&text).ok_or("must be `ignore`, `reset` or `add`");
    note(field, policy, errors).map(|policy| match policy {
        DuplicateKey::Ignore => OnDuplicateKey::Ignore,
        DuplicateKey::Reset => OnDuplicateKey::Reset,
        DuplicateKey::Add => OnDuplicateKey::Add,
    })
}

fn read_headers(value: Option<&RawValue>, errors: &mut Errors) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let Some(value) = value else { return headers };
    add_doubles("headers", value.get(), errors);
    let Ok(given) = serde_json::from_str::<BTreeMap<String, &RawValue>>(value.get()) else {
        errors.add("headers", "must be an object of header names and texts");
        return headers;
    };
    for (name, value) in given.into_iter().filter(|(_, value)| value.get() != "null") {
        let field = format!("headers.{name}");
        let Some(text) = fields::text_of(Some(value), &field, errors) else { continue };
        if let Err(why) = check_user_header(&name, &text) {
            errors.add(field, why);
        } else if headers.keys().any(|other: &String| other.eq_ignore_ascii_case(&name)) {
            errors.add(field, "is there twice; header names do not tell capital letters apart");
        } else {
            headers.insert(name, text.into_owned());
        }
    }
    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    if let Err(why) = check_user_header_limits(pairs) {
        errors.add("headers", why);
    }
    headers
}

/// Rare and small, so it is read as a document; what is wrong is named by its schema.
fn read_retry(value: Option<&RawValue>, errors: &mut Errors) -> Option<Retry> {
    let text = value?.get();
    // A derived reader would also take the fields' values in an array.
    if !text.starts_with('{') {
        errors.add("retry", "must be an object");
        return None;
    }
    let raw = Bytes::copy_from_slice(text.as_bytes());
    match Json::<Retry>::parse(raw) {
        Ok(json) => {
            add_below("retry", json.errors, errors);
            Some(json.value)
        }
        Err(error) => {
            let problem = error.problem("");
            if problem.errors.is_empty() {
                errors.add("retry", problem.detail);
            }
            for wrong in problem.errors {
                errors.add_as(problem.code, below("retry", &wrong.field), wrong.message);
            }
            None
        }
    }
}

fn add_below(place: &str, found: Errors, errors: &mut Errors) {
    let Some(code) = found.code() else { return };
    for wrong in found.into_fields() {
        errors.add_as(code, below(place, &wrong.field), wrong.message);
    }
}

fn below(place: &str, field: &str) -> String {
    if field.is_empty() { place.to_owned() } else { format!("{place}.{field}") }
}

fn read_expiry(value: Option<&RawValue>, errors: &mut Errors) -> Option<Millis> {
    let text = fields::text_of(value, "expire_after", errors)?;
    let length = note("expire_after", parse_duration(&text), errors)?;
    if !length.is_positive() {
        errors.add("expire_after", "must be longer than zero, for example `1h`");
        return None;
    }
    Some(length)
}

/// Fan-out of submits is not built yet; `1` says nothing.
fn check_sharding(value: Option<&RawValue>, errors: &mut Errors) {
    let field = "sharding_count";
    match value.map(fields::number) {
        None | Some(Some(1)) => {}
        Some(Some(2..=SHARDING_COUNT_MAX)) => {
            errors.add_as(ErrorCode::NotSupported, field, "must be 1: parts are not supported yet");
        }
        Some(_) => errors.add(field, format!("must be a whole number from 1 to {SHARDING_COUNT_MAX}")),
    }
}

fn note<T, E: ToString>(field: &str, read: Result<T, E>, errors: &mut Errors) -> Option<T> {
    read.map_err(|error| errors.add(field, error.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    fn wrong(text: &str) -> Vec<String> {
        match Draft::read(text.as_bytes(), NOW) {
            Ok(draft) => draft.errors.into_fields().into_iter().map(|error| error.field).collect(),
            Err(error) => vec![error.code().as_str().to_owned()],
        }
    }

    #[test]
    fn a_complete_task_is_read() {
        let text = "{\"config\":\"close-order\",\"key\":\"order-42\",\
            \"execute_at\":\"2026-11-21T18:30:00.0001+08:00\",\"payload\": {\"order\" : 42},\
            \"on_duplicate_key\":\"reset\",\"headers\":{\"X-Shop\":\"7\",\"X-None\":null},\
            \"retry\":{\"max_attempts\":3,\"jitter\":null},\"expire_after\":\"1h\",\"sharding_count\":1}";
        let draft = Draft::read(text.as_bytes(), NOW).unwrap();
        assert!(draft.errors.is_empty(), "{:?}", draft.errors);
        assert_eq!(draft.config.unwrap().as_str(), "close-order");
        assert_eq!(draft.key.unwrap().as_str(), "order-42");
        assert_eq!(draft.execute_at, NOW.plus(Millis::from_ms(1)));
        assert_eq!(draft.payload.unwrap().get(), "{\"order\" : 42}");
        assert_eq!(draft.on_duplicate_key, Some(OnDuplicateKey::Reset));
        assert_eq!(draft.headers.len(), 1);
        assert_eq!(draft.retry.unwrap().max_attempts, Some(3));
        assert_eq!(draft.expire_after, Some(Millis::from_hours(1)));
    }

    #[test]
    fn times() {
        let at = |field: &str| {
            let text = format!("{{\"config\":\"c\"{field}}}");
            let draft = Draft::read(text.as_bytes(), NOW).unwrap();
            if draft.errors.is_empty() { Some(draft.execute_at.since(NOW).ms()) } else { None }
        };
        assert_eq!(at(""), Some(0));
        assert_eq!(at(",\"execute_at\":null,\"delay\":null"), Some(0));
        assert_eq!(at(",\"delay\":\"1m\""), Some(60_000));
        assert_eq!(at(",\"execute_at\":\"2026-11-21T10:29:00Z\""), Some(-60_000));
        assert!(at(",\"execute_at\":\"2036-11-21T10:29:00Z\"").is_some());
        for bad in [
            ",\"delay\":\"36500d\"",
            ",\"delay\":\"-1s\"",
            ",\"delay\":60",
            ",\"execute_at\":\"2036-11-23T10:29:00Z\"",
            ",\"execute_at\":\"2026-11-21T10:29:00\"",
            ",\"execute_at\":1795257000",
            ",\"delay\":\"1m\",\"execute_at\":\"2026-11-21T10:29:00Z\"",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let text = "{\"confg\":1,\"key\":\"..\",\"delay\":1,\"on_duplicate_key\":\"drop\",\
            \"headers\":{\"Host\":\"a\",\"x\":1,\"Y\":\"1\",\"y\":\"2\"},\
            \"retry\":{\"max_attempts\":-1,\"more\":1,\"backoff\":{\"type\":\"x\"}},\
            \"expire_after\":\"0s\",\"sharding_count\":0}";
        let mut found = wrong(text);
        found.sort();
        assert_eq!(
            found,
            [
                "config",
                "confg",
                "delay",
                "expire_after",
                "headers.Host",
                "headers.x",
                "headers.y",
                "key",
                "on_duplicate_key",
                "retry.backoff.type",
                "retry.max_attempts",
                "retry.more",
                "sharding_count",
            ]
            .into_iter()
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
        );
        assert_eq!(wrong("[]"), ["invalid_field"]);
        assert_eq!(wrong("{\"config\":"), ["invalid_json"]);
        assert_eq!(wrong("{\"config\":\"c\",\"retry\":7,\"headers\":[]}"), ["headers", "retry"]);
        assert_eq!(wrong("{\"config\":\"c\",\"sharding_count\":2}"), ["sharding_count"]);
    }

    proptest! {
        #[test]
        fn never_panics(field in prop::sample::select(FIELDS.to_vec()), value in "[\\[{]?(\"\\PC{0,12}\"|[0-9.eE+-]{1,8}|null|true|\"[a-z:]{1,9}\":[0-9\"]{0,3})[\\]}]?") {
            let text = format!("{{\"{field}\":{value}}}");
            let _ = Draft::read(text.as_bytes(), NOW).map(|draft| draft.errors.into_fields());
        }
    }
}
