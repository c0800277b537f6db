//! How one limit on messages in flight is shared out over connections: which `RDY` each gets, and when.
//!
//! Two sums are kept within their limits. What the connections were *allowed* never exceeds `allowed`, although
//! two connections see their `RDY` in no common order: what one gives up is given to another only after a grace
//! time. And what is really in flight counts against `total`, so that a connection which lost its share while
//! its messages are still worked on does not make room for others before they are done.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// After this time a lowered `RDY` has reached nsqd, and what it sent before has reached us.
const GRACE: Duration = Duration::from_millis(250);
/// With more connections than may be in flight, one that brings nothing passes its turn on after this,
const IDLE_TURN: Duration = Duration::from_secs(10);
/// and any other after this.
const TURN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// On what is in flight.
    pub(super) total: u32,
    /// On the sum of all `RDY`: `total`, or less for a time.
    pub(super) allowed: u32,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) in_flight: u32,
    pub(super) last_message: Option<Instant>,
}

#[derive(Debug)]
struct Seat {
    /// nsqd's own limit for one connection.
    limit: u32,
    ready: u32,
    /// Since when `ready` is zero, or is not.
    since: Instant,
    /// What it had before, and until when that still counts.
    before: Option<(u32, Instant)>,
}

impl Seat {
    fn promised(&self, now: Instant) -> u32 {
        match self.before {
            Some((before, until)) if now < until => self.ready.max(before),
            _ => self.ready,
        }
    }

    fn set(&mut self, ready: u32, now: Instant) {
        if ready < self.ready {
            self.before = Some((self.promised(now), now + GRACE));
        }
        if (ready == 0) != (self.ready == 0) {
            self.since = now;
        }
        self.ready = ready;
    }

    /// When its turn is over.
    fn turn_ends(&self, load: Load) -> Instant {
        let active = load.last_message.map_or(self.since, |last| last.max(self.since));
        (self.since + TURN).min(active + IDLE_TURN)
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The `RDY` to send, by connection.
    pub(super) changes: Vec<(u64, u32)>,
    /// Some connection has less than its share, and gets more when messages in flight are done.
    pub(super) short: bool,
    /// When to compute the shares again, whatever happens.
    pub(super) wake: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Shares {
    seats: BTreeMap<u64, Seat>,
}

impl Shares {
    pub(super) fn join(&mut self, id: u64, limit: u32, now: Instant) {
        self.seats.insert(id, Seat { limit, ready: 0, since: now, before: None });
    }

    /// Forgets all connections but these.
    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.seats.retain(|id, _| keep(*id));
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.seats.contains_key(&id)
    }

    /// The sum of what was sent.
    pub(super) fn sum(&self) -> u32 {
        self.seats.values().map(|seat| seat.ready).sum()
    }

    pub(super) fn step(&mut self, limits: Limits, now: Instant, load: impl Fn(u64) -> Load) -> Step {
        let mut step = Step::default();
        let targets = self.targets(limits.allowed, now, &load);
        for (id, seat) in &mut self.seats {
            let target = targets.get(id).copied().unwrap_or(0);
            if target < seat.ready {
                seat.set(target, now);
                step.changes.push((*id, target));
            }
        }
        self.raise(limits, now, &load, &targets, &mut step);
        if self.must_take_turns(limits.allowed) {
            let seated = self.seats.iter().filter(|(_, seat)| seat.ready > 0);
            let ends = seated.map(|(id, seat)| seat.turn_ends(load(*id))).filter(|end| *end > now);
            step.wake = ends.chain(step.wake).min();
        }
        step
    }

    fn must_take_turns(&self, allowed: u32) -> bool {
        (allowed as usize) < self.seats.len()
    }

    fn raise(
        &mut self,
        limits: Limits,
        now: Instant,
        load: impl Fn(u64) -> Load,
        targets: &BTreeMap<u64, u32>,
        step: &mut Step,
    ) {
        let used = |id: u64, seat: &Seat| seat.promised(now).max(load(id).in_flight);
        let promised_sum: u32 = self.seats.values().map(|seat| seat.promised(now)).sum();
        let used_sum: u32 = self.seats.iter().map(|(id, seat)| used(*id, seat)).sum();
        let mut spare_allowed = limits.allowed.saturating_sub(promised_sum);
        let mut spare_total = limits.total.saturating_sub(used_sum);
        for (id, target) in targets {
            let Some(seat) = self.seats.get_mut(id) else { continue };
            if seat.ready >= *target {
                continue;
            }
            let (promised, used) = (seat.promised(now), used(*id, seat));
            let ready = (*target).min(promised + spare_allowed).min(used + spare_total);
            if ready > seat.ready {
                spare_allowed -= ready.saturating_sub(promised);
                spare_total -= ready.saturating_sub(used);
                seat.set(ready, now);
                step.changes.push((*id, ready));
            }
            step.short |= ready < *target;
        }
        if step.short {
            let graces = self.seats.values().filter_map(|seat| seat.before.map(|(_, until)| until));
            step.wake = graces.filter(|until| *until > now).chain(step.wake).min();
        }
    }

    /// What each connection should have.
    fn targets(&self, allowed: u32, now: Instant, load: impl Fn(u64) -> Load) -> BTreeMap<u64, u32> {
        if !self.must_take_turns(allowed) {
            let count = u32::try_from(self.seats.len()).unwrap_or(u32::MAX);
            let (each, more) = (allowed / count.max(1), allowed % count.max(1));
            let shares = (0..count).map(|at| each + u32::from(at < more));
            return self
                .seats
                .iter()
                .zip(shares)
                .map(|((id, seat), share)| (*id, share.min(seat.limit)))
                .collect();
        }
        let (mut holding, mut waiting): (Vec<_>, Vec<_>) = self
            .seats
            .iter()
            .map(|(id, seat)| (seat.since, *id))
            .partition(|(_, id)| self.seats[id].ready > 0);
        holding.sort_unstable();
        waiting.sort_unstable();
        let ends = |id: u64| self.seats[&id].turn_ends(load(id));
        let mut turns_to_give = waiting.len();
        holding.retain(|(_, id)| {
            let gives = turns_to_give > 0 && ends(*id) <= now;
            turns_to_give -= usize::from(gives);
            !gives
        });
        let seats = allowed as usize;
        let surplus = holding.len().saturating_sub(seats);
        holding.drain(..surplus);
        let seated = holding.iter().chain(&waiting).take(seats);
        seated.map(|(_, id)| (*id, 1)).collect()
    }
}

#[cfg(test)]
mod tests;
