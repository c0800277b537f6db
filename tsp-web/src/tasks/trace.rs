//! The W3C trace context of a request.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tsp_api::headers::TRACEPARENT;

/// The length of `00-<32 hex>-<16 hex>-<2 hex>`.
const LENGTH: usize = 55;
/// A later version may be longer; nothing sensible is longer than this.
const LENGTH_MAX: usize = 128;

/// A valid `traceparent`, or none: what is not valid is dropped, as the standard asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceParent(Option<Box<str>>);

impl TraceParent {
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TraceParent {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let mut given = parts.headers.get_all(TRACEPARENT).iter();
        let (first, second) = (given.next(), given.next());
        let text = first.filter(|_| second.is_none()).and_then(|value| value.to_str().ok());
        Ok(Self(text.filter(|text| is_valid(text)).map(Into::into)))
    }
}

fn is_valid(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < LENGTH || bytes.len() > LENGTH_MAX {
        return false;
    }
    let (version, trace, parent, flags) = (&bytes[0..2], &bytes[3..35], &bytes[36..52], &bytes[53..55]);
    let length_fits = match version {
        b"00" => bytes.len() == LENGTH,
        _ => bytes.len() == LENGTH || bytes[LENGTH] == b'-',
    };
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    length_fits
        && version != b"ff"
        && [2, 35, 52].iter().all(|&at| bytes[at] == b'-')
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && !is_zero(trace)
        && !is_zero(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_ones_are_kept() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_valid(good));
        assert!(is_valid(&good.replacen("00", "01", 1)));
        assert!(is_valid(&format!("{}-more", good.replacen("00", "cc", 1))));
        for bad in [
            String::new(),
            good.replacen("00", "ff", 1),
            good.to_uppercase(),
            format!("{good}-more"),
            good[..54].to_owned(),
            good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            good.replace("b7ad6b7169203331", &"0".repeat(16)),
            good.replace("-b7", "_b7"),
            "ü".repeat(28),
        ] {
            assert!(!is_valid(&bad), "{bad}");
        }
    }
}
