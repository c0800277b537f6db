//! Documents of configs as they were sent.

use std::sync::LazyLock;

use bytes::Bytes;
use tsp_api::config as wire;
use tsp_api::json;
use utoipa::PartialSchema;

use crate::body::{Json, refuse_doubles};
use crate::error::ApiResult;
use crate::openapi;

/// What the server tells and nobody sets.
static READ_ONLY: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut schema = serde_json::to_value(wire::Config::schema()).unwrap_or_default();
    openapi::tidy(&mut schema);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let is_read_only = |schema: &serde_json::Value| schema["readOnly"] == true;
    properties.filter(|(_, schema)| is_read_only(schema)).map(|(name, _)| name.clone()).collect()
});

/// A config; read-only fields may be sent back, and are not looked at.
pub(crate) fn read_document(raw: Bytes) -> ApiResult<Json<wire::Config>> {
    refuse_doubles(&raw)?;
    let document = Json::parse(settable(&raw).unwrap_or_else(|| raw.clone()))?;
    Ok(Json { raw, ..document })
}

/// The body without what is read-only; `None` when it has none of it.
fn settable(raw: &[u8]) -> Option<Bytes> {
    let members = json::members(str::from_utf8(raw).ok()?).ok()??;
    let is_settable = |member: &&json::Member<'_>| !READ_ONLY.contains(&member.name.shown());
    let kept: Vec<String> = members
        .iter()
        .filter(is_settable)
        .map(|member| format!("\"{}\":{}", member.name.raw(), member.value))
        .collect();
    (kept.len() < members.len()).then(|| format!("{{{}}}", kept.join(",")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_only_is_not_looked_at() {
        let body = "{\"name\":\"c\",\"version\":\"x\",\"paused\":{\"a\":[1]},\"created_at\":7,\
            \"secret_header_names\":{}, \"payload\": { \"version\" : 1.10 },\"next_fire_at\":\"soon\"}";
        let document = read_document(body.into()).unwrap();
        assert_eq!(document.errors.code(), None);
        assert_eq!((document.value.version, document.value.paused), (None, None));
        assert_eq!(document.value.payload.unwrap().get(), "{ \"version\" : 1.10 }");
        assert_eq!(document.raw, body);
        for own in [
            "app",
            "version",
            "created_at",
            "updated_at",
            "paused",
            "next_fire_at",
            "signing_secret_count",
            "secret_header_names",
        ] {
            assert!(READ_ONLY.iter().any(|name| name == own), "{own}");
        }
        assert!(!READ_ONLY.iter().any(|name| name == "enabled"));
    }
}
