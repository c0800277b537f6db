//! The leases of a cluster in memory: a meta database and some shard databases, each with its own clock
//! and its own faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use parking_lot::Mutex;
use tsp_core::{Millis, Name, NodeId, ShardId, Timestamp};
use tsp_store::cluster::{
    Heartbeat, LeaseStore, NewNode, NodeRow, Renewal, RenewedLeases, ShardGroup, ShardGroupLease,
    ShardGroupLeases,
};
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::Owner;

use super::{Fault, unavailable};

/// The name of the meta database.
pub const META: &str = "meta";
const ID_SLOTS: u8 = 64;
const DEAD_SHOWN: Millis = Millis::from_hours(1);

/// What a database's clock says, by its name: [`META`], `ds0`, `ds1`, … It may do what it likes.
pub type DatabaseClock = Box<dyn Fn(&str) -> Timestamp + Send + Sync>;

/// Asked once for each call and database.
pub type LeaseFaultHook = Box<dyn FnMut(&'static str, &str) -> Fault + Send>;

pub struct MemoryLeases {
    shards: u16,
    sources: u16,
    clock: DatabaseClock,
    state: Mutex<State>,
    faults: Mutex<Option<LeaseFaultHook>>,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, Node>,
    config_seq: i64,
    shard_groups: BTreeMap<ShardGroup, Lease>,
    epochs: BTreeMap<ShardId, i64>,
}

struct Node {
    new: NewNode,
    started_at: Timestamp,
    renewals: i64,
    lease_until: Timestamp,
    dead_at: Option<Timestamp>,
    id_slot: Option<u8>,
    heartbeat: Heartbeat,
}

#[derive(Clone, Copy, Default)]
struct Lease {
    owner: Option<NodeId>,
    epoch: i64,
    until: Timestamp,
}

impl Lease {
    fn is_of(&self, owner: Owner) -> bool {
        self.owner == Some(owner.node) && self.epoch == owner.epoch
    }
}

impl fmt::Debug for MemoryLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLeases").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl MemoryLeases {
    /// `shards` spread over `sources` databases; both at least 1.
    pub fn new(shards: u16, sources: u16, clock: DatabaseClock) -> Self {
        let state = Mutex::new(State::default());
        Self { shards: shards.max(1), sources: sources.max(1), clock, state, faults: Mutex::new(None) }
    }

    /// From now on `hook` decides about the fault of each call.
    pub fn set_faults(&self, hook: LeaseFaultHook) {
        *self.faults.lock() = Some(hook);
    }

    pub fn clear_faults(&self) {
        *self.faults.lock() = None;
    }

    /// The number of the last config change that was made.
    pub fn set_config_seq(&self, seq: i64) {
        self.state.lock().config_seq = seq;
    }

    /// The name of the database that holds a shard.
    pub fn source_of(&self, shard: ShardId) -> String {
        format!("ds{}", shard.get() % self.sources)
    }

    /// What each claim asks first: whether this owner may write to the shard group now. Never faulty.
    pub fn lease_check(&self, shard_group: &ShardGroup, owner: Owner) -> bool {
        let now = (self.clock)(&self.source_of(shard_group.shard));
        self.state
            .lock()
            .shard_groups
            .get(shard_group)
            .is_some_and(|lease| lease.is_of(owner) && lease.until >= now)
    }

    fn fault(&self, call: &'static str, source: &str) -> Fault {
        self.faults.lock().as_mut().map_or(Fault::None, |hook| hook(call, source))
    }

    /// A transaction on one database.
    fn on<T>(
        &self,
        source: &str,
        call: &'static str,
        work: impl FnOnce(&mut State, Timestamp) -> Result<T>,
    ) -> Result<T> {
        let fault = self.fault(call, source);
        if fault == Fault::Before {
            return Err(unavailable(call));
        }
        let answer = work(&mut self.state.lock(), (self.clock)(source))?;
        if fault == Fault::After {
            return Err(StoreError::Unknown(format!("the answer of `{call}` was lost by a fault")));
        }
        Ok(answer)
    }

    fn shards_of(&self, source: u16) -> impl Iterator<Item = ShardId> {
        (source..self.shards).step_by(self.sources.into()).filter_map(ShardId::new)
    }
}

impl State {
    fn shard_groups_of(
        &mut self,
        groups: &[Name],
        shards: impl Iterator<Item = ShardId>,
        now: Timestamp,
    ) -> Vec<ShardGroupLease> {
        let wanted: BTreeSet<ShardGroup> = shards
            .flat_map(|shard| groups.iter().map(move |group| ShardGroup { group: group.clone(), shard }))
            .collect();
        let row = |shard_group: ShardGroup| {
            let lease = *self.shard_groups.entry(shard_group.clone()).or_default();
            let (owner, epoch, lease_until) = (lease.owner, lease.epoch, lease.until);
            ShardGroupLease {
                shard_group,
                owner,
                epoch,
                lease_until,
                expired: lease_until < now,
                source: String::new(),
            }
        };
        wanted.into_iter().map(row).collect()
    }

    fn renew_all(
        &mut self,
        node: NodeId,
        until: Timestamp,
        among: &BTreeSet<ShardId>,
    ) -> Vec<(ShardGroup, Owner)> {
        let ours = self
            .shard_groups
            .iter_mut()
            .filter(|(shard_group, lease)| lease.owner == Some(node) && among.contains(&shard_group.shard));
        ours.map(|(shard_group, lease)| {
            lease.until = until;
            (shard_group.clone(), Owner { node, epoch: lease.epoch })
        })
        .collect()
    }
}

#[async_trait]
impl LeaseStore for MemoryLeases {
    async fn join(&self, node: NewNode, lease: Millis) -> Result<NodeId> {
        self.on(META, "join", |state, now| {
            let last = state.nodes.keys().next_back().map_or(0, |id| id.get());
            let id = NodeId::new(last + 1);
            let joined = Node {
                new: node,
                started_at: now,
                renewals: 0,
                lease_until: now.plus(lease),
                dead_at: None,
                id_slot: None,
                heartbeat: Heartbeat::default(),
            };
            state.nodes.insert(id, joined);
            Ok(id)
        })
    }

    async fn renew(&self, node: NodeId, lease: Millis, heartbeat: Heartbeat) -> Result<Renewal> {
        self.on(META, "renew", |state, now| {
            let Some(row) = state.nodes.get_mut(&node).filter(|row| row.dead_at.is_none()) else {
                return Ok(Renewal::Dead);
            };
            row.renewals += 1;
            row.lease_until = now.plus(lease);
            row.heartbeat = heartbeat;
            Ok(Renewal::Alive { clock: now, config_seq: state.config_seq })
        })
    }

    async fn leave(&self, node: NodeId) -> Result<()> {
        self.on(META, "leave", |state, now| {
            if let Some(row) = state.nodes.get_mut(&node) {
                row.dead_at.get_or_insert(now);
                row.id_slot = None;
            }
            Ok(())
        })
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>> {
        self.on(META, "nodes", |state, now| {
            let shown =
                state.nodes.iter().filter(|(_, row)| row.dead_at.is_none_or(|at| now.since(at) < DEAD_SHOWN));
            let row = |(id, row): (&NodeId, &Node)| NodeRow {
                id: *id,
                node: row.new.clone(),
                started_at: row.started_at,
                renewals: row.renewals,
                lease_until: row.lease_until,
                expired: row.lease_until < now,
                dead_at: row.dead_at,
                heartbeat: row.heartbeat.clone(),
            };
            Ok(shown.map(row).collect())
        })
    }

    async fn mark_dead(&self, node: NodeId, renewals: i64) -> Result<bool> {
        self.on(META, "bury", |state, now| {
            let Some(row) = state.nodes.get_mut(&node) else { return Ok(true) };
            if row.dead_at.is_none() && row.renewals == renewals && row.lease_until < now {
                row.dead_at = Some(now);
                row.id_slot = None;
            }
            Ok(row.dead_at.is_some())
        })
    }

    async fn take_id_slot(&self, node: NodeId) -> Result<Option<u8>> {
        self.on(META, "take_id_slot", |state, _| {
            let taken: BTreeSet<u8> = state
                .nodes
                .iter()
                .filter(|(id, _)| **id != node)
                .filter_map(|(_, row)| row.id_slot)
                .collect();
            let Some(row) = state.nodes.get_mut(&node).filter(|row| row.dead_at.is_none()) else {
                return Ok(None);
            };
            row.id_slot = row.id_slot.or_else(|| (0..ID_SLOTS).find(|slot| !taken.contains(slot)));
            Ok(row.id_slot)
        })
    }

    async fn shard_groups(&self, groups: &[Name]) -> Result<ShardGroupLeases> {
        let mut all = ShardGroupLeases::default();
        for source in 0..self.sources {
            let name = format!("ds{source}");
            match self.on(&name, "pairs", |state, now| {
                Ok(state.shard_groups_of(groups, self.shards_of(source), now))
            }) {
                Ok(rows) => {
                    all.rows
                        .extend(rows.into_iter().map(|row| ShardGroupLease { source: name.clone(), ..row }));
                }
                Err(error) => {
                    all.away.extend(self.shards_of(source).map(|shard| (shard, error.to_string())));
                }
            }
        }
        Ok(all)
    }

    async fn take(&self, seen: &ShardGroupLease, node: NodeId, lease: Millis) -> Result<Option<Owner>> {
        self.on(&self.source_of(seen.shard_group.shard), "take", |state, now| {
            let Some(row) = state.shard_groups.get_mut(&seen.shard_group) else { return Ok(None) };
            if row.owner != seen.owner || row.epoch != seen.epoch || row.until >= now {
                return Ok(None);
            }
            let epoch = state.epochs.entry(seen.shard_group.shard).or_default();
            *epoch += 1;
            *row = Lease { owner: Some(node), epoch: *epoch, until: now.plus(lease) };
            Ok(Some(Owner { node, epoch: *epoch }))
        })
    }

    async fn renew_leases(&self, node: NodeId, lease: Millis) -> Result<RenewedLeases> {
        let mut renewed = RenewedLeases::default();
        for source in 0..self.sources {
            let among: BTreeSet<ShardId> = self.shards_of(source).collect();
            let asked = self.on(&format!("ds{source}"), "renew_pairs", |state, now| {
                Ok(state.renew_all(node, now.plus(lease), &among))
            });
            match asked {
                Ok(held) => renewed.held.extend(held),
                Err(_) => renewed.failed.extend(among),
            }
        }
        Ok(renewed)
    }

    async fn give_up(&self, shard_group: &ShardGroup, owner: Owner) -> Result<()> {
        self.on(&self.source_of(shard_group.shard), "give_up", |state, _| {
            if let Some(row) = state.shard_groups.get_mut(shard_group).filter(|row| row.is_of(owner)) {
                *row = Lease { owner: None, epoch: owner.epoch, until: Timestamp::ZERO };
            }
            Ok(())
        })
    }
}
