//! Keeps this node's share of the shard groups: what each renewal, observation and job does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tsp_core::{Millis, MonotonicClock, MonotonicInstant, Name, NodeId, ShardId};
use tsp_store::StoreError;
use tsp_store::cluster::{
    LeaseStore, NodeRow, Observation, Peers, ShardGroup, ShardGroupLease, ShardGroupLeases, answer_within,
};
use tsp_store::fetching::Owner;

use super::host::ShardGroupHost;
use super::serves::ServingScope;
use super::spread::{Assignment, GroupOwner, Plan, Server, plan};
use super::state::{Job, State};

/// All groups there are, also those that this node does not serve. They change at run time; shard groups of a
/// group that is not among them any more are given up.
pub type GroupSource = Arc<dyn Fn() -> Vec<Name> + Send + Sync>;

/// What a lease manager works with.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "handles only")]
pub struct LeaseManagerDependencies {
    pub store: Arc<dyn LeaseStore>,
    pub host: Arc<dyn ShardGroupHost>,
    pub time: Arc<dyn MonotonicClock>,
    /// Of the same node's member.
    pub peers: Peers,
    pub node: NodeId,
    pub serves: ServingScope,
    pub groups: GroupSource,
    /// The length of a shard group's lease.
    pub lease: Millis,
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseManagerReport {
    pub taken: Vec<ShardGroup>,
    /// To be given to another fetcher as soon as it is stopped.
    pub handed_over: Option<ShardGroup>,
    /// Taken by others, or not renewed in time.
    pub lost: Vec<ShardGroup>,
    /// Shards that could not be read.
    pub away: Vec<ShardId>,
    /// Shard groups that were to be taken and were left for the next step.
    pub more: bool,
}

/// One node's; a node that was lost gets a new one under its new id.
pub struct LeaseManager {
    pub(super) deps: LeaseManagerDependencies,
    pub(super) state: Mutex<State>,
    pub(super) look_wanted: Notify,
    pub(super) jobs_waiting: Notify,
}

impl fmt::Debug for LeaseManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseManager").field("node", &self.deps.node).finish_non_exhaustive()
    }
}

impl LeaseManager {
    pub fn new(deps: LeaseManagerDependencies) -> Self {
        let state = Mutex::new(State::new(deps.lease));
        Self { deps, state, look_wanted: Notify::new(), jobs_waiting: Notify::new() }
    }

    /// Shard groups that run here.
    pub fn running(&self) -> usize {
        self.state.lock().running()
    }

    /// Wakes [`LeaseManager::run`] before its period is over: a node has died, or a group is new.
    pub fn look_again(&self) {
        self.look_wanted.notify_one();
    }

    /// The host says that a shard group's work has ended by itself, because another node owns it or because it
    /// could not go on. It may be taken again later.
    pub fn ended(&self, shard_group: &ShardGroup, owner: Owner) {
        if self.state.lock().ended(shard_group, owner) {
            self.jobs_waiting.notify_one();
        }
    }

    /// Stops shard groups by this node's own clock, although no database has answered.
    pub(super) fn expire(&self, now: MonotonicInstant) -> Vec<ShardGroup> {
        let over = self.state.lock().expire(now);
        self.tell_lost(&over, "its lease could not be renewed in time");
        over
    }

    /// Renews all shard groups at once. Shard groups that were lost.
    pub(super) async fn renew(&self, now: MonotonicInstant) -> Vec<ShardGroup> {
        let LeaseManagerDependencies { store, node, lease, .. } = &self.deps;
        let answer = match answer_within(*lease, store.renew_leases(*node, *lease)).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "could not renew the leases of this node's shard groups, will try again");
                self.state.lock().try_give_ups(|_| true);
                self.jobs_waiting.notify_one();
                return Vec::new();
            }
        };
        let changes = self.state.lock().renewed(answer, now, *lease, self.deps.time.instant());
        for (shard_group, owner) in &changes.start {
            self.start(shard_group, *owner);
        }
        self.jobs_waiting.notify_one();
        self.tell_lost(&changes.lost, "another node owns it");
        changes.lost
    }

    /// Reads all shard groups, takes what falls to this node, and gives up one if it has too many.
    pub(super) async fn observe(&self, now: MonotonicInstant) -> LeaseManagerReport {
        let mut report = LeaseManagerReport::default();
        let Some(peers) = self.deps.peers.get() else { return report };
        let groups = (self.deps.groups)();
        self.drop_unserved(&groups);
        if groups.is_empty() || self.state.lock().has_left() {
            return report;
        }
        let shard_groups = match answer_within(self.deps.lease, self.deps.store.shard_groups(&groups)).await {
            Ok(shard_groups) => shard_groups,
            Err(error) => {
                tracing::warn!(%error, "could not read the shard groups, starts observing from nothing");
                self.state.lock().watch.reset();
                return report;
            }
        };
        report.away = shard_groups.away.iter().map(|(shard, _)| *shard).collect();
        let observation = Observation { sent: now, received: self.deps.time.instant() };
        self.state.lock().watch.observe(observation, &shard_groups);
        let plan = plan(self.deps.node, &self.servers(&peers), &assignments(&shard_groups, self.deps.node));
        (report.taken, report.more) = self.take(self.choose(&plan, shard_groups.rows)).await;
        report.handed_over = plan
            .give_up
            .filter(|_| report.away.is_empty())
            .filter(|shard_group| self.hand_over(shard_group, now));
        report
    }

    fn drop_unserved(&self, groups: &[Name]) {
        let serves = |group: &Name| self.deps.serves.includes(group) && groups.contains(group);
        if self.state.lock().serve_only(serves) {
            self.jobs_waiting.notify_one();
        }
    }

    /// The live fetchers. This node is one, whatever the last observation of the nodes showed.
    fn servers(&self, peers: &[NodeRow]) -> Vec<Server> {
        let alive =
            peers.iter().filter(|row| row.dead_at.is_none() && !row.expired && row.id != self.deps.node);
        let others = alive.filter_map(|row| {
            Some(Server { node: row.id, serves: ServingScope::from_roles(&row.node.roles)? })
        });
        let me = Server { node: self.deps.node, serves: self.deps.serves.clone() };
        others.chain([me]).collect()
    }

    /// What of the plan may be taken now.
    fn choose(&self, plan: &Plan, rows: Vec<ShardGroupLease>) -> Vec<ShardGroupLease> {
        let (mine, others): (BTreeSet<_>, BTreeSet<_>) =
            (plan.mine.iter().collect(), plan.others.iter().collect());
        let state = self.state.lock();
        let may_take = |row: &ShardGroupLease| {
            let ours = mine.contains(&row.shard_group);
            (ours || others.contains(&row.shard_group))
                && !state.knows(&row.shard_group)
                && state.watch.may_take(row, ours)
        };
        rows.into_iter().filter(may_take).collect()
    }

    /// Database by database side by side, so that a slow one holds up no other. Not for longer than a
    /// renewal's period: then it says that there is more, and the next observation goes on.
    async fn take(&self, rows: Vec<ShardGroupLease>) -> (Vec<ShardGroup>, bool) {
        let mut by_source: BTreeMap<String, Vec<ShardGroupLease>> = BTreeMap::new();
        for row in rows {
            by_source.entry(row.source.clone()).or_default().push(row);
        }
        let enough = self.deps.time.instant().plus(Millis::from_ms(self.deps.lease.ms() / 5));
        let all = join_all(by_source.into_values().map(|rows| self.take_in_turn(rows, enough))).await;
        let more = all.iter().any(|(_, more)| *more);
        (all.into_iter().flat_map(|(taken, _)| taken).collect(), more)
    }

    async fn take_in_turn(
        &self,
        rows: Vec<ShardGroupLease>,
        enough: MonotonicInstant,
    ) -> (Vec<ShardGroup>, bool) {
        let mut taken = Vec::new();
        for row in rows {
            if self.deps.time.instant() >= enough || self.state.lock().has_left() {
                return (taken, true);
            }
            match self.take_one(&row).await {
                Ok(true) => taken.push(row.shard_group),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, group = %row.shard_group.group, shard = row.shard_group.shard.get(), "could not take a shard group");
                    break;
                }
            }
        }
        (taken, false)
    }

    async fn take_one(&self, row: &ShardGroupLease) -> Result<bool, StoreError> {
        let LeaseManagerDependencies { store, time, node, lease, .. } = &self.deps;
        let sent = time.instant();
        let Some(owner) = answer_within(*lease, store.take(row, *node, *lease)).await? else {
            return Ok(false);
        };
        let now = time.instant();
        let start = {
            let mut state = self.state.lock();
            state.taken(&row.shard_group, row.owner.is_some_and(|owner| owner != *node), now);
            state.own(&row.shard_group, owner, sent.plus(*lease), now)
        };
        if start {
            self.start(&row.shard_group, owner);
        }
        self.jobs_waiting.notify_one();
        Ok(true)
    }

    fn hand_over(&self, shard_group: &ShardGroup, now: MonotonicInstant) -> bool {
        let handed_over = {
            let mut state = self.state.lock();
            state.may_hand_over(now) && state.hand_over(shard_group, now)
        };
        if handed_over {
            tracing::info!(group = %shard_group.group, shard = shard_group.shard.get(), "hands a shard group over: others have fewer");
            self.jobs_waiting.notify_one();
        }
        handed_over
    }

    /// Without an `await` after the state has changed, so that no stop comes before the start.
    fn start(&self, shard_group: &ShardGroup, owner: Owner) {
        tracing::info!(group = %shard_group.group, shard = shard_group.shard.get(), epoch = owner.epoch, "owns a shard group");
        counter!("tsp_pair_changes_total", "change" => "taken").increment(1);
        self.deps.host.start(shard_group, owner);
        self.show_running();
    }

    fn tell_lost(&self, shard_groups: &[ShardGroup], why: &'static str) {
        for shard_group in shard_groups {
            tracing::warn!(group = %shard_group.group, shard = shard_group.shard.get(), "stops a shard group: {why}");
            counter!("tsp_pair_changes_total", "change" => "lost").increment(1);
        }
        if !shard_groups.is_empty() {
            self.jobs_waiting.notify_one();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is floating point; there are few shard groups")]
    fn show_running(&self) {
        gauge!("tsp_pairs_owned").set(self.running() as f64);
    }

    /// First the work ends, then others may have the shard group.
    pub(super) async fn carry_out(&self, job: Job) {
        if job.stop {
            self.deps.host.stop(&job.shard_group).await;
        }
        let mut given_up = false;
        if job.give_up {
            let asked = self.deps.store.give_up(&job.shard_group, job.owner);
            match answer_within(self.deps.lease, asked).await {
                Ok(()) => {
                    counter!("tsp_pair_changes_total", "change" => "given_up").increment(1);
                    given_up = true;
                }
                Err(error) => tracing::warn!(%error, "could not release a shard group, will try again"),
            }
        }
        self.state.lock().done(&job, given_up, self.deps.time.instant());
        self.show_running();
    }
}

fn assignments(shard_groups: &ShardGroupLeases, me: NodeId) -> Vec<Assignment> {
    let group_owner = |row: &ShardGroupLease| match row.owner {
        Some(owner) if !row.expired || owner == me => GroupOwner::Held(owner),
        from => GroupOwner::Free { from },
    };
    shard_groups
        .rows
        .iter()
        .map(|row| Assignment { shard_group: row.shard_group.clone(), group_owner: group_owner(row) })
        .collect()
}
