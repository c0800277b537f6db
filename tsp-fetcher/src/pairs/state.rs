//! What a keeper knows of its own pairs. Plain data: it does no IO, and the keeper does what it says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tsp_core::{Millis, Moment, Name};
use tsp_store::cluster::{Pair, RenewedPairs};
use tsp_store::schedule::Owner;

use super::watch::PairWatch;

/// Pairs given up are remembered for this long.
const REMEMBERED: Millis = Millis::from_secs(30);
/// Who had to take back what it gave up gives up nothing for this long: the one it was meant for cannot.
const NO_GIFTS: Millis = Millis::from_secs(60);
const BETWEEN_GIFTS: Millis = Millis::from_secs(1);

#[derive(Debug)]
pub(super) struct State {
    held: BTreeMap<Pair, Held>,
    jobs: VecDeque<Job>,
    pub(super) watch: PairWatch,
    given: Vec<(Pair, Moment)>,
    /// When the database was last told that this node gives the pair up.
    gone: BTreeMap<Pair, Moment>,
    next_gift: Moment,
    left: bool,
}

#[derive(Debug)]
struct Held {
    owner: Owner,
    /// When this node knew that it is the owner.
    since: Moment,
    /// The end of its lease, counted from before the last good renewal was sent.
    until: Moment,
    phase: Phase,
    /// It was stopped because no renewal was answered: it goes on when one is.
    resumes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// A job is to end it, or to give it up, or both.
    Stopping,
    /// Nothing runs any more, but perhaps the database does not know that it was given up.
    GivingUp,
}

/// What is to be done for a pair that this node stops to own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) pair: Pair,
    pub(super) owner: Owner,
    pub(super) stop: bool,
    pub(super) give_up: bool,
}

/// Pairs whose lease is gone, or that are this node's though it did not know.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) start: Vec<(Pair, Owner)>,
    pub(super) lost: Vec<Pair>,
}

impl State {
    pub(super) fn new(lease: Millis) -> Self {
        Self {
            held: BTreeMap::new(),
            jobs: VecDeque::new(),
            watch: PairWatch::of_lease(lease),
            given: Vec::new(),
            gone: BTreeMap::new(),
            next_gift: Moment::from_ms(0),
            left: false,
        }
    }

    pub(super) fn running(&self) -> usize {
        self.held.values().filter(|held| held.phase == Phase::Running).count()
    }

    pub(super) fn knows(&self, pair: &Pair) -> bool {
        self.held.contains_key(pair)
    }

    pub(super) fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    pub(super) const fn has_left(&self) -> bool {
        self.left
    }

    /// When the first lease is over.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.held.values().filter(|held| held.phase == Phase::Running).map(|held| held.until).min()
    }

    /// This node owns the pair. Whether its work is to be started: not if it runs, or is being stopped.
    pub(super) fn own(&mut self, pair: &Pair, owner: Owner, until: Moment, now: Moment) -> bool {
        if self.held.contains_key(pair) {
            return false;
        }
        let phase = if self.left { Phase::Stopping } else { Phase::Running };
        self.held.insert(pair.clone(), Held { owner, since: now, until, phase, resumes: false });
        if self.left {
            self.jobs.push_back(Job { pair: pair.clone(), owner, stop: false, give_up: true });
        }
        !self.left
    }

    /// This node took the pair, perhaps one that it gave up shortly before and that nobody wanted.
    /// `from_another`: another node had it until then.
    pub(super) fn taken(&mut self, pair: &Pair, from_another: bool, now: Moment) {
        self.given.retain(|(given, at)| now.since(*at) < REMEMBERED && !(from_another && given == pair));
        if self.given.iter().any(|(given, _)| given == pair) {
            self.next_gift = now.plus(NO_GIFTS);
        }
    }

    pub(super) fn may_give(&self, now: Moment) -> bool {
        now >= self.next_gift && self.held.values().all(|held| held.phase == Phase::Running)
    }

    /// One pair to another fetcher.
    pub(super) fn give(&mut self, pair: &Pair, now: Moment) -> bool {
        let given = self.begin_stop(pair, true);
        if given {
            self.given.push((pair.clone(), now));
            self.next_gift = now.plus(BETWEEN_GIFTS);
        }
        given
    }

    /// Takes in the answer to a renewal that was sent at `sent` for `lease`.
    pub(super) fn renewed(
        &mut self,
        answer: RenewedPairs,
        sent: Moment,
        lease: Millis,
        now: Moment,
    ) -> Changes {
        let mut changes = Changes::default();
        let until = sent.plus(lease);
        let (mut ours, failed) = (BTreeSet::new(), BTreeSet::from_iter(answer.failed));
        for (pair, owner) in answer.held {
            if self.held.get(&pair).is_some_and(|held| held.phase == Phase::GivingUp && held.resumes) {
                self.held.remove(&pair);
            }
            if let Some(held) = self.held.get_mut(&pair) {
                if held.owner == owner {
                    held.until = held.until.max(until);
                } else {
                    // Stopped first, and started under its new epoch by a later renewal.
                    changes.lost.push(pair.clone());
                }
            } else if until > now && !self.gone_since(&pair, sent) && self.own(&pair, owner, until, now) {
                changes.start.push((pair.clone(), owner));
            }
            ours.insert(pair);
        }
        self.try_give_ups(|pair| ours.contains(pair) || failed.contains(&pair.shard));
        let asked = |pair: &Pair, held: &Held| held.since < sent && !failed.contains(&pair.shard);
        let gone = self.held.iter().filter(|(pair, held)| !ours.contains(*pair) && asked(pair, held));
        changes.lost.extend(gone.map(|(pair, _)| pair.clone()));
        changes.lost.retain(|pair| match self.held[pair].phase {
            Phase::Running => true,
            Phase::Stopping => false,
            Phase::GivingUp => {
                self.held.remove(pair);
                false
            }
        });
        for pair in &changes.lost {
            self.begin_stop(pair, false);
        }
        changes
    }

    /// Whether an answer to what was sent then may be older than that the pair was given up.
    fn gone_since(&self, pair: &Pair, sent: Moment) -> bool {
        self.gone.get(pair).is_some_and(|at| *at >= sent)
    }

    /// Tries again to give up what could not be given up.
    pub(super) fn try_give_ups(&mut self, which: impl Fn(&Pair) -> bool) {
        for (pair, held) in &mut self.held {
            if held.phase == Phase::GivingUp && which(pair) {
                held.phase = Phase::Stopping;
                let (pair, owner) = (pair.clone(), held.owner);
                self.jobs.push_back(Job { pair, owner, stop: false, give_up: true });
            }
        }
    }

    /// Stops what may be somebody else's by now, and gives it up as well as that can be done: perhaps the
    /// database hears us and only its answers are lost, so that it renews what nobody does.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<Pair> {
        let over: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.phase == Phase::Running && held.until <= now)
            .map(|(pair, _)| pair.clone())
            .collect();
        for pair in &over {
            self.begin_stop(pair, true);
            if let Some(held) = self.held.get_mut(pair) {
                held.resumes = true;
            }
        }
        over
    }

    /// The pair's work has ended by itself.
    pub(super) fn ended(&mut self, pair: &Pair, owner: Owner) -> bool {
        self.held.get(pair).is_some_and(|held| held.owner == owner) && self.begin_stop(pair, false)
    }

    /// Gives up all pairs of groups that are not served any more.
    pub(super) fn serve_only(&mut self, serves: impl Fn(&Name) -> bool) -> bool {
        let others: Vec<_> = self.held.keys().filter(|pair| !serves(&pair.group)).cloned().collect();
        others.into_iter().filter(|pair| self.begin_stop(pair, true)).count() > 0
    }

    /// Gives up all pairs, and whatever else turns out to be ours.
    pub(super) fn leave(&mut self) {
        self.left = true;
        for pair in self.held.keys().cloned().collect::<Vec<_>>() {
            self.begin_stop(&pair, true);
        }
        self.try_give_ups(|_| true);
    }

    /// The job is done as far as it could be; `given_up`: the database knows it, if it had to.
    pub(super) fn done(&mut self, job: &Job, given_up: bool, now: Moment) {
        if given_up {
            self.gone.insert(job.pair.clone(), now);
        }
        let Some(held) = self.held.get_mut(&job.pair).filter(|held| held.phase == Phase::Stopping) else {
            return;
        };
        if given_up || !job.give_up {
            self.held.remove(&job.pair);
        } else {
            held.phase = Phase::GivingUp;
        }
    }

    fn begin_stop(&mut self, pair: &Pair, give_up: bool) -> bool {
        let Some(held) = self.held.get_mut(pair).filter(|held| held.phase == Phase::Running) else {
            return false;
        };
        held.phase = Phase::Stopping;
        self.jobs.push_back(Job { pair: pair.clone(), owner: held.owner, stop: true, give_up });
        true
    }
}
