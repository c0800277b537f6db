//! Keeps this node's share of the pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures::future::join_all;
use futures::join;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tsp_core::{Millis, Moment, Monotonic, Name, NodeId, ShardId};
use tsp_store::StoreError;
use tsp_store::cluster::{LeaseStore, Look, NodeRow, Pair, PairRow, Pairs, Peers, answer_within};
use tsp_store::schedule::Owner;

use super::host::PairHost;
use super::serves::Serves;
use super::spread::{Place, Placed, Plan, Server, plan};
use super::state::{Job, State};

/// All groups there are, also those that this node does not serve. They change at run time; pairs of a
/// group that is not among them any more are given up.
pub type GroupSource = Arc<dyn Fn() -> Vec<Name> + Send + Sync>;

/// What a keeper works with.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "handles only")]
pub struct KeeperParts {
    pub store: Arc<dyn LeaseStore>,
    pub host: Arc<dyn PairHost>,
    pub time: Arc<dyn Monotonic>,
    /// Of the same node's member.
    pub peers: Peers,
    pub node: NodeId,
    pub serves: Serves,
    pub groups: GroupSource,
    /// The length of a pair's lease.
    pub lease: Millis,
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeeperReport {
    pub taken: Vec<Pair>,
    /// To be given to another fetcher as soon as it is stopped.
    pub given: Option<Pair>,
    /// Taken by others, or not renewed in time.
    pub lost: Vec<Pair>,
    /// Shards that could not be read.
    pub away: Vec<ShardId>,
    /// Pairs that were to be taken and were left for the next step.
    pub more: bool,
}

/// One node's; a node that was lost gets a new one under its new id.
pub struct PairKeeper {
    pub(super) parts: KeeperParts,
    pub(super) state: Mutex<State>,
    pub(super) look_wanted: Notify,
    pub(super) jobs_waiting: Notify,
}

impl fmt::Debug for PairKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairKeeper").field("node", &self.parts.node).finish_non_exhaustive()
    }
}

impl PairKeeper {
    pub fn new(parts: KeeperParts) -> Self {
        let state = Mutex::new(State::new(parts.lease));
        Self { parts, state, look_wanted: Notify::new(), jobs_waiting: Notify::new() }
    }

    /// Pairs that run here.
    pub fn running(&self) -> usize {
        self.state.lock().running()
    }

    /// Wakes [`PairKeeper::run`] before its period is over: a node has died, or a group is new.
    pub fn look_again(&self) {
        self.look_wanted.notify_one();
    }

    /// The host says that a pair's work has ended by itself, because another node owns it or because it
    /// could not go on. It may be taken again later.
    pub fn ended(&self, pair: &Pair, owner: Owner) {
        if self.state.lock().ended(pair, owner) {
            self.jobs_waiting.notify_one();
        }
    }

    /// One turn: stops what is over, renews, reads all pairs, takes and gives up, and does what stopping
    /// needs. [`PairKeeper::run`] does the same without letting one part wait for another.
    pub async fn step(&self, now: Moment) -> KeeperReport {
        let mut lost = self.expire(now);
        let (renewed, mut report) = join!(self.renew(now), self.look(now));
        lost.extend(renewed);
        report.lost = lost;
        self.work_off().await;
        report
    }

    /// Gives up everything, so that others take it at once. Nothing is taken any more.
    pub async fn leave(&self) {
        self.begin_leaving();
        self.work_off().await;
    }

    pub(super) fn begin_leaving(&self) {
        self.state.lock().leave();
        self.jobs_waiting.notify_one();
    }

    /// Stops pairs by this node's own clock, although no database has answered.
    pub(super) fn expire(&self, now: Moment) -> Vec<Pair> {
        let over = self.state.lock().expire(now);
        self.tell_lost(&over, "its lease could not be renewed in time");
        over
    }

    /// Renews all pairs at once. Pairs that were lost.
    pub(super) async fn renew(&self, now: Moment) -> Vec<Pair> {
        let KeeperParts { store, node, lease, .. } = &self.parts;
        let answer = match answer_within(*lease, store.renew_pairs(*node, *lease)).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "could not renew the leases of this node's pairs, will try again");
                self.state.lock().try_give_ups(|_| true);
                self.jobs_waiting.notify_one();
                return Vec::new();
            }
        };
        let changes = self.state.lock().renewed(answer, now, *lease, self.parts.time.moment());
        for (pair, owner) in &changes.start {
            self.start(pair, *owner);
        }
        self.jobs_waiting.notify_one();
        self.tell_lost(&changes.lost, "another node owns it");
        changes.lost
    }

    /// Reads all pairs, takes what falls to this node, and gives up one if it has too many.
    pub(super) async fn look(&self, now: Moment) -> KeeperReport {
        let mut report = KeeperReport::default();
        let Some(peers) = self.parts.peers.get() else { return report };
        let groups = (self.parts.groups)();
        self.drop_unserved(&groups);
        if groups.is_empty() || self.state.lock().has_left() {
            return report;
        }
        let pairs = match answer_within(self.parts.lease, self.parts.store.pairs(&groups)).await {
            Ok(pairs) => pairs,
            Err(error) => {
                tracing::warn!(%error, "could not read the pairs, watches them afresh");
                self.state.lock().watch.break_off();
                return report;
            }
        };
        report.away = pairs.away.iter().map(|(shard, _)| *shard).collect();
        let look = Look { sent: now, received: self.parts.time.moment() };
        self.state.lock().watch.look(look, &pairs);
        let plan = plan(self.parts.node, &self.servers(&peers), &placed(&pairs, self.parts.node));
        (report.taken, report.more) = self.take(self.choose(&plan, pairs.rows)).await;
        report.given = plan.give_up.filter(|_| report.away.is_empty()).filter(|pair| self.give(pair, now));
        report
    }

    fn drop_unserved(&self, groups: &[Name]) {
        let serves = |group: &Name| self.parts.serves.includes(group) && groups.contains(group);
        if self.state.lock().serve_only(serves) {
            self.jobs_waiting.notify_one();
        }
    }

    /// The live fetchers. This node is one, whatever the last look at the nodes showed.
    fn servers(&self, peers: &[NodeRow]) -> Vec<Server> {
        let alive =
            peers.iter().filter(|row| row.dead_at.is_none() && !row.over && row.id != self.parts.node);
        let others = alive
            .filter_map(|row| Some(Server { node: row.id, serves: Serves::from_roles(&row.node.roles)? }));
        let me = Server { node: self.parts.node, serves: self.parts.serves.clone() };
        others.chain([me]).collect()
    }

    /// What of the plan may be taken now.
    fn choose(&self, plan: &Plan, rows: Vec<PairRow>) -> Vec<PairRow> {
        let (mine, others): (BTreeSet<_>, BTreeSet<_>) =
            (plan.mine.iter().collect(), plan.others.iter().collect());
        let state = self.state.lock();
        let may_take = |row: &PairRow| {
            let ours = mine.contains(&row.pair);
            (ours || others.contains(&row.pair)) && !state.knows(&row.pair) && state.watch.may_take(row, ours)
        };
        rows.into_iter().filter(may_take).collect()
    }

    /// Database by database side by side, so that a slow one holds up no other. Not for longer than a
    /// renewal's period: then it says that there is more, and the next look goes on.
    async fn take(&self, rows: Vec<PairRow>) -> (Vec<Pair>, bool) {
        let mut by_source: BTreeMap<String, Vec<PairRow>> = BTreeMap::new();
        for row in rows {
            by_source.entry(row.source.clone()).or_default().push(row);
        }
        let enough = self.parts.time.moment().plus(Millis::from_ms(self.parts.lease.ms() / 5));
        let all = join_all(by_source.into_values().map(|rows| self.take_in_turn(rows, enough))).await;
        let more = all.iter().any(|(_, more)| *more);
        (all.into_iter().flat_map(|(taken, _)| taken).collect(), more)
    }

    async fn take_in_turn(&self, rows: Vec<PairRow>, enough: Moment) -> (Vec<Pair>, bool) {
        let mut taken = Vec::new();
        for row in rows {
            if self.parts.time.moment() >= enough || self.state.lock().has_left() {
                return (taken, true);
            }
            match self.take_one(&row).await {
                Ok(true) => taken.push(row.pair),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, group = %row.pair.group, shard = row.pair.shard.get(), "could not take a pair");
                    break;
                }
            }
        }
        (taken, false)
    }

    async fn take_one(&self, row: &PairRow) -> Result<bool, StoreError> {
        let KeeperParts { store, time, node, lease, .. } = &self.parts;
        let sent = time.moment();
        let Some(owner) = answer_within(*lease, store.take(row, *node, *lease)).await? else {
            return Ok(false);
        };
        let now = time.moment();
        let start = {
            let mut state = self.state.lock();
            state.taken(&row.pair, row.owner.is_some_and(|owner| owner != *node), now);
            state.own(&row.pair, owner, sent.plus(*lease), now)
        };
        if start {
            self.start(&row.pair, owner);
        }
        self.jobs_waiting.notify_one();
        Ok(true)
    }

    fn give(&self, pair: &Pair, now: Moment) -> bool {
        let given = {
            let mut state = self.state.lock();
            state.may_give(now) && state.give(pair, now)
        };
        if given {
            tracing::info!(group = %pair.group, shard = pair.shard.get(), "gives a pair up: others have fewer");
            self.jobs_waiting.notify_one();
        }
        given
    }

    /// Without an `await` after the state has changed, so that no stop comes before the start.
    fn start(&self, pair: &Pair, owner: Owner) {
        tracing::info!(group = %pair.group, shard = pair.shard.get(), epoch = owner.epoch, "owns a pair");
        counter!("tsp_pair_changes_total", "change" => "taken").increment(1);
        self.parts.host.start(pair, owner);
        self.show_running();
    }

    fn tell_lost(&self, pairs: &[Pair], why: &'static str) {
        for pair in pairs {
            tracing::warn!(group = %pair.group, shard = pair.shard.get(), "stops a pair: {why}");
            counter!("tsp_pair_changes_total", "change" => "lost").increment(1);
        }
        if !pairs.is_empty() {
            self.jobs_waiting.notify_one();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is floating point; there are few pairs")]
    fn show_running(&self) {
        gauge!("tsp_pairs_owned").set(self.running() as f64);
    }

    pub(super) fn next_job(&self) -> Option<Job> {
        self.state.lock().next_job()
    }

    pub(super) async fn work_off(&self) {
        let jobs: Vec<_> = std::iter::from_fn(|| self.next_job()).collect();
        join_all(jobs.into_iter().map(|job| self.carry_out(job))).await;
    }

    /// First the work ends, then others may have the pair.
    pub(super) async fn carry_out(&self, job: Job) {
        if job.stop {
            self.parts.host.stop(&job.pair).await;
        }
        let mut given_up = false;
        if job.give_up {
            let asked = self.parts.store.give_up(&job.pair, job.owner);
            match answer_within(self.parts.lease, asked).await {
                Ok(()) => {
                    counter!("tsp_pair_changes_total", "change" => "given_up").increment(1);
                    given_up = true;
                }
                Err(error) => tracing::warn!(%error, "could not give a pair up, will try again"),
            }
        }
        self.state.lock().done(&job, given_up, self.parts.time.moment());
        self.show_running();
    }
}

fn placed(pairs: &Pairs, me: NodeId) -> Vec<Placed> {
    let place = |row: &PairRow| match row.owner {
        Some(owner) if !row.over || owner == me => Place::Held(owner),
        from => Place::Free { from },
    };
    pairs.rows.iter().map(|row| Placed { pair: row.pair.clone(), place: place(row) }).collect()
}
