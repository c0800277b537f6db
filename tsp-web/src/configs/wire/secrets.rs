//! `signing_secrets` (Standard Webhooks).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tsp_api::Errors;
use tsp_api::config::SIGNING_SECRETS_MAX;
use tsp_core::config::Secret;

const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The values never appear in messages.
pub(crate) fn read_signing_secrets(wire: &[String], errors: &mut Errors) -> Vec<Secret> {
    if wire.len() > SIGNING_SECRETS_MAX {
        errors.add("signing_secrets", format!("may hold at most {SIGNING_SECRETS_MAX} secrets"));
    }
    for (place, text) in wire.iter().enumerate() {
        let field = || format!("signing_secrets[{place}]");
        let key = text.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        if !key.is_some_and(|key| KEY_BYTES.contains(&key.len())) {
            errors.add(field(), "must be `whsec_` and the base64 of 24 to 64 bytes");
        } else if wire[..place].contains(text) {
            errors.add(field(), "is given twice");
        }
    }
    wire.iter().map(|text| Secret::new(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(secrets: &[&str]) -> Vec<String> {
        let mut errors = Errors::new();
        let secrets: Vec<String> = secrets.iter().map(|&text| text.to_owned()).collect();
        read_signing_secrets(&secrets, &mut errors);
        errors.into_fields().into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn checks_form_and_number() {
        let good = format!("whsec_{}", STANDARD.encode([7; 32]));
        let others: Vec<String> = (0..4).map(|n| format!("whsec_{}", STANDARD.encode([n; 24]))).collect();
        assert!(bad(&[&good]).is_empty());
        assert_eq!(bad(&[&good, &good]), ["signing_secrets[1]"]);
        assert_eq!(bad(&["whsec_MTIz", "abc"]), ["signing_secrets[0]", "signing_secrets[1]"]);
        let four: Vec<&str> = others.iter().map(String::as_str).collect();
        assert_eq!(bad(&four), ["signing_secrets"]);
    }
}
