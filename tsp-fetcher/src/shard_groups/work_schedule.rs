//! What a lease manager is to start, and when. Plain data: [`LeaseManager::step`](super::LeaseManager::step) and
//! [`LeaseManager::run`](super::LeaseManager::run) both go by it.

use tsp_core::{Millis, MonotonicInstant};

use super::state::{Job, State};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Renew,
    Observe,
    Job(Job),
}

#[derive(Debug)]
pub(super) struct WorkSchedule {
    period: Millis,
    renew_at: MonotonicInstant,
    observe_at: MonotonicInstant,
    observation_wanted: bool,
    renewing: bool,
    observing: bool,
}

impl WorkSchedule {
    /// Renews and observes at `now` for the first time.
    pub(super) const fn new(period: Millis, now: MonotonicInstant) -> Self {
        Self {
            period,
            renew_at: now,
            observe_at: now,
            observation_wanted: false,
            renewing: false,
            observing: false,
        }
    }

    /// What is to be started now. One renewal and one observation at a time; none waits for another, and no job for either.
    pub(super) fn due(&mut self, state: &mut State, now: MonotonicInstant) -> Vec<Work> {
        let mut work = Vec::new();
        if !state.has_left() {
            if !self.renewing && self.renew_at <= now {
                (self.renewing, self.renew_at) = (true, now.plus(self.period));
                work.push(Work::Renew);
            }
            if !self.observing && (self.observation_wanted || self.observe_at <= now) {
                (self.observing, self.observe_at) = (true, now.plus(self.period));
                self.observation_wanted = false;
                work.push(Work::Observe);
            }
        }
        work.extend(std::iter::from_fn(|| state.next_job()).map(Work::Job));
        work
    }

    /// The renewal was answered, or given up.
    pub(super) const fn renewed(&mut self) {
        self.renewing = false;
    }

    /// The observation has ended.
    pub(super) const fn observed(&mut self) {
        self.observing = false;
    }

    /// An observation is wanted before its period is over.
    pub(super) const fn want_observation(&mut self) {
        self.observation_wanted = true;
    }

    /// When something is due that no answer brings.
    pub(super) fn next(&self, state: &State) -> Option<MonotonicInstant> {
        if state.has_left() {
            return None;
        }
        let renew_at = (!self.renewing).then_some(self.renew_at);
        let observe_at = (!self.observing).then_some(self.observe_at);
        [renew_at, observe_at, state.next_end()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::{Name, NodeId, ShardId};
    use tsp_store::cluster::ShardGroup;
    use tsp_store::fetching::Owner;

    use super::*;

    const PERIOD: Millis = Millis::from_secs(1);
    const LEASE: Millis = Millis::from_secs(5);
    const ME: Owner = Owner { node: NodeId::new(1), epoch: 7 };

    fn at(ms: i64) -> MonotonicInstant {
        MonotonicInstant::from_ms(ms)
    }

    fn shard_group() -> ShardGroup {
        ShardGroup { group: Name::default_name(), shard: ShardId::new(0).expect("it is one") }
    }

    /// A renewal and an observation are under way since 0, of a node that owns one shard group until 5,000.
    fn under_way() -> (WorkSchedule, State) {
        let (mut schedule, mut state) = (WorkSchedule::new(PERIOD, at(0)), State::new(LEASE));
        assert_eq!(schedule.due(&mut state, at(0)), [Work::Renew, Work::Observe]);
        assert!(state.own(&shard_group(), ME, at(5_000), at(0)));
        (schedule, state)
    }

    #[test]
    fn an_observation_that_hangs_delays_no_renewal_and_the_other_way_round() {
        let (mut schedule, mut state) = under_way();
        schedule.renewed();
        assert_eq!(schedule.next(&state), Some(at(1_000)));
        assert_eq!(schedule.due(&mut state, at(1_000)), [Work::Renew]);

        let (mut schedule, mut state) = under_way();
        schedule.observed();
        assert_eq!(schedule.due(&mut state, at(1_000)), [Work::Observe]);
    }

    #[test]
    fn one_that_took_long_comes_again_at_once_and_none_twice() {
        let (mut schedule, mut state) = under_way();
        assert_eq!(schedule.due(&mut state, at(4_000)), []);
        schedule.renewed();
        assert_eq!(schedule.due(&mut state, at(4_000)), [Work::Renew]);
        schedule.renewed();
        assert_eq!(schedule.due(&mut state, at(4_999)), []);
    }

    #[test]
    fn an_observation_that_is_wanted_comes_as_soon_as_the_last_has_ended() {
        let (mut schedule, mut state) = under_way();
        schedule.want_observation();
        assert_eq!(schedule.due(&mut state, at(10)), []);
        schedule.observed();
        assert_eq!(schedule.due(&mut state, at(20)), [Work::Observe]);
        schedule.observed();
        assert_eq!(schedule.due(&mut state, at(30)), []);
    }

    #[test]
    fn no_answer_is_needed_for_a_lease_to_end_and_its_job_to_be_done() {
        let (mut schedule, mut state) = under_way();
        assert_eq!(schedule.next(&state), Some(at(5_000)), "though all calls hang");
        assert_eq!(state.expire(at(5_000)), [shard_group()]);
        let job = Job { shard_group: shard_group(), owner: ME, stop: true, give_up: true };
        assert_eq!(schedule.due(&mut state, at(5_000)), [Work::Job(job)]);
    }

    #[test]
    fn who_leaves_renews_nothing_and_gives_up_what_a_late_answer_brings() {
        let (mut schedule, mut state) = under_way();
        state.leave();
        schedule.renewed();
        schedule.observed();
        let given_up = |stop| Work::Job(Job { shard_group: shard_group(), owner: ME, stop, give_up: true });
        assert_eq!(schedule.due(&mut state, at(2_000)), [given_up(true)]);
        assert_eq!(schedule.next(&state), None);

        let mut state = State::new(LEASE);
        state.leave();
        assert!(
            !state.own(&shard_group(), ME, at(5_000), at(0)),
            "taken by an observation that was under way"
        );
        assert_eq!(schedule.due(&mut state, at(2_000)), [given_up(false)]);
    }
}
