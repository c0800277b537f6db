//! What a lease manager knows of its own shard groups. Plain data without IO: the manager does what it says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tsp_core::{Millis, MonotonicInstant, Name};
use tsp_store::cluster::{RenewedLeases, ShardGroup};
use tsp_store::fetching::Owner;

use super::takeover_guard::TakeoverGuard;

/// Released shard groups are remembered for this long.
const REMEMBERED: Millis = Millis::from_secs(30);
/// Who had to take back a handover makes none for this long: the one it was meant for cannot.
const HANDOVER_PAUSE: Millis = Millis::from_secs(60);
const BETWEEN_HANDOVERS: Millis = Millis::from_secs(1);

#[derive(Debug)]
pub(super) struct State {
    held: BTreeMap<ShardGroup, HeldLease>,
    jobs: VecDeque<Job>,
    pub(super) watch: TakeoverGuard,
    handed_over: Vec<(ShardGroup, MonotonicInstant)>,
    /// When the release of the shard group was last sent to its database.
    gone: BTreeMap<ShardGroup, MonotonicInstant>,
    next_handover: MonotonicInstant,
    left: bool,
}

#[derive(Debug)]
struct HeldLease {
    owner: Owner,
    /// When this node knew that it is the owner.
    since: MonotonicInstant,
    /// The end of its lease, counted from before the last good renewal was sent.
    until: MonotonicInstant,
    phase: Phase,
    /// It was stopped because no renewal was answered: it goes on when one is.
    resumes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// A job is to end it, or to release it, or both.
    Stopping,
    /// Nothing runs any more, but perhaps the database does not know that it was released.
    GivingUp,
}

/// What is to be done for a shard group that this node stops to own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) shard_group: ShardGroup,
    pub(super) owner: Owner,
    pub(super) stop: bool,
    pub(super) give_up: bool,
}

/// Shard groups whose lease is gone, or that are this node's though it did not know.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) start: Vec<(ShardGroup, Owner)>,
    pub(super) lost: Vec<ShardGroup>,
}

impl State {
    pub(super) fn new(lease: Millis) -> Self {
        Self {
            held: BTreeMap::new(),
            jobs: VecDeque::new(),
            watch: TakeoverGuard::of_lease(lease),
            handed_over: Vec::new(),
            gone: BTreeMap::new(),
            next_handover: MonotonicInstant::from_ms(0),
            left: false,
        }
    }

    pub(super) fn running(&self) -> usize {
        self.held.values().filter(|held| held.phase == Phase::Running).count()
    }

    pub(super) fn knows(&self, shard_group: &ShardGroup) -> bool {
        self.held.contains_key(shard_group)
    }

    pub(super) fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    pub(super) const fn has_left(&self) -> bool {
        self.left
    }

    /// When the first lease expires.
    pub(super) fn next_end(&self) -> Option<MonotonicInstant> {
        self.held.values().filter(|held| held.phase == Phase::Running).map(|held| held.until).min()
    }

    /// This node owns the shard group. Whether its work is to be started: not if it runs, or is being stopped.
    pub(super) fn own(
        &mut self,
        shard_group: &ShardGroup,
        owner: Owner,
        until: MonotonicInstant,
        now: MonotonicInstant,
    ) -> bool {
        if self.held.contains_key(shard_group) {
            return false;
        }
        let phase = if self.left { Phase::Stopping } else { Phase::Running };
        self.held.insert(shard_group.clone(), HeldLease { owner, since: now, until, phase, resumes: false });
        if self.left {
            self.jobs.push_back(Job { shard_group: shard_group.clone(), owner, stop: false, give_up: true });
        }
        !self.left
    }

    /// This node took the shard group, perhaps one that it released shortly before and that nobody wanted.
    /// `from_another`: another node had it until then.
    pub(super) fn taken(&mut self, shard_group: &ShardGroup, from_another: bool, now: MonotonicInstant) {
        self.handed_over.retain(|(handed_over, at)| {
            now.since(*at) < REMEMBERED && !(from_another && handed_over == shard_group)
        });
        if self.handed_over.iter().any(|(handed_over, _)| handed_over == shard_group) {
            self.next_handover = now.plus(HANDOVER_PAUSE);
        }
    }

    pub(super) fn may_hand_over(&self, now: MonotonicInstant) -> bool {
        now >= self.next_handover && self.held.values().all(|held| held.phase == Phase::Running)
    }

    /// One shard group to another fetcher.
    pub(super) fn hand_over(&mut self, shard_group: &ShardGroup, now: MonotonicInstant) -> bool {
        let handed_over = self.begin_stop(shard_group, true);
        if handed_over {
            self.handed_over.push((shard_group.clone(), now));
            self.next_handover = now.plus(BETWEEN_HANDOVERS);
        }
        handed_over
    }

    /// Takes in the answer to a renewal that was sent at `sent` for `lease`.
    pub(super) fn renewed(
        &mut self,
        answer: RenewedLeases,
        sent: MonotonicInstant,
        lease: Millis,
        now: MonotonicInstant,
    ) -> Changes {
        let mut changes = Changes::default();
        let until = sent.plus(lease);
        let (mut ours, failed) = (BTreeSet::new(), BTreeSet::from_iter(answer.failed));
        for (shard_group, owner) in answer.held {
            if self.held.get(&shard_group).is_some_and(|held| held.phase == Phase::GivingUp && held.resumes) {
                self.held.remove(&shard_group);
            }
            if let Some(held) = self.held.get_mut(&shard_group) {
                if held.owner == owner {
                    held.until = held.until.max(until);
                } else {
                    // Stopped first, and started under its new epoch by a later renewal.
                    changes.lost.push(shard_group.clone());
                }
            } else if until > now
                && !self.gone_since(&shard_group, sent)
                && self.own(&shard_group, owner, until, now)
            {
                changes.start.push((shard_group.clone(), owner));
            }
            ours.insert(shard_group);
        }
        self.try_give_ups(|shard_group| ours.contains(shard_group) || failed.contains(&shard_group.shard));
        let asked = |shard_group: &ShardGroup, held: &HeldLease| {
            held.since < sent && !failed.contains(&shard_group.shard)
        };
        let gone = self
            .held
            .iter()
            .filter(|(shard_group, held)| !ours.contains(*shard_group) && asked(shard_group, held));
        changes.lost.extend(gone.map(|(shard_group, _)| shard_group.clone()));
        changes.lost.retain(|shard_group| match self.held[shard_group].phase {
            Phase::Running => true,
            Phase::Stopping => false,
            Phase::GivingUp => {
                self.held.remove(shard_group);
                false
            }
        });
        for shard_group in &changes.lost {
            self.begin_stop(shard_group, false);
        }
        changes
    }

    /// Whether an answer to what was sent then may be older than the release of the shard group.
    fn gone_since(&self, shard_group: &ShardGroup, sent: MonotonicInstant) -> bool {
        self.gone.get(shard_group).is_some_and(|at| *at >= sent)
    }

    /// Tries again to release what could not be released.
    pub(super) fn try_give_ups(&mut self, which: impl Fn(&ShardGroup) -> bool) {
        for (shard_group, held) in &mut self.held {
            if held.phase == Phase::GivingUp && which(shard_group) {
                held.phase = Phase::Stopping;
                let (shard_group, owner) = (shard_group.clone(), held.owner);
                self.jobs.push_back(Job { shard_group, owner, stop: false, give_up: true });
            }
        }
    }

    /// Stops what may be somebody else's by now, and releases it as well as that can be done: perhaps only
    /// the database's answers are lost, so that it renews what nobody does.
    pub(super) fn expire(&mut self, now: MonotonicInstant) -> Vec<ShardGroup> {
        let over: Vec<_> = self
            .held
            .iter()
            .filter(|(_, held)| held.phase == Phase::Running && held.until <= now)
            .map(|(shard_group, _)| shard_group.clone())
            .collect();
        for shard_group in &over {
            self.begin_stop(shard_group, true);
            if let Some(held) = self.held.get_mut(shard_group) {
                held.resumes = true;
            }
        }
        over
    }

    /// The shard group's work has ended by itself.
    pub(super) fn ended(&mut self, shard_group: &ShardGroup, owner: Owner) -> bool {
        self.held.get(shard_group).is_some_and(|held| held.owner == owner)
            && self.begin_stop(shard_group, false)
    }

    /// Gives up all shard groups of groups that are not served any more.
    pub(super) fn serve_only(&mut self, serves: impl Fn(&Name) -> bool) -> bool {
        let others: Vec<_> =
            self.held.keys().filter(|shard_group| !serves(&shard_group.group)).cloned().collect();
        others.into_iter().filter(|shard_group| self.begin_stop(shard_group, true)).count() > 0
    }

    /// Gives up all shard groups, and whatever else turns out to be ours.
    pub(super) fn leave(&mut self) {
        self.left = true;
        for shard_group in self.held.keys().cloned().collect::<Vec<_>>() {
            self.begin_stop(&shard_group, true);
        }
        self.try_give_ups(|_| true);
    }

    /// The job is done as far as it could be; `given_up`: the database knows it, if it had to.
    pub(super) fn done(&mut self, job: &Job, given_up: bool, now: MonotonicInstant) {
        if given_up {
            self.gone.insert(job.shard_group.clone(), now);
        }
        let Some(held) = self.held.get_mut(&job.shard_group).filter(|held| held.phase == Phase::Stopping)
        else {
            return;
        };
        if given_up || !job.give_up {
            self.held.remove(&job.shard_group);
        } else {
            held.phase = Phase::GivingUp;
        }
    }

    fn begin_stop(&mut self, shard_group: &ShardGroup, give_up: bool) -> bool {
        let Some(held) = self.held.get_mut(shard_group).filter(|held| held.phase == Phase::Running) else {
            return false;
        };
        held.phase = Phase::Stopping;
        self.jobs.push_back(Job { shard_group: shard_group.clone(), owner: held.owner, stop: true, give_up });
        true
    }
}
