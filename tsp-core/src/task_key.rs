//! Business keys of tasks, and the shard a key lives in.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ids::{ConfigId, ShardId};
use crate::text::is_printable;

/// The longest key in bytes (API.md section 1).
pub const KEY_BYTES_MAX: usize = 200;

/// Part of the storage format: shards of rows already written depend on it.
const SHARD_SEED: u64 = 0x7453_5001;

/// The business key of a task: 1..200 bytes of printable UTF-8, not `.` or `..`.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct TaskKey(Arc<str>);

#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("must be 1 to 200 bytes")]
    Length,
    #[error("may hold only characters that can be seen: no control, format or unassigned ones")]
    Unprintable,
    #[error("`.` and `..` are no keys")]
    Dots,
}

impl TaskKey {
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            Err(KeyError::Length)
        } else if !text.chars().all(is_printable) {
            Err(KeyError::Unprintable)
        } else if text == "." || text == ".." {
            // They would vanish from a URL path.
            Err(KeyError::Dots)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// A key that was taken once, by whatever rule held then: a row is never given up for its characters.
    ///
    /// # Errors
    /// [`KeyError::Length`] alone.
    pub fn of_stored(text: &str) -> Result<Self, KeyError> {
        match Self::new(text) {
            Err(KeyError::Unprintable | KeyError::Dots) => Ok(Self(text.into())),
            key => key,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The shard of a config's cursor and occurrences, and the first of its span.
pub fn config_shard(config: ConfigId, shards: u16) -> ShardId {
    pick(xxh3_64_with_seed(&config.get().to_le_bytes(), SHARD_SEED), shards)
}

/// The home shard of a key: a hash over the config's `span` shards (0 = all of them).
pub fn key_shard(config: ConfigId, key: &str, span: u16, shards: u16) -> ShardId {
    spread(config, xxh3_64_with_seed(key.as_bytes(), SHARD_SEED), span, shards)
}

/// The shard of a task without a key: `salt` is any number that differs from task to task.
pub fn keyless_shard(config: ConfigId, salt: u64, span: u16, shards: u16) -> ShardId {
    spread(config, salt, span, shards)
}

/// Whether `shard` is the home of this key, or may hold tasks without one.
pub fn is_home(config: ConfigId, key: Option<&TaskKey>, span: u16, shards: u16, shard: ShardId) -> bool {
    match key {
        Some(key) => key_shard(config, key.as_str(), span, shards) == shard,
        None => span_shards(config, span, shards).any(|home| home == shard),
    }
}

/// The shards that may hold tasks of a config (0 = all of them), the one of its schedule first.
pub fn span_shards(config: ConfigId, span: u16, shards: u16) -> impl Iterator<Item = ShardId> {
    let first = config_shard(config, shards).get();
    (0..width(span, shards)).map(move |offset| nth(first, offset, shards))
}

fn spread(config: ConfigId, hash: u64, span: u16, shards: u16) -> ShardId {
    let offset = pick(hash, width(span, shards)).get();
    nth(config_shard(config, shards).get(), offset, shards)
}

fn width(span: u16, shards: u16) -> u16 {
    if span == 0 { shards } else { span.min(shards) }
}

fn nth(first: u16, offset: u16, shards: u16) -> ShardId {
    ShardId::new((first + offset) % shards.max(1)).unwrap_or_default()
}

fn pick(hash: u64, of: u16) -> ShardId {
    let number = u16::try_from(hash % u64::from(of.max(1))).unwrap_or(0);
    ShardId::new(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_and_refuses() {
        for good in ["order-42", "a b", "订单/42", "...", &"k".repeat(200)] {
            assert!(TaskKey::new(good).is_ok(), "{good}");
        }
        assert_eq!(TaskKey::new(""), Err(KeyError::Length));
        assert_eq!(TaskKey::new(&"k".repeat(201)), Err(KeyError::Length));
        for hidden in ["a\nb", "a\u{202e}b", "a\u{200b}", "\u{378}"] {
            assert_eq!(TaskKey::new(hidden), Err(KeyError::Unprintable), "{hidden:?}");
            assert_eq!(
                TaskKey::of_stored(hidden).unwrap().as_str(),
                hidden,
                "a row that has it is still read"
            );
        }
        assert_eq!(TaskKey::of_stored(""), Err(KeyError::Length));
        assert_eq!(TaskKey::new(".."), Err(KeyError::Dots));
    }

    #[test]
    fn the_shard_function_is_part_of_the_format() {
        // Golden: a change here would make every stored key unfindable.
        assert_eq!(config_shard(ConfigId::new(1), 16).get(), 10);
        assert_eq!(key_shard(ConfigId::new(1), "order-42", 0, 16).get(), 15);
    }

    proptest! {
        #[test]
        fn a_key_stays_within_its_span(config in 1i64..10_000, key in "\\PC{1,20}", span in 0u16..20, shards in 1u16..512) {
            let first = config_shard(ConfigId::new(config), shards).get();
            let shard = key_shard(ConfigId::new(config), &key, span, shards).get();
            prop_assert!(shard < shards);
            let width = if span == 0 { shards } else { span.min(shards) };
            prop_assert!((shard + shards - first) % shards < width);
        }

        #[test]
        fn tasks_are_at_home_where_they_are_made(config in 1i64..10_000, salt: u64, span in 0u16..20, shards in 1u16..100) {
            let config = ConfigId::new(config);
            let key = TaskKey::new(&format!("key-{salt}")).unwrap();
            let keyless = keyless_shard(config, salt, span, shards);
            prop_assert!(is_home(config, None, span, shards, keyless));
            let homes = (0..shards).filter_map(ShardId::new);
            let homes: Vec<_> = homes.filter(|shard| is_home(config, Some(&key), span, shards, *shard)).collect();
            prop_assert_eq!(homes, [key_shard(config, key.as_str(), span, shards)]);
            let wide = (0..=shards).filter_map(ShardId::new);
            let wide = wide.filter(|shard| is_home(config, None, span, shards, *shard)).count();
            prop_assert_eq!(wide, usize::from(if span == 0 { shards } else { span.min(shards) }));
        }
    }
}
