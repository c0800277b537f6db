//! Ids. A task's id carries its creation time and its shard (DESIGN.md section 5.5).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use foldhash::fast::RandomState;
use thiserror::Error;

use crate::time::Timestamp;

/// Task ids count milliseconds from 2024-01-01T00:00:00Z.
pub const ID_EPOCH_MS: i64 = 1_704_067_200_000;
/// The most logical shards an id can name.
pub const SHARDS_MAX: u16 = 512;

const SHARD_BITS: u32 = 9;
const SLOT_BITS: u32 = 6;
const SEQUENCE_BITS: u32 = 7;
const TIME_SHIFT: u32 = SHARD_BITS + SLOT_BITS + SEQUENCE_BITS;
/// The first millisecond after 2024 that does not fit into 41 bits, in September 2093.
const TIME_END: i64 = 1 << 41;
const SEQUENCE_MAX: i64 = (1 << SEQUENCE_BITS) - 1;

/// By an id, which the service chose and no caller: the hash that withstands chosen keys was 3 % of the
/// instructions of a callback.
pub type IdMap<K, V> = HashMap<K, V, RandomState>;
/// See [`IdMap`].
pub type IdSet<K> = HashSet<K, RandomState>;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
        pub struct $name(i64);

        impl $name {
            pub const fn new(raw: i64) -> Self {
                Self(raw)
            }

            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id_type!(
    /// A task: 41 bits of ms since 2024, 9 bits of shard, 6 bits of slot, 7 bits of sequence.
    TaskId
);
id_type!(
    /// A config, by its row.
    ConfigId
);
id_type!(
    /// An app, by its row.
    AppId
);
id_type!(
    /// An API key, by its row.
    KeyId
);
id_type!(
    /// One running process. New at every start and never used again.
    NodeId
);

/// A logical slice of the task tables, `0..store.shards`.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct ShardId(u16);

impl ShardId {
    /// `None` when `number` is not below [`SHARDS_MAX`].
    pub const fn new(number: u16) -> Option<Self> {
        if number < SHARDS_MAX { Some(Self(number)) } else { None }
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A text that is no task id.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error("a task id is a positive decimal number")]
pub struct BadTaskId;

impl FromStr for TaskId {
    type Err = BadTaskId;

    fn from_str(text: &str) -> Result<Self, BadTaskId> {
        let digits = !text.is_empty() && text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit());
        let raw: i64 = if digits { text.parse().map_err(|_| BadTaskId)? } else { return Err(BadTaskId) };
        // One id has one text: no leading zeros.
        if raw > 0 && !text.starts_with('0') { Ok(Self(raw)) } else { Err(BadTaskId) }
    }
}

impl TaskId {
    /// When the id was made (by the generator's clock, which may run ahead a little).
    pub const fn made_at(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> TIME_SHIFT) + ID_EPOCH_MS)
    }

    pub const fn shard(self) -> ShardId {
        let shard = (self.0 >> (SLOT_BITS + SEQUENCE_BITS)) & ((1 << SHARD_BITS) - 1);
        #[expect(clippy::cast_sign_loss, reason = "nine bits, masked above")]
        let shard = shard as u16;
        ShardId(shard)
    }

    /// The lowest id that can be made at `at`, so that a range of time is a range of ids. After the last time
    /// of ids it is above all of them.
    pub const fn first_at(at: Timestamp) -> Self {
        match since_epoch(at) {
            ..=0 => Self(0),
            TIME_END.. => Self(i64::MAX),
            ms => Self(ms << TIME_SHIFT),
        }
    }
}

const fn since_epoch(at: Timestamp) -> i64 {
    at.ms().saturating_sub(ID_EPOCH_MS)
}

/// The generator has used up the time its slot may use; the slot must be renewed first.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error("the id slot's time is used up")]
pub struct SlotUsedUp;

/// Makes ids for one leased slot. It never repeats one: when the clock steps back or a
/// millisecond's sequence is used up it runs ahead of the clock, below `used_until`.
#[derive(Debug)]
pub struct IdGenerator {
    slot: i64,
    /// The millisecond in use, and the next sequence number in it.
    at_ms: i64,
    sequence: i64,
    used_until_ms: i64,
}

impl IdGenerator {
    /// `slot` is 0..64; `start` the `used_until` that the slot's last holder left; ids are made below
    /// `used_until`.
    pub fn new(slot: u8, start: Timestamp, used_until: Timestamp) -> Self {
        Self {
            slot: i64::from(slot) & ((1 << SLOT_BITS) - 1),
            at_ms: since_epoch(start).max(1),
            sequence: 0,
            used_until_ms: since_epoch(used_until),
        }
    }

    /// Raised with each renewal of the slot, never lowered.
    pub fn extend(&mut self, used_until: Timestamp) {
        self.used_until_ms = self.used_until_ms.max(since_epoch(used_until));
    }

    pub fn next(&mut self, shard: ShardId, now: Timestamp) -> Result<TaskId, SlotUsedUp> {
        let now_ms = since_epoch(now);
        if now_ms > self.at_ms {
            self.at_ms = now_ms;
            self.sequence = 0;
        } else if self.sequence > SEQUENCE_MAX {
            self.at_ms += 1;
            self.sequence = 0;
        }
        if self.at_ms >= self.used_until_ms.min(TIME_END) {
            return Err(SlotUsedUp);
        }
        let sequence = self.sequence;
        self.sequence += 1;
        let low = i64::from(shard.0) << (SLOT_BITS + SEQUENCE_BITS) | self.slot << SEQUENCE_BITS | sequence;
        Ok(TaskId(self.at_ms << TIME_SHIFT | low))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Millis;

    const NOW: Timestamp = Timestamp::from_ms(1_795_257_000_000);

    proptest! {
        #[test]
        fn ids_rise_never_repeat_and_carry_their_shard(steps in prop::collection::vec((0u16..512, -5i64..5), 1..600)) {
            let mut ids = IdGenerator::new(63, Timestamp::ZERO, NOW.plus(Millis::from_hours(1)));
            let mut now = NOW;
            let mut last_time = Timestamp::ZERO;
            let mut seen = std::collections::HashSet::new();
            for (shard, step) in steps {
                now = now.plus(Millis::from_ms(step));
                let shard = ShardId::new(shard).unwrap();
                let id = ids.next(shard, now).unwrap();
                prop_assert!(id.get() > 0);
                prop_assert!(seen.insert(id));
                prop_assert_eq!(id.shard(), shard);
                prop_assert!(id.made_at() >= last_time);
                last_time = id.made_at();
                prop_assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
            }
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,24}") {
            if let Ok(id) = text.parse::<TaskId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn a_frozen_clock_does_not_stop_it_and_used_until_bounds_it() {
        let mut ids = IdGenerator::new(0, Timestamp::ZERO, NOW.plus(Millis::from_ms(3)));
        let shard = ShardId::new(0).unwrap();
        let made = std::iter::from_fn(|| ids.next(shard, NOW).ok()).count();
        assert_eq!(made, 3 * 128);
        ids.extend(NOW.plus(Millis::from_ms(4)));
        assert!(ids.next(shard, NOW).is_ok());
    }

    /// Ids have 41 bits of time; a query may name any.
    #[test]
    fn the_ends_of_time_are_the_ends_of_ids() {
        let last = Timestamp::from_ms(ID_EPOCH_MS + TIME_END - 1);
        let mut ids = IdGenerator::new(63, last, Timestamp::MAX);
        let id = ids.next(ShardId::new(511).unwrap(), last).unwrap();
        assert_eq!(id.made_at(), last);
        let mut before = TaskId::first_at(Timestamp::from_ms(i64::MIN));
        for ms in [0, ID_EPOCH_MS, ID_EPOCH_MS + 1, NOW.ms(), last.ms()] {
            let first = TaskId::first_at(Timestamp::from_ms(ms));
            assert!(first >= before && first <= id, "{ms}");
            before = first;
        }
        // 2094, 2162, 2200, the year 9999, and whatever else.
        for ms in [
            last.ms() + 1,
            3_913_056_000_000,
            6_059_000_000_000,
            7_258_118_400_000,
            253_402_300_799_000,
            i64::MAX,
        ] {
            assert!(TaskId::first_at(Timestamp::from_ms(ms)) > id, "{ms}");
        }
        assert_eq!(ids.next(ShardId::default(), last.plus(Millis::from_ms(1))), Err(SlotUsedUp));
        assert_eq!(ids.next(ShardId::default(), Timestamp::MAX), Err(SlotUsedUp));
    }

    #[test]
    fn a_new_holder_starts_above_the_last_one() {
        let left = NOW.plus(Millis::from_mins(1));
        let mut ids = IdGenerator::new(0, left, left.plus(Millis::from_mins(1)));
        assert!(ids.next(ShardId::new(3).unwrap(), NOW).unwrap() >= TaskId::first_at(left));
    }
}
