//! The records on the wire: one task in a message of a queue, and many records in one of hints or feedback.
//!
//! Each has one form only. What is not in it is refused: it comes from another version or program.

use std::fmt::Write as _;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;
use tsp_core::{ConfigId, Millis, ShardId, TaskId, Timestamp};

use crate::inbox::Feedback;

/// The most bytes of one message of hints or feedback.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 * 1024;
/// Stands for a time that is not given.
const NONE: &str = "-";

/// A text that is not in the form it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not in the form `{0}`")]
pub(crate) struct BadRecord(&'static str);

const TASK: BadRecord = BadRecord("task version");
const HINT: BadRecord = BadRecord("due config shard ms`, `changed config` or `unparked config ms");
const FEEDBACK: BadRecord = BadRecord("task version config due_again awaits_until park");

/// What a fetcher receives from those who change rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hint {
    Due { config: ConfigId, shard: ShardId, due_at: Timestamp },
    Changed(ConfigId),
    Unparked { config: ConfigId, at: Timestamp },
}

/// The body of a message of a queue.
pub(crate) fn task_body(task: TaskId, version: i64) -> Bytes {
    format!("{task} {version}").into()
}

pub(crate) fn read_task(body: &[u8]) -> Result<(TaskId, i64), BadRecord> {
    let text = std::str::from_utf8(body).map_err(|_| TASK)?;
    let (task, version) = text.split_once(' ').ok_or(TASK)?;
    Ok((TaskId::from_str(task).map_err(|_| TASK)?, number(version).ok_or(TASK)?))
}

/// A record of hints or feedback: one line of text.
pub(crate) trait Record: Sized {
    /// Without the end of the line.
    fn write(&self, text: &mut String);

    fn read(record: &str) -> Result<Self, BadRecord>;
}

impl Record for Hint {
    fn write(&self, text: &mut String) {
        // Writing to a text cannot fail.
        let _ = match self {
            Self::Due { config, shard, due_at } => {
                write!(text, "due {config} {} {}", shard.get(), due_at.ms())
            }
            Self::Changed(config) => write!(text, "changed {config}"),
            Self::Unparked { config, at } => write!(text, "unparked {config} {}", at.ms()),
        };
    }

    fn read(record: &str) -> Result<Self, BadRecord> {
        let mut words = record.split(' ');
        let hint = match words.next() {
            Some("due") => Self::Due {
                config: words.next().and_then(number).map(ConfigId::new).ok_or(HINT)?,
                shard: words.next().and_then(shard).ok_or(HINT)?,
                due_at: words.next().and_then(number).map(Timestamp::from_ms).ok_or(HINT)?,
            },
            Some("changed") => Self::Changed(words.next().and_then(number).map(ConfigId::new).ok_or(HINT)?),
            Some("unparked") => Self::Unparked {
                config: words.next().and_then(number).map(ConfigId::new).ok_or(HINT)?,
                at: words.next().and_then(number).map(Timestamp::from_ms).ok_or(HINT)?,
            },
            _ => return Err(HINT),
        };
        if words.next().is_none() { Ok(hint) } else { Err(HINT) }
    }
}

impl Record for Feedback {
    fn write(&self, text: &mut String) {
        let _ = write!(text, "{} {}", self.task, self.version);
        let numbers = [
            self.config.map(ConfigId::get),
            self.due_again.map(Timestamp::ms),
            self.awaits_until.map(Timestamp::ms),
            self.park.map(Millis::ms),
        ];
        for number in numbers {
            let _ = match number {
                Some(number) => write!(text, " {number}"),
                None => write!(text, " {NONE}"),
            };
        }
    }

    fn read(record: &str) -> Result<Self, BadRecord> {
        let mut words = record.split(' ');
        let said = Self {
            task: words.next().and_then(|word| word.parse().ok()).ok_or(FEEDBACK)?,
            version: words.next().and_then(number).ok_or(FEEDBACK)?,
            config: maybe(words.next())?.map(ConfigId::new),
            due_again: maybe(words.next())?.map(Timestamp::from_ms),
            awaits_until: maybe(words.next())?.map(Timestamp::from_ms),
            park: maybe(words.next())?.map(Millis::from_ms),
        };
        if words.next().is_none() { Ok(said) } else { Err(FEEDBACK) }
    }
}

/// Packs records into as few messages as they fit in.
pub(crate) fn pack<L: Record>(records: impl IntoIterator<Item = L>) -> Vec<Bytes> {
    let (mut messages, mut text, mut record) = (Vec::new(), String::new(), String::new());
    for next in records {
        record.clear();
        next.write(&mut record);
        if text.len() + record.len() + 1 > MESSAGE_BYTES_MAX {
            messages.push(Bytes::from(std::mem::take(&mut text)));
        }
        text.push_str(&record);
        text.push('\n');
    }
    if !text.is_empty() {
        messages.push(Bytes::from(text));
    }
    messages
}

/// The records of a message, and how many of its lines could not be read.
pub(crate) fn unpack<L: Record>(body: &[u8]) -> (Vec<L>, usize) {
    let Some(whole) = body.strip_suffix(b"\n").filter(|_| body.len() <= MESSAGE_BYTES_MAX) else {
        return (Vec::new(), 1);
    };
    let (mut records, mut bad) = (Vec::new(), 0);
    for record in whole.split(|byte| *byte == b'\n') {
        match std::str::from_utf8(record).map(L::read) {
            Ok(Ok(record)) => records.push(record),
            _ => bad += 1,
        }
    }
    (records, bad)
}

/// A whole number in its only form: no plus, no leading zero, no minus zero.
fn number(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let canonical = match digits.as_bytes() {
        [b'0'] => word == "0",
        [first, ..] => first.is_ascii_digit() && *first != b'0',
        [] => false,
    };
    if canonical { word.parse().ok() } else { None }
}

fn shard(word: &str) -> Option<ShardId> {
    ShardId::new(u16::try_from(number(word)?).ok()?)
}

/// A time that may not be given.
fn maybe(word: Option<&str>) -> Result<Option<i64>, BadRecord> {
    match word {
        Some(NONE) => Ok(None),
        Some(word) => number(word).map(Some).ok_or(FEEDBACK),
        None => Err(FEEDBACK),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hints() -> impl Strategy<Value = Hint> {
        let due =
            (any::<i64>(), 0..tsp_core::ids::SHARDS_MAX, any::<i64>()).prop_map(|(config, shard, ms)| {
                Hint::Due {
                    config: ConfigId::new(config),
                    shard: ShardId::new(shard).expect("below the most"),
                    due_at: Timestamp::from_ms(ms),
                }
            });
        let unparked = (any::<i64>(), any::<i64>()).prop_map(|(config, ms)| Hint::Unparked {
            config: ConfigId::new(config),
            at: Timestamp::from_ms(ms),
        });
        prop_oneof![due, unparked, any::<i64>().prop_map(|config| Hint::Changed(ConfigId::new(config)))]
    }

    fn feedback() -> impl Strategy<Value = Feedback> {
        let maybe = || prop::option::of(any::<i64>());
        (1..i64::MAX, any::<i64>(), maybe(), maybe(), maybe(), maybe()).prop_map(
            |(task, version, config, due, awaits, park)| Feedback {
                task: TaskId::new(task),
                config: config.map(ConfigId::new),
                version,
                due_again: due.map(Timestamp::from_ms),
                awaits_until: awaits.map(Timestamp::from_ms),
                park: park.map(Millis::from_ms),
            },
        )
    }

    fn come_back<L: Record + Clone + PartialEq + std::fmt::Debug>(
        records: &[L],
    ) -> Result<(), TestCaseError> {
        let messages = pack(records.iter().cloned());
        prop_assert!(messages.iter().all(|message| message.len() <= MESSAGE_BYTES_MAX));
        let mut back = Vec::new();
        for message in &messages {
            let (some, bad) = unpack::<L>(message);
            prop_assert_eq!(bad, 0);
            back.extend(some);
        }
        prop_assert_eq!(&back[..], records);
        Ok(())
    }

    proptest! {
        #[test]
        fn tasks_come_back(task in 1..i64::MAX, version in any::<i64>()) {
            let body = task_body(TaskId::new(task), version);
            prop_assert_eq!(read_task(&body), Ok((TaskId::new(task), version)));
        }

        #[test]
        fn hints_come_back(records in prop::collection::vec(hints(), 0..200)) {
            come_back(&records)?;
        }

        #[test]
        fn feedback_comes_back(records in prop::collection::vec(feedback(), 0..200)) {
            come_back(&records)?;
        }

        /// Whatever is read is written as it was: there is one form only.
        #[test]
        fn noise_is_refused_or_in_form(record in "(due|changed|unparked|[0-9]{1,3}|-)( (-|-?[0-9]{1,20}|x)){0,6}") {
            let mut text = String::new();
            if let Ok(hint) = Hint::read(&record) {
                hint.write(&mut text);
                prop_assert_eq!(&text, &record);
            } else if let Ok(said) = Feedback::read(&record) {
                said.write(&mut text);
                prop_assert_eq!(&text, &record);
            }
        }

        #[test]
        fn no_bytes_are_a_panic(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let (hints, bad) = unpack::<Hint>(&body);
            prop_assert!(hints.len() + bad > 0);
            let _ = (unpack::<Feedback>(&body), read_task(&body));
        }
    }

    #[test]
    fn the_forms() {
        assert_eq!(task_body(TaskId::new(42), 7), "42 7");
        let due_at = Timestamp::from_ms(1_700_000_000_000);
        let due = Hint::Due { config: ConfigId::new(5), shard: ShardId::new(3).unwrap(), due_at };
        let said = Feedback {
            task: TaskId::new(42),
            config: Some(ConfigId::new(5)),
            version: 7,
            due_again: None,
            awaits_until: Some(due_at),
            park: Some(Millis::from_secs(1)),
        };
        let unparked = Hint::Unparked { config: ConfigId::new(7), at: due_at };
        let hints = pack([due, Hint::Changed(ConfigId::new(6)), unparked]);
        assert_eq!(hints[0], "due 5 3 1700000000000\nchanged 6\nunparked 7 1700000000000\n");
        assert_eq!(pack([said])[0], "42 7 5 - 1700000000000 1000\n");
    }

    #[test]
    fn a_task_has_one_form() {
        let bad =
            ["", "42", "42 ", " 42 7", "42  7", "42 7 ", "042 7", "42 +7", "42 07", "0 7", "-1 7", "a 7"];
        for body in bad {
            assert_eq!(read_task(body.as_bytes()), Err(TASK), "{body:?}");
        }
        assert_eq!(read_task(b"42 \xff"), Err(TASK));
        assert_eq!(read_task(b"42 99999999999999999999"), Err(TASK));
    }

    #[test]
    fn a_bad_line_does_not_hide_its_neighbours() {
        let (hints, bad) =
            unpack::<Hint>(b"changed 1\ndue 1 512 0\ndue 1 2\n\n\xff\nchanged 2 3\nchanged 2\n");
        assert_eq!(hints, [1, 2].map(|config| Hint::Changed(ConfigId::new(config))));
        assert_eq!(bad, 5);
        assert_eq!(unpack::<Hint>(b"changed 1"), (vec![], 1), "it was cut off");
        assert_eq!(
            unpack::<Hint>(&b"\n".repeat(MESSAGE_BYTES_MAX + 1)),
            (vec![], 1),
            "it is no message of ours"
        );
    }

    #[test]
    fn many_lines_go_into_few_messages() {
        let records = (0..10_000).map(|config| Hint::Changed(ConfigId::new(config)));
        let sizes: Vec<_> = pack(records).iter().map(Bytes::len).collect();
        let total: usize = sizes.iter().sum();
        assert_eq!(sizes.len(), total.div_ceil(MESSAGE_BYTES_MAX - 16), "{sizes:?}");
    }
}
