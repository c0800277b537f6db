//! What is to be sent to a group, put together while the last message is on its way.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tsp_core::{ConfigId, ShardId, Timestamp};

use super::records::{self, Hint};
use crate::inbox::Feedback;

/// The most hints, and the most feedback, that wait for one group.
pub(crate) const COALESCED_MAX: usize = 65_536;

/// News for one group. What is beyond its bound drops the oldest.
pub(crate) trait Coalescer: Default + Send + 'static {
    type Item: Send;

    /// Adds one; says whether another was dropped for it.
    fn add(&mut self, item: Self::Item, most: usize) -> bool;

    fn count(&self) -> usize;

    /// What was added, oldest first, as bodies of messages.
    fn into_messages(self) -> Vec<Bytes>;
}

/// Hints, one of each kind.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// The earliest due time and the latest end of a wait; for a changed config nothing of meaning.
    times: HashMap<Subject, Timestamp>,
    /// Each of them once.
    order: VecDeque<Subject>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Due(ConfigId, ShardId),
    Changed(ConfigId),
    Unparked(ConfigId),
}

impl Coalescer for Hints {
    type Item = Hint;

    fn add(&mut self, hint: Hint, most: usize) -> bool {
        let (subject, time) = match hint {
            Hint::Due { config, shard, due_at } => (Subject::Due(config, shard), due_at),
            Hint::Changed(config) => (Subject::Changed(config), Timestamp::ZERO),
            Hint::Unparked { config, at } => (Subject::Unparked(config), at),
        };
        match self.times.entry(subject) {
            Entry::Occupied(mut known) => {
                let latest = matches!(subject, Subject::Unparked(_));
                let both = [time, *known.get()];
                known.insert(if latest { both[0].max(both[1]) } else { both[0].min(both[1]) });
            }
            Entry::Vacant(unknown) => {
                unknown.insert(time);
                self.order.push_back(subject);
            }
        }
        let full = self.order.len() > most;
        if full && let Some(oldest) = self.order.pop_front() {
            self.times.remove(&oldest);
        }
        full
    }

    fn count(&self) -> usize {
        self.order.len()
    }

    fn into_messages(self) -> Vec<Bytes> {
        let Self { times, order } = self;
        records::pack(order.into_iter().filter_map(|subject| {
            let time = *times.get(&subject)?;
            Some(match subject {
                Subject::Due(config, shard) => Hint::Due { config, shard, due_at: time },
                Subject::Changed(config) => Hint::Changed(config),
                Subject::Unparked(config) => Hint::Unparked { config, at: time },
            })
        }))
    }
}

/// Feedback, all of it.
#[derive(Debug, Default)]
pub(crate) struct FeedbackBatch(VecDeque<Feedback>);

impl Coalescer for FeedbackBatch {
    type Item = Feedback;

    fn add(&mut self, feedback: Feedback, most: usize) -> bool {
        self.0.push_back(feedback);
        let full = self.0.len() > most;
        if full {
            self.0.pop_front();
        }
        full
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn into_messages(self) -> Vec<Bytes> {
        records::pack(self.0)
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::TaskId;

    use super::*;

    fn due(config: i64, shard: u16, ms: i64) -> Hint {
        Hint::Due {
            config: ConfigId::new(config),
            shard: ShardId::new(shard).unwrap(),
            due_at: Timestamp::from_ms(ms),
        }
    }

    fn sent<G: Coalescer>(items: impl IntoIterator<Item = G::Item>, most: usize) -> (Vec<Bytes>, usize) {
        let mut coalesced = G::default();
        let dropped = items.into_iter().map(|item| coalesced.add(item, most));
        let dropped = dropped.filter(|dropped| *dropped).count();
        (coalesced.into_messages(), dropped)
    }

    #[test]
    fn the_earliest_of_each_config_and_shard_is_sent() {
        let hints =
            [due(1, 0, 30), due(1, 1, 20), due(1, 0, 10), due(1, 0, 40), Hint::Changed(ConfigId::new(1))];
        let again = Hint::Changed(ConfigId::new(1));
        let (messages, dropped) = sent::<Hints>(hints.into_iter().chain([again]), 3);
        assert_eq!(messages, ["due 1 0 10\ndue 1 1 20\nchanged 1\n"]);
        assert_eq!(dropped, 0);
    }

    #[test]
    fn the_latest_end_of_a_wait_is_sent() {
        let unparked = |ms| Hint::Unparked { config: ConfigId::new(1), at: Timestamp::from_ms(ms) };
        let (messages, _) = sent::<Hints>([unparked(5), unparked(7), unparked(6)], 3);
        assert_eq!(messages, ["unparked 1 7\n"]);
    }

    #[test]
    fn the_oldest_are_dropped() {
        let (messages, dropped) = sent::<Hints>((1..=5).map(|config| due(config, 0, 1)), 2);
        assert_eq!((&messages[0][..], dropped), (&b"due 4 0 1\ndue 5 0 1\n"[..], 3));
        let feedback = (1..=5).map(|task| Feedback {
            task: TaskId::new(task),
            config: Some(ConfigId::new(1)),
            version: 7,
            due_again: None,
            awaits_until: None,
            park: None,
        });
        let (messages, dropped) = sent::<FeedbackBatch>(feedback, 2);
        assert_eq!((&messages[0][..], dropped), (&b"4 7 1 - - -\n5 7 1 - - -\n"[..], 3));
    }

    #[test]
    fn one_that_was_dropped_may_come_again() {
        let (messages, _) = sent::<Hints>([due(1, 0, 1), due(2, 0, 2), due(1, 0, 3)], 1);
        assert_eq!(messages, ["due 1 0 3\n"]);
    }
}
