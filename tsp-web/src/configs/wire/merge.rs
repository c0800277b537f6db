//! RFC 7396 merges on the text of documents, so that payloads keep their bytes.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tsp_api::ErrorCode;

use crate::error::{ApiError, ApiResult};

type Fields = BTreeMap<String, Box<RawValue>>;

/// Fields that tell apart the forms of an object.
const TAGS: [&str; 2] = ["type", "policy"];
/// Fields of one form of an object only. They go when a patch changes the form, so that a patch need not
/// name what it does away with.
const OF_ONE_FORM: [&str; 10] =
    ["expr", "dialect", "timezone", "interval", "anchor", "initial", "factor", "max", "delays", "n"];

/// `target` with `patch` merged over it; both are the texts of objects.
pub(crate) fn patched(target: &str, patch: &RawValue) -> String {
    merge(Some(target), patch.get())
}

/// A patch, if the body is one: an object.
pub(crate) fn read_patch(body: &[u8]) -> ApiResult<&RawValue> {
    let patch: &RawValue = serde_json::from_slice(body)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, error.to_string()))?;
    if fields(patch.get()).is_none() {
        return Err(ApiError::new(ErrorCode::InvalidField, "the body must be an object"));
    }
    Ok(patch)
}

/// RFC 7396, and a change of `type` or `policy` drops what belonged to the form before.
pub(crate) fn merge(target: Option<&str>, patch: &str) -> String {
    let Some(patch) = fields(patch) else { return patch.to_owned() };
    let mut merged = target.and_then(fields).unwrap_or_default();
    let changes_form = TAGS.iter().any(|&tag| match (merged.get(tag), patch.get(tag)) {
        (Some(old), Some(new)) => old.get() != new.get(),
        _ => false,
    });
    if changes_form {
        merged.retain(|name, _| !OF_ONE_FORM.contains(&name.as_str()));
    }
    for (name, value) in patch {
        if value.get() == "null" {
            merged.remove(&name);
            continue;
        }
        let text = merge(merged.get(&name).map(|old| old.get()), value.get());
        if let Ok(value) = RawValue::from_string(text) {
            merged.insert(name, value);
        }
    }
    serde_json::to_string(&merged).unwrap_or_default()
}

fn fields(text: &str) -> Option<Fields> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (target, patch, merged) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r"{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            (r"[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            (r"{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merge(Some(target), patch), merged, "{target} {patch}");
        }
    }

    #[test]
    fn payloads_keep_their_bytes_and_forms_their_fields() {
        let patch = r#"{"payload":{ "n" : 12345678901234567890.10 }}"#;
        assert!(merge(Some(r#"{"payload":7}"#), patch).contains("12345678901234567890.10"));
        let every = merge(
            Some(r#"{"type":"cron","expr":"x","timezone":"UTC","overlap":"skip"}"#),
            r#"{"type":"every","interval":"5s"}"#,
        );
        assert_eq!(every, r#"{"interval":"5s","overlap":"skip","type":"every"}"#);
    }
}
