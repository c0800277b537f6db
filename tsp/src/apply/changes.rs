//! Which fields differ between two configs.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

/// Fields that are given and never read back, so that nobody can tell whether they differ.
const WRITE_ONLY: [&str; 3] = ["signing_secrets", "target.secret_headers", "target.tls.key"];

/// One field that will change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Field {
        path: String,
        from: Value,
        to: Value,
    },
    /// The texts; `None` is no payload.
    Payload {
        from: Option<String>,
        to: Option<String>,
    },
    /// Sent whenever it is given.
    WriteOnly {
        path: &'static str,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { path, from, to } => write!(f, "{path}: {from} -> {to}"),
            Self::Payload { from, to } => {
                let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".to_owned());
                write!(f, "payload: {} -> {}", shown(from), shown(to))
            }
            Self::WriteOnly { path } => write!(f, "{path}: (write-only, always sent)"),
        }
    }
}

/// `wanted` and `current` with all defaults filled in; `given` as it stands in the file.
pub(super) fn changes(
    current: &Map<String, Value>,
    wanted: &Map<String, Value>,
    given: &Map<String, Value>,
) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", current, wanted, &mut found);
    for path in WRITE_ONLY {
        let mut steps = path.split('.');
        let first = steps.next().and_then(|step| given.get(step));
        let value = steps.fold(first, |value, step| value?.get(step));
        if value.is_some_and(|value| !value.is_null()) {
            found.push(Change::WriteOnly { path });
        }
    }
    found
}

fn compare(prefix: &str, current: &Map<String, Value>, wanted: &Map<String, Value>, found: &mut Vec<Change>) {
    let fields: BTreeSet<&String> = current.keys().chain(wanted.keys()).collect();
    for field in fields {
        let path = if prefix.is_empty() { field.clone() } else { format!("{prefix}.{field}") };
        if WRITE_ONLY.contains(&path.as_str()) {
            continue;
        }
        // A null is as good as absent (API.md section 1).
        let from = current.get(field).unwrap_or(&Value::Null);
        let to = wanted.get(field).unwrap_or(&Value::Null);
        match (from, to) {
            (Value::Object(from), Value::Object(to)) => compare(&path, from, to, found),
            // Field by field, so that what is write-only in it is not shown.
            (Value::Null, Value::Object(to)) if has_write_only(&path) => {
                compare(&path, &Map::new(), to, found);
            }
            _ if same(from, to) => {}
            _ => found.push(Change::Field { path, from: from.clone(), to: to.clone() }),
        }
    }
}

fn has_write_only(path: &str) -> bool {
    WRITE_ONLY.iter().any(|only| only.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// `2` and `2.0` are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(current: &Value, wanted: &Value) -> Vec<String> {
        let (current, wanted) = (current.as_object().unwrap(), wanted.as_object().unwrap());
        changes(current, wanted, wanted).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_private_key_is_sent_and_never_shown() {
        let wanted = json!({ "target": { "tls": { "cert": "a", "key": "hidden" } } });
        let sent = "target.tls.key: (write-only, always sent)";
        let new = said(&json!({ "target": {} }), &wanted);
        assert_eq!(new, ["target.tls.cert: null -> \"a\"", sent]);
        assert_eq!(said(&json!({ "target": { "tls": { "cert": "a" } } }), &wanted), [sent]);
    }

    #[test]
    fn names_each_field_by_its_path() {
        let current = json!({
            "priority": 2, "payload": null, "labels": { "team": "a" }, "owner": "x",
            "retry": { "max_attempts": 5, "backoff": { "factor": 2 } },
        });
        let wanted = json!({
            "priority": 3, "labels": { "team": "b", "new": "1" }, "owner": "x",
            "retry": { "max_attempts": 5, "backoff": { "factor": 2.0 } },
        });
        assert_eq!(
            said(&current, &wanted),
            ["labels.new: null -> \"1\"", "labels.team: \"a\" -> \"b\"", "priority: 2 -> 3",]
        );
        assert_eq!(said(&current, &current), [""; 0]);
    }

    #[test]
    fn secrets_are_never_printed() {
        let wanted =
            json!({ "signing_secrets": ["whsec_x"], "target": { "secret_headers": { "A": "hidden" } } });
        let lines = said(&json!({ "target": {} }), &wanted);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(!lines.join(" ").contains("whsec") && !lines.join(" ").contains("hidden"), "{lines:?}");
    }
}
