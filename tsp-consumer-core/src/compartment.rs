//! What a worker holds of one bulkhead and has not begun.

use tsp_core::{Millis, Timestamp};
use tsp_queue::Delivery;

use crate::intake::{Intake, Item};
use crate::permits::Permits;

/// The first pause after a failure; doubled with each more.
const PAUSE: Millis = Millis::from_ms(100);
const PAUSES_DOUBLED_MAX: u32 = 4;
/// A call that takes longer is one that stands still.
const STILL_AFTER: Millis = Millis::from_secs(1);
/// While a begin is in flight, fewer messages than this wait with their load for its end, or until it has taken so
/// long: they cannot be begun before, and others that come until then are loaded with them.
const LOAD_BESIDE: usize = 64;
const LOAD_WAITS: Millis = Millis::from_ms(20);
/// After a failure a begin takes this much less, after a success this much more: a row that cannot be begun ends
/// up alone.
const LIMIT_FACTOR: usize = 4;

#[derive(Debug)]
pub(crate) struct Compartment {
    pub(crate) intake: Intake,
    /// Messages whose rows are not loaded.
    bare: Vec<Delivery>,
    /// Messages with a permit, to be begun next.
    batch: Vec<Item>,
    /// A load, a begin in flight since then.
    loading: Option<Timestamp>,
    in_load: usize,
    beginning: Option<Timestamp>,
    pub(crate) reconciling: bool,
    /// Nothing is asked before.
    pause_until: Timestamp,
    failures: u32,
    /// The most messages in the next begin.
    limit: usize,
    most: usize,
}

impl Compartment {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            intake: Intake::default(),
            bare: Vec::new(),
            batch: Vec::new(),
            loading: None,
            in_load: 0,
            beginning: None,
            reconciling: false,
            pause_until: Timestamp::ZERO,
            failures: 0,
            limit: most,
            most,
        }
    }

    /// Messages that are neither running nor inside a call.
    pub(crate) fn held(&self) -> usize {
        self.bare.len() + self.batch.len() + self.intake.len()
    }

    /// Those that go with the next calls, or are being loaded.
    pub(crate) fn ready(&self) -> usize {
        self.bare.len() + self.in_load + self.batch.len()
    }

    pub(crate) fn is_beginning(&self) -> bool {
        self.beginning.is_some()
    }

    /// Whether its rows are unavailable or do not answer.
    pub(crate) fn stands_still(&self, now: Timestamp) -> bool {
        let still = |since: Timestamp| since.plus(STILL_AFTER) <= now;
        self.failures > 0 || self.loading.is_some_and(still) || self.beginning.is_some_and(still)
    }

    pub(crate) fn put_bare(&mut self, delivery: Delivery) {
        self.bare.push(delivery);
    }

    /// A message that just came or was loaded.
    pub(crate) fn offer(&mut self, permits: &Permits, share: usize, item: Item, now: Timestamp) {
        let most = if self.may_begin(now) { share.min(self.limit) } else { 0 };
        self.intake.offer(permits, most, item, &mut self.batch);
    }

    /// Permits are free again, or messages' times have come.
    pub(crate) fn pick(&mut self, permits: &Permits, share: usize, now: Timestamp) {
        if self.may_begin(now) {
            self.intake.pick(permits, share.min(self.limit), now, &mut self.batch);
        }
    }

    fn may_begin(&self, now: Timestamp) -> bool {
        self.beginning.is_none() && self.pause_until <= now
    }

    pub(crate) fn next_begin(&mut self, now: Timestamp) -> Option<Vec<Item>> {
        if self.batch.is_empty() || !self.may_begin(now) {
            return None;
        }
        self.beginning = Some(now);
        Some(std::mem::take(&mut self.batch))
    }

    pub(crate) fn next_load(&mut self, now: Timestamp) -> Option<Vec<Delivery>> {
        let waits = self.load_waits_until().is_some_and(|until| until > now);
        if self.bare.is_empty() || self.loading.is_some() || waits || self.pause_until > now {
            return None;
        }
        self.loading = Some(now);
        let rest = self.bare.split_off(self.bare.len().min(self.most));
        let bare = std::mem::replace(&mut self.bare, rest);
        self.in_load = bare.len();
        Some(bare)
    }

    /// `None` when there is nothing to load, or no reason to wait.
    fn load_waits_until(&self) -> Option<Timestamp> {
        let since = self.beginning.filter(|_| self.loading.is_none())?;
        (1..LOAD_BESIDE.min(self.most)).contains(&self.bare.len()).then(|| since.plus(LOAD_WAITS))
    }

    pub(crate) fn loaded(&mut self, failed: bool, now: Timestamp) {
        self.loading = None;
        self.in_load = 0;
        self.answered(failed, now);
    }

    pub(crate) fn begun(&mut self, failed: bool, now: Timestamp) {
        self.beginning = None;
        self.limit = if failed {
            (self.limit / LIMIT_FACTOR).max(1)
        } else {
            self.limit.saturating_mul(LIMIT_FACTOR).min(self.most)
        };
        self.answered(failed, now);
    }

    fn answered(&mut self, failed: bool, now: Timestamp) {
        if failed {
            let pause = PAUSE.saturating_mul(1 << self.failures.min(PAUSES_DOUBLED_MAX));
            self.pause_until = now.plus(pause);
            self.failures += 1;
        } else {
            self.failures = 0;
        }
    }

    /// When there is something to do, if nothing more comes.
    pub(crate) fn next_at(&self, may_begin: bool, now: Timestamp) -> Option<Timestamp> {
        let paused = (self.pause_until > now && self.held() > 0).then_some(self.pause_until);
        let early = self.intake.next_early().filter(|_| may_begin && self.beginning.is_none());
        let load = self.load_waits_until();
        paused.into_iter().chain(load.into_iter().chain(early).map(|at| at.max(self.pause_until))).min()
    }

    /// Everything, for the way back at a graceful stop. The permits of the batch are released.
    pub(crate) fn drain(&mut self, permits: &Permits) -> (Vec<Item>, Vec<Delivery>) {
        for item in &self.batch {
            permits.put_back(item.config);
        }
        let mut items = std::mem::take(&mut self.batch);
        items.extend(self.intake.drain());
        (items, std::mem::take(&mut self.bare))
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::{ConfigId, TaskId};
    use tsp_queue::{Message, Ticket};

    use super::*;

    const T0: Timestamp = Timestamp::from_ms(1_000);

    fn delivery(id: i64) -> Delivery {
        let message = Message { id: TaskId::new(id), version: 1, row: None };
        Delivery { message, ticket: Ticket(id.unsigned_abs()) }
    }

    /// One of 256 with a begin in flight since [`T0`].
    fn beginning() -> Compartment {
        let mut part = Compartment::new(256);
        let item = Item {
            id: TaskId::new(1),
            version: 1,
            config: ConfigId::new(1),
            ticket: Ticket(1),
            row: None,
            tries: 0,
        };
        part.offer(&Permits::new(8, 8), 8, item, T0);
        assert_eq!(part.next_begin(T0).map(|batch| batch.len()), Some(1));
        part
    }

    fn loads(part: &mut Compartment, now: Timestamp) -> Option<usize> {
        part.next_load(now).map(|bare| bare.len())
    }

    #[test]
    fn few_messages_are_loaded_when_the_begin_in_flight_has_ended() {
        let mut part = beginning();
        part.put_bare(delivery(2));
        assert_eq!(loads(&mut part, T0), None);
        part.put_bare(delivery(3));
        part.begun(false, T0.plus(Millis::from_ms(3)));
        assert_eq!(
            loads(&mut part, T0.plus(Millis::from_ms(3))),
            Some(2),
            "those that came meanwhile with them"
        );
    }

    #[test]
    fn a_slow_begin_is_not_waited_for() {
        let mut part = beginning();
        part.put_bare(delivery(2));
        let until = T0.plus(LOAD_WAITS);
        assert_eq!(part.next_at(true, T0), Some(until));
        assert_eq!(loads(&mut part, until), Some(1));
        assert_eq!(part.next_at(true, until), None);
    }

    #[test]
    fn many_messages_are_loaded_beside_it() {
        let mut part = beginning();
        (2..).take(LOAD_BESIDE).for_each(|id| part.put_bare(delivery(id)));
        assert_eq!(loads(&mut part, T0), Some(LOAD_BESIDE));
    }
}
