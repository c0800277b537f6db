//! A document as the server would show it: in the server's spelling (`90m` is `1h30m`) and with what it
//! leaves out filled in, so that it can be compared with what the server has.

use serde_json::{Map, Value, json};
use tsp_api::Length;
use tsp_api::config::{Backoff, Config};
use tsp_api::schedule::{Dialect, Misfire, MisfirePolicy, Overlap, Schedule};
use tsp_core::config::{AsyncPolicy, PRIORITY_DEFAULT, RETENTION_DEFAULT, Timeouts};
use tsp_core::retry::RetryPolicy;
use tsp_core::{Millis, Timestamp, schedule};

use super::document::{Document, drop_nulls};

const BACKOFF_MAX: Millis = Millis::from_mins(5);

/// What the server would refuse comes back as it is: the server then names every wrong field.
pub(crate) fn normal(document: &Document) -> Map<String, Value> {
    filled(&document.body).unwrap_or_else(|_| document.body.clone())
}

fn filled(body: &Map<String, Value>) -> serde_json::Result<Map<String, Value>> {
    let mut config: Config = serde_json::from_str(&serde_json::to_string(body)?)?;
    config.schedule = config.schedule.map(fill_schedule);
    if let Some(timeout) = &mut config.timeout {
        // The default for `connect` never exceeds a short `total`.
        let total = timeout.total.map_or(Timeouts::default().total, |total| total.0);
        timeout.connect.get_or_insert(Length(Timeouts::default().connect.min(total)));
    }
    if let Some(Backoff::Exponential { initial: Some(initial), max: max @ None, .. }) =
        config.retry.as_mut().and_then(|retry| retry.backoff.as_mut())
    {
        // Nor does the default for `max` fall below a long `initial`.
        *max = Some(Length(BACKOFF_MAX.max(initial.0)));
    }
    let mut shown: Value = serde_json::from_str(&serde_json::to_string(&config)?)?;
    drop_nulls(&mut shown);
    fill(&mut shown, &defaults());
    let Value::Object(shown) = shown else { return Ok(Map::new()) };
    Ok(shown)
}

/// As API.md section 2 has them; the domain's own where it has a word for them.
fn defaults() -> Value {
    let length = |length: Millis| Length(length);
    let (retry, timeout, waits) = (RetryPolicy::default(), Timeouts::default(), AsyncPolicy::default());
    json!({
        "description": "", "owner": "", "labels": {}, "enabled": true,
        "target": { "type": "http", "method": "POST", "headers": {} },
        "retry": {
            "max_attempts": retry.max_attempts, "jitter": retry.jitter, "max_age": retry.max_age.map(length),
            "non_retryable_status": [],
            "backoff": { "type": "exponential", "initial": "1s", "factor": 2.0, "max": Length(BACKOFF_MAX) },
        },
        "timeout": { "connect": length(timeout.connect), "total": length(timeout.total) },
        "async": { "enabled": waits.enabled, "deadline": length(waits.deadline) },
        "limits": { "loop": "1s", "adaptive": { "enabled": false, "min": 10, "target_rt": "200ms" } },
        "priority": PRIORITY_DEFAULT, "queue": "default", "group": "default", "span": 1,
        "sharding_count": 1, "join": { "type": "all" }, "on_duplicate_key": "ignore",
        "retention": length(RETENTION_DEFAULT), "visibility": "app", "notify": [],
    })
}

fn fill_schedule(schedule: Schedule) -> Schedule {
    match schedule {
        Schedule::Cron { expr, dialect, timezone, start_at, end_at, misfire, overlap } => Schedule::Cron {
            dialect: dialect.or_else(|| expr.as_deref().map(dialect_of)),
            expr,
            timezone,
            start_at,
            end_at,
            misfire: Some(fill_misfire(misfire)),
            overlap: overlap.or(Some(Overlap::Skip)),
        },
        Schedule::Every { interval, anchor, start_at, end_at, misfire, overlap } => Schedule::Every {
            interval,
            anchor: anchor.or(Some(Timestamp::ZERO.into())),
            start_at,
            end_at,
            misfire: Some(fill_misfire(misfire)),
            overlap: overlap.or(Some(Overlap::Skip)),
        },
    }
}

fn fill_misfire(misfire: Option<Misfire>) -> Misfire {
    let misfire = misfire.unwrap_or_default();
    Misfire {
        policy: misfire.policy.or(Some(MisfirePolicy::FireOnce)),
        max: misfire.max,
        grace: misfire.grace.or(Some(Length(schedule::Misfire::default().grace))),
    }
}

/// The domain reads the expression; what it cannot read the server refuses.
fn dialect_of(expr: &str) -> Dialect {
    match schedule::CronSpec::parse(expr, None, "UTC").map(|spec| spec.dialect()) {
        Ok(schedule::Dialect::Quartz) => Dialect::Quartz,
        _ => Dialect::Unix,
    }
}

/// Adds what is absent. Forms of another `type` share no defaults.
fn fill(value: &mut Value, defaults: &Value) {
    let (Value::Object(fields), Value::Object(defaults)) = (value, defaults) else { return };
    let kind = fields.get("type");
    if kind.is_some() && kind != defaults.get("type") {
        return;
    }
    for (name, default) in defaults {
        match fields.get_mut(name) {
            Some(field) => fill(field, default),
            None => {
                fields.insert(name.clone(), default.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(body: &Value) -> Value {
        Value::Object(filled(body.as_object().unwrap()).unwrap())
    }

    #[test]
    fn the_least_document_gets_every_default() {
        let least =
            json!({ "name": "a", "kind": "delayed", "target": { "type": "http", "url": "http://a/" } });
        let full = normalised(&least);
        assert_eq!(
            full["retry"]["backoff"],
            json!({ "type": "exponential", "initial": "1s", "factor": 2.0, "max": "5m" })
        );
        assert_eq!(full["retry"]["max_age"], "2d");
        assert_eq!(full["target"]["method"], "POST");
        assert_eq!(full["retention"], "7d");
        assert_eq!(normalised(&full), full, "a document filled in once stays as it is");
    }

    #[test]
    fn the_servers_spelling_is_used() {
        let body = json!({
            "name": "a", "kind": "cron", "target": { "type": "http", "url": "http://a/", "method": "GET" },
            "schedule": { "type": "cron", "expr": "0 0 2 * * ?", "timezone": "UTC", "end_at": "2030-01-01T08:00:00+08:00" },
            "retry": { "backoff": { "type": "list", "delays": ["60s", "90m"] } },
            "timeout": { "total": "1s" }, "owner": null,
        });
        let full = normalised(&body);
        assert_eq!(full["retry"]["backoff"], json!({ "type": "list", "delays": ["1m", "1h30m"] }));
        assert_eq!(full["timeout"], json!({ "connect": "1s", "total": "1s" }));
        assert_eq!(full["owner"], "");
        assert_eq!(
            full["schedule"],
            json!({
                "type": "cron", "expr": "0 0 2 * * ?", "dialect": "quartz", "timezone": "UTC",
                "end_at": "2030-01-01T00:00:00.000Z", "misfire": { "policy": "fire_once", "grace": "1h" }, "overlap": "skip",
            })
        );
    }
}
