//! Checks that a callback is genuine: [Standard Webhooks](https://www.standardwebhooks.com), as TSP signs
//! them for configs with `signing_secrets` (API.md section 5).
//!
//! ```
//! use std::time::{Duration, UNIX_EPOCH};
//! use http::HeaderMap;
//! use tsp_client::verify;
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("webhook-id", "7301".parse()?);
//! headers.insert("webhook-timestamp", "1795257000".parse()?);
//! headers.insert("webhook-signature", "v1,i51ur1+1TrnHm0tQK3mHrfvRd06/j/P9p7CKFy+hhJA=".parse()?);
//! let now = UNIX_EPOCH + Duration::from_secs(1_795_257_002);
//!
//! verify(&headers, br#"{"order": 42}"#, &["whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtMTIzNA=="], now)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

/// How old, or how far ahead, a callback's timestamp may be.
pub const TOLERANCE: Duration = Duration::from_mins(5);

const SECRET_PREFIX: &str = "whsec_";
const VERSION_PREFIX: &str = "v1,";

/// Why a callback is not to be trusted. Answer it with 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("header `{0}` is missing or unreadable")]
    Header(&'static str),
    #[error("the callback was signed too long ago, or its clock is wrong")]
    TooOld,
    #[error("the callback is signed for a time ahead; check both clocks")]
    TooNew,
    #[error("no signature fits one of the secrets")]
    NoMatch,
    #[error("a secret is not `whsec_` and base64, or there is none")]
    Secret,
}

/// Accepts a callback when one of its signatures was made with one of `secrets` within [`TOLERANCE`] of
/// `now`. `body` is what was received, byte for byte; `secrets` are `whsec_…`, all that may be in use
/// while one is replaced by another. Signatures are compared in constant time.
///
/// # Errors
/// A missing header, a time out of tolerance, no fitting signature, or an unusable secret.
pub fn verify(
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[&str],
    now: SystemTime,
) -> Result<(), VerifyError> {
    let id = header(headers, "webhook-id")?;
    let timestamp = header(headers, "webhook-timestamp")?;
    let signatures = header(headers, "webhook-signature")?;
    check_time(timestamp, now)?;
    if secrets.is_empty() {
        return Err(VerifyError::Secret);
    }
    for secret in secrets {
        let mac = sign(secret, id, timestamp, body)?;
        let fits = signatures
            .split_ascii_whitespace()
            .filter_map(|signature| signature.strip_prefix(VERSION_PREFIX))
            .filter_map(|signature| STANDARD.decode(signature).ok())
            .any(|signature| mac.clone().verify_slice(&signature).is_ok());
        if fits {
            return Ok(());
        }
    }
    Err(VerifyError::NoMatch)
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, VerifyError> {
    headers.get(name).and_then(|value| value.to_str().ok()).ok_or(VerifyError::Header(name))
}

fn check_time(timestamp: &str, now: SystemTime) -> Result<(), VerifyError> {
    let wrong = VerifyError::Header("webhook-timestamp");
    if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong);
    }
    let seconds: u64 = timestamp.parse().map_err(|_| wrong.clone())?;
    let signed = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(wrong)?;
    match now.duration_since(signed) {
        Ok(age) if age > TOLERANCE => Err(VerifyError::TooOld),
        Err(ahead) if ahead.duration() > TOLERANCE => Err(VerifyError::TooNew),
        _ => Ok(()),
    }
}

/// HMAC-SHA256 of `id.timestamp.body`.
fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Result<Hmac<Sha256>, VerifyError> {
    let encoded = secret.strip_prefix(SECRET_PREFIX).ok_or(VerifyError::Secret)?;
    let key = STANDARD.decode(encoded).map_err(|_| VerifyError::Secret)?;
    // An empty key would make every signature forgeable.
    if key.is_empty() {
        return Err(VerifyError::Secret);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| VerifyError::Secret)?;
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC0xMjM0NTY3OA==";
    const NEW: &str = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy0xMjM0NTY3OA==";
    const BODY: &[u8] = b"{\"order\": 42}";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn signed(secrets: &[&str], timestamp: &str) -> HeaderMap {
        let signatures: Vec<String> = secrets
            .iter()
            .map(|secret| {
                let mac = sign(secret, "7301", timestamp, BODY).unwrap();
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            })
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "7301".parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.parse().unwrap());
        headers.insert("webhook-signature", signatures.join(" ").parse().unwrap());
        headers
    }

    #[test]
    fn a_rotation_is_survived_on_both_sides() {
        let both = signed(&[NEW, OLD], "1000");
        for known in [&[NEW][..], &[OLD], &[OLD, NEW]] {
            assert_eq!(verify(&both, BODY, known, at(1_010)), Ok(()), "{known:?}");
        }
        assert_eq!(verify(&signed(&[OLD], "1000"), BODY, &[NEW], at(1_010)), Err(VerifyError::NoMatch));
    }

    #[test]
    fn what_was_changed_does_not_pass() {
        let mut headers = signed(&[NEW], "1000");
        assert_eq!(verify(&headers, b"{\"order\": 43}", &[NEW], at(1_000)), Err(VerifyError::NoMatch));
        headers.insert("webhook-id", "7302".parse().unwrap());
        assert_eq!(verify(&headers, BODY, &[NEW], at(1_000)), Err(VerifyError::NoMatch));
        headers.remove("webhook-id");
        assert_eq!(verify(&headers, BODY, &[NEW], at(1_000)), Err(VerifyError::Header("webhook-id")));
    }

    #[test]
    fn the_time_must_be_near() {
        let headers = signed(&[NEW], "1000");
        assert_eq!(verify(&headers, BODY, &[NEW], at(1_300)), Ok(()));
        assert_eq!(verify(&headers, BODY, &[NEW], at(1_301)), Err(VerifyError::TooOld));
        assert_eq!(verify(&headers, BODY, &[NEW], at(700)), Ok(()));
        assert_eq!(verify(&headers, BODY, &[NEW], at(699)), Err(VerifyError::TooNew));
    }

    #[test]
    fn unusable_secrets_are_said() {
        let headers = signed(&[NEW], "1000");
        for bad in [&[][..], &["whsec_"], &["whsec_?"], &["c2VjcmV0"]] {
            assert_eq!(verify(&headers, BODY, bad, at(1_000)), Err(VerifyError::Secret), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(id in "[ -~]*", timestamp in "[ -~]*|[0-9]{1,25}", signature in "[ -~]*", secret in "whsec_[a-zA-Z0-9=]*") {
            let mut headers = HeaderMap::new();
            headers.insert("webhook-id", id.parse().unwrap());
            headers.insert("webhook-timestamp", timestamp.parse().unwrap());
            headers.insert("webhook-signature", signature.parse().unwrap());
            prop_assert!(verify(&headers, BODY, &[&secret], at(1_000)).is_err());
        }
    }
}
