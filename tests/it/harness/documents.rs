//! Builders of the two documents that nearly every test sends.

use serde_json::{Value, json};
use tsp_core::{Millis, Timestamp};

use super::{in_days, now};

/// A config; the defaults of the API are left to the API.
#[derive(Clone, Debug)]
pub(crate) struct Config(Value);

impl Config {
    pub(crate) fn delayed(name: &str, url: &str) -> Self {
        let target = json!({ "type": "http", "url": url });
        Self(json!({ "name": name, "kind": "delayed", "target": target })).set("timeout", unhurried())
    }

    pub(crate) fn cron(name: &str, url: &str, schedule: &Value) -> Self {
        Self(json!({
            "name": name, "kind": "cron", "target": { "type": "http", "url": url }, "schedule": schedule,
        }))
        .set("timeout", unhurried())
    }

    /// Sets a top-level field.
    pub(crate) fn set(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    pub(crate) fn json(self) -> Value {
        self.0
    }
}

/// A schedule that does not fire while a test runs, at whatever hour that is.
pub(crate) fn seldom() -> Value {
    json!({ "type": "every", "interval": "365d", "anchor": in_days(-100) })
}

/// A machine that is short of time makes no attempt fail: a test says so where a time-out is what it is about.
fn unhurried() -> Value {
    json!({ "connect": "1m", "total": "1m" })
}

/// What a config has that names no time-outs, for tests of receivers that use them up.
pub(crate) fn usual_timeout() -> Value {
    json!({ "connect": "2s", "total": "10s" })
}

/// Every attempt after the first waits `delay`.
pub(crate) fn backoff(max_attempts: u32, delay: &str) -> Value {
    json!({ "max_attempts": max_attempts, "jitter": 0, "backoff": { "type": "list", "delays": [delay] } })
}

/// A submit.
#[derive(Clone, Debug)]
pub(crate) struct Task(Value);

impl Task {
    /// Due now.
    pub(crate) fn of(config: &str) -> Self {
        Self(json!({ "config": config }))
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.set("key", json!(key))
    }

    pub(crate) fn delay(self, delay: &str) -> Self {
        self.set("delay", json!(delay))
    }

    pub(crate) fn at(self, at: Timestamp) -> Self {
        self.set("execute_at", json!(at.to_string()))
    }

    pub(crate) fn in_ms(self, ms: i64) -> Self {
        self.at(now().plus(Millis::from_ms(ms)))
    }

    pub(crate) fn payload(self, payload: Value) -> Self {
        self.set("payload", payload)
    }

    pub(crate) fn set(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    pub(crate) fn json(self) -> Value {
        self.0
    }
}
