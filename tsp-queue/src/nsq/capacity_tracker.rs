//! How much room there is in a queue that is asked only now and then.

use std::time::Duration;

use tokio::time::Instant;

/// The messages of one queue, as far as this process knows.
#[derive(Debug)]
pub(crate) struct CapacityTracker {
    capacity: usize,
    /// What was there when it was last asked; `None` before the first answer.
    polled: Option<usize>,
    /// All messages that were let through.
    reserved: u64,
    /// Of these, the ones whose publish has been answered.
    answered: u64,
    /// Of these, the ones that the last question came after.
    seen: u64,
    /// No room until then, since a publish failed.
    shut_until: Option<Instant>,
    /// Somebody found too little room and waits to be woken for more.
    wanted: bool,
}

/// What was answered before a question was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(u64);

impl CapacityTracker {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, polled: None, reserved: 0, answered: 0, seen: 0, shut_until: None, wanted: false }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.polled.is_some()
    }

    pub(crate) fn is_shut(&self, now: Instant) -> bool {
        self.shut_until.is_some_and(|until| now < until)
    }

    /// How many messages may go in; who finds none is woken when that changes.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        let room = self.free(now);
        self.wanted |= room == 0;
        room
    }

    /// Takes room for up to `wanted` messages and says for how many.
    pub(crate) fn reserve(&mut self, wanted: usize, now: Instant) -> usize {
        let granted = wanted.min(self.free(now));
        self.reserved += granted as u64;
        self.wanted |= self.free(now) == 0;
        granted
    }

    /// The publish of reserved messages has ended: `there` of them are or may be in the queue.
    pub(crate) fn answered(&mut self, there: usize, not_there: usize) {
        self.answered += there as u64;
        self.reserved -= not_there as u64;
    }

    /// The queue takes messages.
    pub(crate) fn open(&mut self) {
        self.shut_until = None;
    }

    /// The queue is unavailable: no room for a while.
    pub(crate) fn shut(&mut self, now: Instant, pause: Duration) {
        self.shut_until = Some(now + pause);
        self.wanted = true;
    }

    /// To be called before the question is sent: the answer counts what was there by then.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.answered)
    }

    /// The answer: so many messages wait or are out.
    pub(crate) fn polled(&mut self, mark: Mark, count: usize) {
        self.polled = Some(count);
        self.seen = self.seen.max(mark.0);
    }

    /// Says once whether there is room again for somebody who found none.
    pub(crate) fn take_room(&mut self, now: Instant) -> bool {
        let good = self.wanted && self.free(now) > 0;
        self.wanted &= !good;
        good
    }

    /// Whether there is anything to be learned by asking.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.polled == Some(0) && self.reserved == self.seen && !self.is_shut(now) && !self.wanted
    }

    fn free(&self, now: Instant) -> usize {
        match self.polled {
            Some(polled) if !self.is_shut(now) => {
                let unseen = usize::try_from(self.reserved - self.seen).unwrap_or(usize::MAX);
                self.capacity.saturating_sub(polled.saturating_add(unseen))
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(200);

    fn open(capacity: usize) -> (CapacityTracker, Instant) {
        let mut tracker = CapacityTracker::new(capacity);
        let mark = tracker.mark();
        tracker.polled(mark, 0);
        (tracker, Instant::now())
    }

    #[test]
    fn there_is_no_room_in_what_is_not_known() {
        let now = Instant::now();
        let mut tracker = CapacityTracker::new(5);
        assert_eq!(tracker.room(now), 0);
        assert!(!tracker.is_idle(now));
        tracker.polled(tracker.mark(), 2);
        assert!(tracker.take_room(now));
        assert_eq!(tracker.room(now), 3);
        assert!(!tracker.take_room(now), "it is told once");
    }

    #[test]
    fn what_was_sent_since_the_question_takes_up_room_beside_the_answer() {
        let (mut tracker, now) = open(10);
        assert_eq!(tracker.reserve(4, now), 4);
        tracker.answered(4, 0);
        assert_eq!(tracker.reserve(2, now), 2);
        let mark = tracker.mark();
        tracker.answered(2, 0);
        // The two may have come after the count was taken.
        tracker.polled(mark, 4);
        assert_eq!(tracker.room(now), 4);
        tracker.polled(tracker.mark(), 0);
        assert_eq!(tracker.room(now), 10);
        assert!(tracker.is_idle(now));
    }

    #[test]
    fn what_was_not_sent_takes_up_no_room() {
        let (mut tracker, now) = open(3);
        assert_eq!(tracker.reserve(9, now), 3);
        tracker.answered(1, 2);
        assert_eq!(tracker.room(now), 2);
    }

    #[test]
    fn a_failure_shuts_it_for_a_while() {
        let (mut tracker, now) = open(3);
        tracker.shut(now, PAUSE);
        assert_eq!(tracker.room(now + PAUSE.mul_f64(0.9)), 0);
        assert!(!tracker.take_room(now), "not yet");
        assert!(!tracker.is_idle(now), "who was refused is to be told");
        assert!(tracker.take_room(now + PAUSE));
        assert_eq!(tracker.room(now + PAUSE), 3);
        assert!(tracker.is_idle(now + PAUSE));
        tracker.shut(now, PAUSE);
        tracker.open();
        assert_eq!(tracker.room(now), 3, "a publish that went well opens it");
    }

    proptest! {
        /// With answers that are true, what is in the queue never exceeds its capacity.
        #[test]
        fn a_truthful_queue_never_overflows(
            capacity in 1_usize..20,
            steps in prop::collection::vec((0_u8..5, 0_usize..8), 1..60),
        ) {
            let (mut tracker, now) = open(capacity);
            let (mut inside, mut sending, mut asked) = (0, 0, None);
            for (what, count) in steps {
                match what {
                    0 => sending += tracker.reserve(count, now),
                    1 => {
                        let some = count.min(sending);
                        tracker.answered(some, 0);
                        sending -= some;
                        inside += some;
                    }
                    2 => inside -= count.min(inside),
                    3 => asked = Some((tracker.mark(), inside)),
                    _ => if let Some((mark, counted)) = asked.take() {
                        tracker.polled(mark, counted);
                    }
                }
                prop_assert!(inside + sending <= capacity, "{} and {} of {}", inside, sending, capacity);
            }
            tracker.answered(sending, 0);
            tracker.polled(tracker.mark(), 0);
            prop_assert_eq!(tracker.room(now), capacity);
        }
    }
}
