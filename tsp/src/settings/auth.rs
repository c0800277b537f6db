//! `[auth]`

use secrecy::{ExposeSecret, SecretString};

use super::reader::Reader;

/// Shorter keys can be guessed.
const BOOTSTRAP_KEY_CHARS_MIN: usize = 24;

#[derive(Debug)]
pub(crate) struct AuthSettings {
    pub(crate) bootstrap_key: Option<SecretString>,
}

impl AuthSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let key = SecretString::from(reader.text("auth.bootstrap_key"));
        let given = key.expose_secret();
        let chars = given.chars().count();
        if chars > 0 && chars < BOOTSTRAP_KEY_CHARS_MIN {
            let why = format!("must have at least {BOOTSTRAP_KEY_CHARS_MIN} characters, has {chars}");
            reader.wrong("auth.bootstrap_key", &why);
        } else if !given.bytes().all(|byte| byte.is_ascii_graphic()) {
            reader.wrong("auth.bootstrap_key", "must hold printable ASCII characters without blanks");
        }
        Self { bootstrap_key: (chars > 0).then_some(key) }
    }
}
