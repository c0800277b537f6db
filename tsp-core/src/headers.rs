//! Which headers users may add to callbacks (docs/reference/http-callbacks.md section 6). The header names
//! are those of the HTTP standards, without the `http` crate, so that the rule lives in the domain.

/// The most headers of one config or task.
pub const USER_HEADERS_MAX: usize = 32;
/// The most bytes of names and values of one config or task together.
pub const USER_HEADER_BYTES_MAX: usize = 8 * 1024;

/// Hop-by-hop and framing headers, and those this service sets itself, as [`folded`].
const REFUSED_NAMES: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "te",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "http2-settings",
];
const REFUSED_PREFIXES: [&str; 3] = ["proxy-", "tsp-", "webhook-"];

/// Checks one header of a user. The error says what is wrong, without the value, which may be secret.
pub fn check_user_header(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err("is no header name".to_owned());
    }
    if is_reserved(name) {
        return Err("is set by the service and may not be given; `_` counts as `-`".to_owned());
    }
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Err("may hold only printable ASCII characters".to_owned());
    }
    if value.trim_matches([' ', '\t']).len() != value.len() {
        return Err("may not begin or end with a blank".to_owned());
    }
    Ok(())
}

/// Whether a header of this name would be taken for one that the service sets.
pub fn is_reserved(name: &str) -> bool {
    let folded = folded(name);
    REFUSED_NAMES.contains(&folded.as_str())
        || REFUSED_PREFIXES.iter().any(|prefix| folded.starts_with(prefix))
}

/// As many receivers see a name: CGI and WSGI hand on `TSP_Attempt` and `TSP-Attempt` as one variable, and some
/// servers do the same with every other sign.
fn folded(name: &str) -> String {
    name.chars()
        .map(|sign| if sign.is_ascii_alphanumeric() { sign.to_ascii_lowercase() } else { '-' })
        .collect()
}

/// Checks the number and size of all headers of one config or task, secret ones included.
pub fn check_user_header_limits<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    let (count, bytes) =
        headers.fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + name.len() + value.len()));
    if count > USER_HEADERS_MAX {
        Err(format!("may hold at most {USER_HEADERS_MAX} headers"))
    } else if bytes > USER_HEADER_BYTES_MAX {
        Err(format!("may hold at most {USER_HEADER_BYTES_MAX} bytes"))
    } else {
        Ok(())
    }
}

/// A `tchar` of RFC 9110.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses() {
        for (name, value) in [
            ("X-Shop", "7"),
            ("authorization", "Bearer a b"),
            ("Content_Type", "text/plain"),
            ("x", ""),
            ("t_e", ""),
        ] {
            assert_eq!(check_user_header(name, value), Ok(()), "{name}");
        }
        for name in [
            "",
            "a b",
            "a:b",
            "ä",
            "Host",
            "CONNECTION",
            "content-length",
            "Proxy-Authorization",
            "tsp-attempt",
            "Webhook-Id",
            "User-Agent",
            "traceparent",
            "TSP_Task_Id",
            "tsp_attempt",
            "tsp.attempt",
            "Idempotency_Key",
            "idempotency.key",
            "Content_Length",
            "transfer_Encoding",
            "webhook_signature",
            "PROXY_AUTHORIZATION",
        ] {
            assert!(check_user_header(name, "v").is_err(), "{name}");
        }
        for value in ["a\r\nb", "a\0", "ü", " a", "a "] {
            assert!(check_user_header("x", value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn number_and_size_are_bounded() {
        assert!(check_user_header_limits([("a", "b"); 32].into_iter()).is_ok());
        assert!(check_user_header_limits([("a", "b"); 33].into_iter()).is_err());
        let long = "v".repeat(USER_HEADER_BYTES_MAX);
        assert!(check_user_header_limits([("a", long.as_str())].into_iter()).is_err());
    }
}
