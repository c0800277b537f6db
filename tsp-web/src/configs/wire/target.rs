//! `target`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tsp_api::config as wire;
use tsp_api::{ErrorCode, Errors};
use tsp_core::config::{HttpTarget, Secret, Target, TargetTls};
use tsp_core::egress::{EgressDenied, EgressPolicy};
use tsp_core::headers::{check_user_header, check_user_header_limits};

use crate::state::TlsCheck;

type WireHeaders = BTreeMap<String, Option<String>>;

/// `kept` are the secret headers that stay when none are given. `None` when something is wrong.
pub(crate) fn read_target(
    wire: wire::Target,
    kept: &BTreeMap<String, Secret>,
    kept_key: Option<&Secret>,
    egress: &EgressPolicy,
    check_tls: TlsCheck,
    errors: &mut Errors,
) -> Option<Target> {
    let wire::Target::Http(wire::HttpTarget { url, method, headers, secret_headers, tls }) = wire else {
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
    let tls = tls.and_then(|given| read_tls(given, kept_key, url.as_deref(), check_tls, errors));
    Some(Target::Http(Arc::new(HttpTarget {
        method: method.unwrap_or(wire::Method::Post).as_str().to_owned(),
        url: url?,
        headers,
        secret_headers,
        tls,
    })))
}

/// A key that is left out stays as long as there is a certificate. It never leaves the service, so it may follow to
/// another URL.
fn read_tls(
    given: wire::HttpTls,
    kept_key: Option<&Secret>,
    url: Option<&str>,
    check: TlsCheck,
    errors: &mut Errors,
) -> Option<TargetTls> {
    let wire::HttpTls { ca, cert, key } = given;
    for (field, text) in [("ca", &ca), ("cert", &cert), ("key", &key)] {
        if text.as_ref().is_some_and(|text| text.len() > wire::TLS_PEM_BYTES_MAX) {
            let message = format!("must be at most {} bytes", wire::TLS_PEM_BYTES_MAX);
            errors.add(format!("target.tls.{field}"), message);
            return None;
        }
    }
    let key = key.map(|key| Secret::new(&key)).or_else(|| kept_key.filter(|_| cert.is_some()).cloned());
    let tls = TargetTls { ca, cert, key };
    if tls == TargetTls::default() {
        return None;
    }
    if url.is_some_and(|url| !url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))) {
        errors.add("target.tls", "belongs to an `https` URL");
    } else if let Err((field, message)) = check(&tls) {
        errors.add(format!("target.tls.{field}"), message);
    }
    Some(tls)
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
        tls: http.tls.as_ref().map(|tls| wire::HttpTls {
            ca: tls.ca.clone(),
            cert: tls.cert.clone(),
            key: tls.key.as_ref().filter(|_| secrets).map(|key| key.expose().to_owned()),
        }),
    })
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{Answer, Server, delayed};

    const CONFIG: &str = "/api/v1/apps/trade/configs/c";

    macro_rules! testdata {
        ($file:literal) => {
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tsp-worker/src/http/testdata/", $file))
        };
    }

    const CA: &str = testdata!("ca.pem");
    const CERT: &str = testdata!("server.pem");
    const KEY: &str = testdata!("server.key");

    fn with_tls(tls: &Value) -> Value {
        let mut config = delayed("c");
        config["target"]["url"] = json!("https://example.com/");
        config["target"]["tls"] = tls.clone();
        config
    }

    async fn put(server: &Server, tls: &Value) -> Answer {
        server.call(Method::PUT, CONFIG, with_tls(tls)).await
    }

    #[tokio::test]
    async fn a_private_key_is_never_shown_and_stays_with_its_certificate() {
        let server = Server::start().await;
        server.app("trade").await;
        let shown = json!({"ca": CA, "cert": CERT});
        let made = put(&server, &json!({"ca": CA, "cert": CERT, "key": KEY})).await.expect(201);
        assert_eq!(made["target"]["tls"], shown);
        assert_eq!(server.get(CONFIG).await.expect(200)["target"]["tls"], shown);
        // As it was read, without the key.
        assert_eq!(put(&server, &shown).await.expect(200)["target"]["tls"], shown);
        let patch = |body| server.call(Method::PATCH, CONFIG, body);
        patch(json!({"description": "x"})).await.expect(200);
        assert_eq!(patch(json!({"target": {"tls": {"key": null}}})).await.fields(), ["target.tls.key"]);
        let gone = patch(json!({"target": {"tls": null}})).await.expect(200);
        assert_eq!(gone["target"]["tls"], Value::Null);
        assert_eq!(
            put(&server, &shown).await.fields(),
            ["target.tls.key"],
            "it is gone with its certificate"
        );
    }

    #[tokio::test]
    async fn what_is_no_certificate_is_refused_by_its_field() {
        let server = Server::start().await;
        server.app("trade").await;
        for (tls, field) in [
            (json!({"ca": "x"}), "target.tls.ca"),
            (json!({"cert": CERT}), "target.tls.key"),
            (json!({"key": KEY}), "target.tls.cert"),
            (json!({"cert": CERT, "key": CA}), "target.tls.key"),
            (json!({"ca": "x".repeat(40_000)}), "target.tls.ca"),
        ] {
            assert_eq!(put(&server, &tls).await.fields(), [field]);
        }
        let mut plain = with_tls(&json!({"ca": CA}));
        plain["target"]["url"] = json!("http://example.com/");
        assert_eq!(server.call(Method::PUT, CONFIG, plain).await.fields(), ["target.tls"]);
    }
}
