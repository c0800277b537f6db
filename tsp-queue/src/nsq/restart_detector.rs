//! Whether an nsqd has lost what it held, by what all of them tell of a topic.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// One that answers no question for this long is taken for dead. A busy one answers late, but not all of them.
const SILENT: Duration = Duration::from_secs(2);

/// What one nsqd answered; both numbers begin again with each start of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sign {
    /// In seconds since 1970.
    pub(crate) start_time: i64,
    /// All messages of the topic.
    pub(crate) message_count: u64,
}

/// The nsqds by their addresses.
#[derive(Debug, Default)]
pub(crate) struct RestartDetector {
    known: HashMap<String, NsqdLife>,
    /// When the last round of questions was over.
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct NsqdLife {
    last: Sign,
    silent_since: Option<Instant>,
    /// It is taken for dead, which was reported.
    dead: bool,
}

impl RestartDetector {
    /// Takes in a round of questions that went out at `asked_at` and is over `now`; no answer is `None`. Says
    /// whether an nsqd has lost what it held since the round before.
    pub(crate) fn round(
        &mut self,
        asked_at: Instant,
        now: Instant,
        answers: impl IntoIterator<Item = (String, Option<Sign>)>,
    ) -> bool {
        // Of two rounds at the same time, the answers may be in either order.
        if self.looked_at.is_some_and(|last| asked_at < last) {
            return false;
        }
        self.looked_at = Some(now);
        let mut answers: HashMap<_, _> = answers.into_iter().collect();
        let mut lost = false;
        self.known.retain(|address, life| {
            // One that the lookups have dropped answers no more either.
            let listed = answers.contains_key(address);
            match answers.remove(address).flatten() {
                Some(sign) => lost |= life.answered(sign),
                None => lost |= life.kept_silent(asked_at, now),
            }
            listed || !life.dead
        });
        let new = answers.into_iter().filter_map(|(address, sign)| Some((address, NsqdLife::new(sign?))));
        self.known.extend(new);
        lost
    }

    /// Whether one is silent that is not yet taken for dead.
    pub(crate) fn in_doubt(&self) -> bool {
        self.known.values().any(|life| life.silent_since.is_some() && !life.dead)
    }
}

impl NsqdLife {
    fn new(last: Sign) -> Self {
        Self { last, silent_since: None, dead: false }
    }

    fn answered(&mut self, sign: Sign) -> bool {
        let is_new = sign.start_time != self.last.start_time || sign.message_count < self.last.message_count;
        let lost = is_new && !self.dead;
        *self = Self::new(sign);
        lost
    }

    fn kept_silent(&mut self, asked_at: Instant, now: Instant) -> bool {
        let since = *self.silent_since.get_or_insert(asked_at);
        let dies = !self.dead && now >= since + SILENT;
        self.dead |= dies;
        dies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "the other answer is none")]
    fn sign(start_time: i64, message_count: u64) -> Option<Sign> {
        Some(Sign { start_time, message_count })
    }

    /// Rounds of two nsqds, each at its milliseconds; says which of them showed a loss.
    fn rounds<const N: usize>(
        rounds: [(u64, Option<Sign>, Option<Sign>); N],
    ) -> ([bool; N], RestartDetector) {
        let start = Instant::now();
        let mut restarts = RestartDetector::default();
        let lost = rounds.map(|(ms, a, b)| {
            let now = start + Duration::from_millis(ms);
            restarts.round(now, now, [("a".to_owned(), a), ("b".to_owned(), b)])
        });
        (lost, restarts)
    }

    #[test]
    fn a_new_life_is_told_once() {
        let (lost, restarts) = rounds([
            (0, sign(5, 10), sign(5, 0)),
            (50, sign(5, 11), sign(5, 7)),
            (100, sign(6, 0), sign(5, 8)),
            (150, sign(6, 3), sign(5, 9)),
            (200, sign(6, 2), sign(5, 9)),
        ]);
        assert_eq!(lost, [false, false, true, false, true], "also when it came back within the second");
        assert!(!restarts.in_doubt());
    }

    #[test]
    fn one_that_stumbles_is_not_dead_and_one_that_is_silent_is() {
        let (lost, restarts) = rounds([
            (0, sign(5, 1), sign(5, 1)),
            (100, None, sign(5, 1)),
            (2_000, None, sign(5, 1)),
            (2_050, sign(5, 9), sign(5, 1)),
            (2_100, None, sign(5, 1)),
            (4_099, None, sign(5, 1)),
        ]);
        assert_eq!(lost, [false; 6]);
        assert!(restarts.in_doubt());
        let (lost, restarts) = rounds([
            (0, sign(5, 1), sign(5, 1)),
            (100, None, sign(5, 1)),
            (2_100, None, sign(5, 1)),
            (9_000, None, sign(5, 1)),
            (9_050, sign(6, 0), sign(5, 1)),
        ]);
        assert_eq!(lost, [false, false, true, false, false]);
        assert!(!restarts.in_doubt());
    }

    #[test]
    fn one_that_the_lookups_drop_is_dead_after_a_while() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut restarts = RestartDetector::default();
        assert!(!restarts.round(at(0), at(0), [("a".to_owned(), sign(5, 1))]));
        assert!(!restarts.round(at(50), at(50), []));
        assert!(restarts.in_doubt());
        assert!(restarts.round(at(2_050), at(2_050), []));
        assert!(!restarts.round(at(2_100), at(2_100), []) && restarts.known.is_empty());
    }

    #[test]
    fn a_round_that_went_out_before_the_last_was_over_tells_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut restarts = RestartDetector::default();
        assert!(!restarts.round(at(10), at(20), [("a".to_owned(), sign(5, 9))]));
        assert!(!restarts.round(at(15), at(30), [("a".to_owned(), sign(5, 8))]));
        assert!(!restarts.round(at(30), at(40), [("a".to_owned(), sign(5, 9))]));
    }
}
