//! Names that nsqd accepts. A bad name costs the connection, so it is refused before it is sent.

use std::fmt;
use std::sync::Arc;

const MAX_BYTES: usize = 64;
const EPHEMERAL: &str = "#ephemeral";

/// A name that nsqd would not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name `{name}`: 1 to {MAX_BYTES} bytes of letters, digits, `.`, `_`, `-`, with `{EPHEMERAL}` at the end or not"
)]
pub struct NameError {
    pub name: String,
}

/// The name of a topic. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// The name of a channel. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

impl Topic {
    /// 1 to 64 bytes, `[.a-zA-Z0-9_-]+(#ephemeral)?`; the suffix counts.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check(name).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Held in memory only, and gone with its last channel.
    pub fn is_ephemeral(&self) -> bool {
        self.0.ends_with(EPHEMERAL)
    }
}

impl Channel {
    /// As [`Topic::new`].
    pub fn new(name: &str) -> Result<Self, NameError> {
        check(name).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Held in memory only, and gone with its last consumer.
    pub fn is_ephemeral(&self) -> bool {
        self.0.ends_with(EPHEMERAL)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(name: &str) -> Result<Arc<str>, NameError> {
    let stem = name.strip_suffix(EPHEMERAL).unwrap_or(name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if stem.is_empty() || name.len() > MAX_BYTES || !stem.bytes().all(allowed) {
        return Err(NameError { name: name.to_owned() });
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nsqd_accepts() {
        for name in ["a", "tsp.q.default", "A-b_c.9", "x#ephemeral", &"n".repeat(64)] {
            assert_eq!(Topic::new(name).expect(name).as_str(), name);
            assert_eq!(Channel::new(name).expect(name).as_str(), name);
        }
        assert!(Topic::new("x#ephemeral").expect("valid").is_ephemeral());
        assert!(!Channel::new("x").expect("valid").is_ephemeral());
        assert!(Topic::new(&format!("{}{EPHEMERAL}", "n".repeat(54))).is_ok());
    }

    #[test]
    fn names_that_nsqd_refuses() {
        let long = "n".repeat(65);
        let long_suffix = format!("{}{EPHEMERAL}", "n".repeat(55));
        for name in ["", "#ephemeral", "a b", "a\n", "a#b", "ü", "a#ephemeral#ephemeral", &long, &long_suffix]
        {
            assert_eq!(Topic::new(name), Err(NameError { name: name.to_owned() }));
            assert!(Channel::new(name).is_err());
        }
    }
}
