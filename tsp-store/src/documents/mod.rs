//! The JSON documents that rows hold: mirrors of the domain's values, which know no serde themselves.
//!
//! Times and lengths are milliseconds, enumerations are the words of API.md, and the names of fields are
//! part of the storage format: add fields with `#[serde(default)]`, never rename one. Secrets are sealed
//! by [`Sealer`] before they are written.

mod config;
mod extra;
mod retry;
mod schedule;
mod seal;

#[cfg(test)]
mod properties;

pub use config::{Secrets, config_from_json, config_to_json};
pub use extra::{extra_from_json, extra_to_json};
pub use seal::Sealer;

/// Why a document cannot be written or read; becomes [`crate::StoreError::Corrupt`] with the row's location.
pub type CodecResult<T> = Result<T, String>;

fn payload_text(payload: &[u8]) -> CodecResult<String> {
    std::str::from_utf8(payload).map(str::to_owned).map_err(|_| "a payload is not UTF-8".to_owned())
}

/// The variant of a closed list whose public word is `word`.
fn by_word<T: Copy>(all: &[T], word: &str, as_str: impl Fn(T) -> &'static str) -> CodecResult<T> {
    all.iter().copied().find(|&one| as_str(one) == word).ok_or_else(|| format!("`{word}` is not known"))
}
