//! Names of apps, configs, queues and groups.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// `[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?` (API.md section 1).
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Name(Arc<str>);

/// The longest name of an app or config, of a queue, and of a group (NSQ topic names, API.md section 1).
pub const NAME_MAX: usize = 64;
pub const QUEUE_NAME_MAX: usize = 58;
pub const GROUP_NAME_MAX: usize = 45;

#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum NameError {
    #[error("must be 1 to {max} characters")]
    Length { max: usize },
    #[error("may hold only a-z, 0-9, `.`, `_` and `-`, and must begin and end with a letter or digit")]
    Characters,
}

/// [`Name::default_name`].
pub const DEFAULT_QUEUE: &str = "default";

impl Name {
    /// The queue and the group of a config that names none.
    pub fn default_name() -> Self {
        Self(DEFAULT_QUEUE.into())
    }

    pub fn new(text: &str) -> Result<Self, NameError> {
        Self::with_max(text, NAME_MAX)
    }

    pub fn queue(text: &str) -> Result<Self, NameError> {
        Self::with_max(text, QUEUE_NAME_MAX)
    }

    pub fn group(text: &str) -> Result<Self, NameError> {
        Self::with_max(text, GROUP_NAME_MAX)
    }

    fn with_max(text: &str, max: usize) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > max {
            return Err(NameError::Length { max });
        }
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let inside = bytes.iter().all(|&b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'));
        if inside && alphanumeric(bytes[0]) && alphanumeric(bytes[bytes.len() - 1]) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Characters)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses() {
        for good in ["a", "9", "close-order", "a.b_c-d", &"x".repeat(64)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["-a", "a-", "A", "ä", "a b", ".", "a/b"] {
            assert_eq!(Name::new(bad), Err(NameError::Characters), "{bad}");
        }
        assert_eq!(Name::new(""), Err(NameError::Length { max: 64 }));
        assert!(Name::queue(&"x".repeat(59)).is_err());
        assert!(Name::group(&"x".repeat(46)).is_err());
    }
}
