//! RFC 7396 merges on the text of documents, so that payloads keep their bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tsp_api::{ErrorCode, json};

use crate::body::refuse_doubles;
use crate::error::{ApiError, ApiResult};

/// By what the names mean, with the names and values as they were written.
type Fields<'a> = BTreeMap<Cow<'a, [u8]>, (&'a str, Cow<'a, str>)>;

/// Fields that tell apart the forms of an object.
const TAGS: [&[u8]; 2] = [b"type", b"policy"];
/// Fields of one form of an object only. They go when a patch changes the form, so that a patch need not
/// name what it does away with.
const OF_ONE_FORM: [&[u8]; 10] = [
    b"expr",
    b"dialect",
    b"timezone",
    b"interval",
    b"anchor",
    b"initial",
    b"factor",
    b"max",
    b"delays",
    b"n",
];
/// Each level of a patch is worked out from the text of the one around it.
const LEVELS_MAX: usize = 64;

/// `target` with `patch` merged over it; both are the texts of objects.
pub(crate) fn patched(target: &str, patch: &str) -> String {
    merge(Some(target), patch)
}

/// A patch, if the body is one: an object.
pub(crate) fn read_patch(body: &[u8]) -> ApiResult<&str> {
    let invalid = |error: String| ApiError::new(ErrorCode::InvalidJson, error);
    let text = str::from_utf8(body).map_err(|error| invalid(error.to_string()))?;
    let levels = json::depth(text).map_err(|error| invalid(error.to_string()))?;
    if !text.trim_start().starts_with('{') {
        return Err(ApiError::new(ErrorCode::InvalidField, "the body must be an object"));
    }
    refuse_doubles(body)?;
    if levels > LEVELS_MAX {
        let detail = format!(
            "the patch is nested {levels} levels deep, at most {LEVELS_MAX} are merged; replace the config with PUT"
        );
        return Err(ApiError::new(ErrorCode::InvalidField, detail));
    }
    Ok(text.trim())
}

/// RFC 7396, and a change of `type` or `policy` drops what belonged to the form before.
pub(crate) fn merge(target: Option<&str>, patch: &str) -> String {
    let Some(patch) = fields(patch) else { return patch.to_owned() };
    let mut merged = target.and_then(fields).unwrap_or_default();
    let changes_form = TAGS.iter().any(|&tag| match (merged.get(tag), patch.get(tag)) {
        (Some((_, old)), Some((_, new))) => old != new,
        _ => false,
    });
    if changes_form {
        merged.retain(|name, _| !OF_ONE_FORM.contains(&&**name));
    }
    for (name, (written, value)) in patch {
        if value == "null" {
            merged.remove(&name);
            continue;
        }
        let old = merged.get(&name).map(|(_, old)| &**old);
        let value = merge(old, &value);
        merged.insert(name, (written, Cow::Owned(value)));
    }
    let members: Vec<String> = merged.values().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn fields(text: &str) -> Option<Fields<'_>> {
    let members = json::members(text).ok().flatten()?;
    let pairs = members.into_iter();
    Some(
        pairs.map(|member| (member.name.bytes(), (member.name.raw(), Cow::Borrowed(member.value)))).collect(),
    )
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

    #[test]
    fn names_and_values_that_no_parser_holds_are_merged_too() {
        let target = r#"{"payload":{"\ud800":1,"a":1}}"#;
        let patch = r#"{"payload":{"\uD800":null,"\u0061":1e400,"b":"\ud800"}}"#;
        assert_eq!(merge(Some(target), patch), r#"{"payload":{"\u0061":1e400,"b":"\ud800"}}"#);
    }

    #[test]
    fn a_patch_is_not_nested_for_ever() {
        let nested = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        let body = nested(LEVELS_MAX);
        assert_eq!(patched("{}", read_patch(body.as_bytes()).unwrap()), body);
        let refused = read_patch(nested(100_000).as_bytes()).unwrap_err();
        assert!(refused.detail().contains("PUT"), "{refused:?}");
    }
}
