//! Sealing of secrets at rest: AES-256-GCM with a random nonce.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::CodecResult;

/// First in every sealed text, so that the method can change one day.
const FORMAT: &str = "1:";
/// Binds a sealed text to its use, so that one sealed for something else is not taken for a secret.
const PURPOSE: &[u8] = b"tsp config secret";
/// Sealed and kept in the settings, so that a wrong key is found at start and not at the first callback.
const PROBE: &str = "tsp";

/// Seals with one key. The key never shows itself.
pub struct Sealer {
    key: LessSafeKey,
    /// Nonces come from the operating system even where tests inject their randomness: two equal nonces
    /// under one key would lay the secrets open.
    random: SystemRandom,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// # Errors
    /// Never for a key of this length; ring says so by a `Result`.
    pub fn new(key: &[u8; 32]) -> CodecResult<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| "the secret key is unusable".to_owned())?;
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Hexadecimal text of nonce, cipher text and tag.
    pub fn seal(&self, text: &str) -> CodecResult<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| "the system gives no random bytes".to_owned())?;
        let mut sealed = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut sealed)
            .map_err(|_| "a secret could not be sealed".to_owned())?;
        Ok(format!("{FORMAT}{}{}", hex::encode(nonce), hex::encode(sealed)))
    }

    /// # Errors
    /// A text that was not sealed under this key, or was changed since.
    pub fn open(&self, sealed: &str) -> CodecResult<String> {
        let wrong = || "a secret does not open under this key".to_owned();
        let bytes = sealed.strip_prefix(FORMAT).and_then(|text| hex::decode(text).ok()).ok_or_else(wrong)?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut body = body.to_vec();
        let text = self.key.open_in_place(nonce, Aad::from(PURPOSE), &mut body).map_err(|_| wrong())?;
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| wrong())
    }

    /// What a store keeps to know its key by.
    pub fn probe(&self) -> CodecResult<String> {
        self.seal(PROBE)
    }

    /// Whether `probe` is of this key.
    pub fn opens(&self, probe: &str) -> bool {
        self.open(probe).is_ok_and(|text| text == PROBE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_and_opens_under_one_key_only() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = sealer.seal("whsec_c2VjcmV0").unwrap();
        assert!(!sealed.contains("whsec") && sealed.starts_with("1:"));
        assert_ne!(sealed, sealer.seal("whsec_c2VjcmV0").unwrap(), "each sealing has its own nonce");
        assert_eq!(sealer.open(&sealed).unwrap(), "whsec_c2VjcmV0");
        assert!(Sealer::new(&[8; 32]).unwrap().open(&sealed).is_err());
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let sealer = Sealer::new(&[7; 32]).unwrap();
        let sealed = sealer.seal("secret").unwrap();
        let mut changed = sealed.clone().into_bytes();
        let last = changed.len() - 1;
        changed[last] = if changed[last] == b'0' { b'1' } else { b'0' };
        for wrong in [&*String::from_utf8(changed).unwrap(), "", "1:", "1:00", "1:zz", &sealed[2..], "plain"]
        {
            assert!(sealer.open(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{sealer:?}").contains('7'));
    }
}
