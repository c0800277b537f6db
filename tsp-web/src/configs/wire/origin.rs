//! Secret headers belong to the origin that they were given for: they never go to another by themselves.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tsp_api::config as wire;
use tsp_core::config::{HttpTarget, Target, TaskConfig};
use url::Url;

/// Of a PUT: secret headers that are not given stay, unless the target moves. Returns those that do not.
pub(crate) fn leave_secrets_behind(doc: &mut wire::Config, found: Option<&TaskConfig>) -> Vec<String> {
    let Some((wire, saved)) = found.and_then(|found| moved(doc, found)) else { return Vec::new() };
    if wire.secret_headers.is_some() {
        return Vec::new();
    }
    wire.secret_headers = Some(BTreeMap::new());
    saved.secret_headers.keys().cloned().collect()
}

/// Of a document with a patch merged over it: the same for those that the patch does not name.
pub(crate) fn leave_unnamed_secrets_behind(
    doc: &mut wire::Config,
    patch: &str,
    found: &TaskConfig,
) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Patch<'p> {
        #[serde(borrow)]
        target: Option<PatchedTarget<'p>>,
    }
    #[derive(serde::Deserialize)]
    struct PatchedTarget<'p> {
        #[serde(borrow)]
        secret_headers: Option<BTreeMap<String, &'p RawValue>>,
    }
    let Some((wire, saved)) = moved(doc, found) else { return Vec::new() };
    let Some(merged) = &mut wire.secret_headers else { return Vec::new() };
    let named = serde_json::from_str::<Patch<'_>>(patch).ok();
    let named = named.and_then(|patch| patch.target?.secret_headers).unwrap_or_default();
    merged.retain(|name, _| named.contains_key(name));
    saved.secret_headers.keys().filter(|name| !named.contains_key(*name)).cloned().collect()
}

/// The new target and the saved one, if they are of different origins. What is no URL is reported elsewhere.
fn moved<'d, 'f>(
    doc: &'d mut wire::Config,
    found: &'f TaskConfig,
) -> Option<(&'d mut wire::HttpTarget, &'f HttpTarget)> {
    let Target::Http(saved) = &found.spec.target;
    let Some(wire::Target::Http(wire)) = &mut doc.target else { return None };
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    let moves = origin(wire.url.as_deref()?) != origin(&saved.url);
    moves.then_some((wire, saved))
}
