//! `target`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tsp_api::config as wire;
use tsp_api::{ErrorCode, Errors};
use tsp_core::config::{HttpTarget, Secret, Target};
use tsp_core::egress::{EgressDenied, EgressPolicy};
use tsp_core::headers::{check_user_header, check_user_header_limits};

type WireHeaders = BTreeMap<String, Option<String>>;

/// `kept` are the secret headers that stay when none are given. `None` when something is wrong.
pub(crate) fn read_target(
    wire: wire::Target,
    kept: &BTreeMap<String, Secret>,
    egress: &EgressPolicy,
    errors: &mut Errors,
) -> Option<Target> {
    let wire::Target::Http(wire::HttpTarget { url, method, headers, secret_headers }) = wire else {
        errors.add_as(ErrorCode::NotSupported, "target.type", "is not supported yet, only `http` is");
        return None;
    };
    match &url {
        Some(url) => check_url(url, egress, errors),
        None => errors.missing("target.url"),
    }
    let headers = plain(headers.unwrap_or_default());
    let secret_headers = match secret_headers {
        Some(given) => plain(given).into_iter().map(|(name, value)| (name, Secret::new(&value))).collect(),
        None => kept.clone(),
    };
    check_headers(&headers, &secret_headers, errors);
    Some(Target::Http(Arc::new(HttpTarget {
        method: method.unwrap_or(wire::Method::Post).as_str().to_owned(),
        url: url?,
        headers,
        secret_headers,
    })))
}

/// A null counts as absent.
fn plain(headers: WireHeaders) -> BTreeMap<String, String> {
    headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn check_url(url: &str, egress: &EgressPolicy, errors: &mut Errors) {
    if let Err(denied) = egress.check_url(url) {
        let code = match denied {
            EgressDenied::Malformed | EgressDenied::Length => ErrorCode::InvalidField,
            _ => ErrorCode::EgressDenied,
        };
        errors.add_as(code, "target.url", denied.to_string());
    }
}

fn check_headers(
    headers: &BTreeMap<String, String>,
    secret_headers: &BTreeMap<String, Secret>,
    errors: &mut Errors,
) {
    let all = || {
        let plain = headers.iter().map(|(name, value)| ("headers", name.as_str(), value.as_str()));
        let secret =
            secret_headers.iter().map(|(name, value)| ("secret_headers", name.as_str(), value.expose()));
        plain.chain(secret)
    };
    let mut seen = BTreeSet::new();
    for (place, name, value) in all() {
        let field = format!("target.{place}.{name}");
        if let Err(message) = check_user_header(name, value) {
            errors.add(field, message);
        } else if !seen.insert(name.to_ascii_lowercase()) {
            errors.add(field, "is given twice; the case of letters does not matter");
        }
    }
    if let Err(message) = check_user_header_limits(all().map(|(_, name, value)| (name, value))) {
        errors.add("target.headers", message);
    }
}

/// `secrets`: whether the secret headers are written too, which only a merge wants.
pub(crate) fn write_target(target: &Target, secrets: bool) -> wire::Target {
    let Target::Http(http) = target;
    wire::Target::Http(wire::HttpTarget {
        url: Some(http.url.clone()),
        method: wire::Method::parse(&http.method),
        headers: Some(http.headers.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect()),
        secret_headers: secrets.then(|| {
            let exposed = |secret: &Secret| Some(secret.expose().to_owned());
            http.secret_headers.iter().map(|(name, secret)| (name.clone(), exposed(secret))).collect()
        }),
    })
}
