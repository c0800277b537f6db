//! The development server's rule: no key is needed from a browser or tool that speaks to loopback.
//! Without it any web page could drive the server of its reader (DNS rebinding, cross-site requests).

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderValue, header};
use tsp_api::ErrorCode;

use crate::error::{ApiError, ApiResult};

/// 403 unless `Host`, and `Origin` if it was sent, name this machine.
pub(crate) fn check(parts: &Parts) -> ApiResult<()> {
    // HTTP/2 has the host in the URI.
    let host = parts
        .headers
        .get(header::HOST)
        .and_then(text)
        .or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
    let origin = parts.headers.get(header::ORIGIN);
    let good = host.is_some_and(is_loopback) && origin.is_none_or(|origin| text(origin).is_some_and(is_own));
    if good {
        Ok(())
    } else {
        Err(ApiError::new(
            ErrorCode::Forbidden,
            "without a key the development server answers only where `Host` and `Origin` are loopback",
        ))
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

fn is_own(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback)
}

/// `localhost`, `127.0.0.0/8` or `[::1]`, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "127.8.8.8", "[::1]:80", "[::1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "localhost:",
            "::1.x",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
        assert!(is_own("http://localhost:5173") && !is_own("null") && !is_own("http://evil.example"));
    }
}
