//! Signatures of Standard Webhooks 1.0.0: `v1,` and the base64 of an HMAC-SHA256 over
//! `{id}.{seconds}.{body}`, one per live secret, separated by blanks.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use tsp_core::config::Secret;

const SECRET_PREFIX: &str = "whsec_";
/// Base64 of 32 bytes, padded.
const SIGNATURE_CHARS: usize = 44;

/// A signing secret is not `whsec_` and the standard base64 of at least one byte.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error("a signing secret is `whsec_` and base64")]
pub(super) struct BadSecret;

/// The live secrets of a config, decoded, newest first.
#[derive(Clone)]
pub(super) struct Signer {
    /// Each has its key worked in already; a signature starts from a copy.
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// `None` when there are no secrets.
    pub(super) fn new(secrets: &[Secret]) -> Result<Option<Self>, BadSecret> {
        let keys = secrets.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        Ok(if keys.is_empty() { None } else { Some(Self { keys }) })
    }

    /// Appends the value of `webhook-signature`. `seconds` are decimal Unix seconds of the attempt.
    pub(super) fn sign(&self, id: &[u8], seconds: &[u8], body: &[u8], into: &mut BytesMut) {
        for (index, key) in self.keys.iter().enumerate() {
            let mut mac = key.clone();
            for part in [id, b".", seconds, b".", body] {
                mac.update(part);
            }
            into.extend_from_slice(if index == 0 { b"v1," } else { b" v1," });
            let mut text = [0; SIGNATURE_CHARS];
            let written = STANDARD.encode_slice(mac.finalize().into_bytes(), &mut text).unwrap_or(0);
            into.extend_from_slice(&text[..written]);
        }
    }
}

fn decode(secret: &Secret) -> Result<Hmac<Sha256>, BadSecret> {
    let text = secret.expose().strip_prefix(SECRET_PREFIX).ok_or(BadSecret)?;
    let key = STANDARD.decode(text).map_err(|_| BadSecret)?;
    if key.is_empty() {
        return Err(BadSecret);
    }
    Hmac::new_from_slice(&key).map_err(|_| BadSecret)
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SECOND: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn sign(secrets: &[&str], id: &str, seconds: &str, body: &[u8]) -> String {
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(text)).collect();
        let mut value = BytesMut::new();
        Signer::new(&secrets).unwrap().unwrap().sign(id.as_bytes(), seconds.as_bytes(), body, &mut value);
        String::from_utf8(value.to_vec()).unwrap()
    }

    #[test]
    fn the_vectors_hold() {
        let first = sign(&[FIRST], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(first, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let second = sign(&[SECOND], "0192f3a4b5c6", "1700000000", br#"{"orderId":"o-1"}"#);
        assert_eq!(second, "v1,rqX54hIfLQ5ZKk5jB5IxUBsli/giwyXJpufa39eneTE=");
        let empty = sign(&[SECOND], "0192f3a4b5c6", "1700000000", b"");
        assert_eq!(empty, "v1,LXy9eKN9nuB1Yminy7J3M5TdGTfoA3nKfv4xT9CWKsU=");
    }

    #[test]
    fn rotation_lists_one_signature_per_secret() {
        let body: &[u8] = &[0xff, 0x00, 0xfe];
        let both = sign(&[SECOND, FIRST], "1", "2", body);
        let single = [sign(&[SECOND], "1", "2", body), sign(&[FIRST], "1", "2", body)];
        assert_eq!(both, single.join(" "));
    }

    #[test]
    fn bad_secrets_are_refused() {
        for text in ["", "whsec_", "whsec_%%%", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsk_AAAA"] {
            assert!(Signer::new(&[Secret::new(text)]).is_err(), "{text}");
        }
        assert!(Signer::new(&[]).unwrap().is_none());
    }
}
