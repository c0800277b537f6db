//! Which shard group should be whose, from what all fetchers see alike. Pure: no IO, no time.
//!
//! Free shard groups go to whoever has the fewest, so fetchers that plan at the same time want different
//! ones. When none is free, the fullest fetcher hands one over if another one that serves its group has two
//! fewer. Each such handover makes the spread more even, so they come to an end.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tsp_core::{Name, NodeId};
use tsp_store::cluster::ShardGroup;
use xxhash_rust::xxh3::xxh3_64;

use super::serves::ServingScope;

/// A live fetcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub node: NodeId,
    pub serves: ServingScope,
}

/// Where a shard group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub shard_group: ShardGroup,
    pub group_owner: GroupOwner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOwner {
    Held(NodeId),
    /// Nobody's. It had better not go to `from`, who let its lease run out.
    Free {
        from: Option<NodeId>,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Free shard groups that this node should take.
    pub mine: Vec<ShardGroup>,
    /// Free shard groups that this node serves and others should take. If they do not, anybody should.
    pub others: Vec<ShardGroup>,
    /// The shard group that this node should hand over.
    pub give_up: Option<ShardGroup>,
}

/// What `me` should do. `shard_groups` are those of all groups, also of those that `me` does not serve: every
/// fetcher that sees the same gets a plan that fits the others'.
pub fn plan(me: NodeId, servers: &[Server], shard_groups: &[Assignment]) -> Plan {
    let mut loads = Loads::of(servers, shard_groups);
    let mut plan = Plan::default();
    let mut settled = shard_groups.iter().all(|assignment| loads.knows(assignment));
    let mut free: Vec<_> = shard_groups
        .iter()
        .filter_map(|assignment| match assignment.group_owner {
            GroupOwner::Free { from } => Some((&assignment.shard_group, from)),
            GroupOwner::Held(_) => None,
        })
        .collect();
    free.sort_unstable();
    for (shard_group, from) in &free {
        let Some(taker) = loads.taker(shard_group, *from) else { continue };
        loads.add(taker);
        settled = false;
        if taker == me {
            plan.mine.push((*shard_group).clone());
        } else if loads.serving(&shard_group.group).any(|node| node == me) {
            plan.others.push((*shard_group).clone());
        }
    }
    if settled {
        plan.give_up = loads
            .next_move(shard_groups)
            .filter(|(from, _)| *from == me)
            .map(|(_, shard_group)| shard_group.clone());
    }
    plan
}

struct Loads<'a> {
    servers: &'a [Server],
    shard_groups: BTreeMap<NodeId, usize>,
}

impl<'a> Loads<'a> {
    fn of(servers: &'a [Server], shard_groups: &[Assignment]) -> Self {
        let mut loads =
            Self { servers, shard_groups: servers.iter().map(|server| (server.node, 0)).collect() };
        for assignment in shard_groups {
            if let GroupOwner::Held(node) = assignment.group_owner {
                loads.add(node);
            }
        }
        loads
    }

    fn add(&mut self, node: NodeId) {
        if let Some(load) = self.shard_groups.get_mut(&node) {
            *load += 1;
        }
    }

    /// A shard group of a fetcher that is not live is about to become free.
    fn knows(&self, assignment: &Assignment) -> bool {
        match assignment.group_owner {
            GroupOwner::Held(node) => self.shard_groups.contains_key(&node),
            GroupOwner::Free { .. } => true,
        }
    }

    fn load(&self, node: NodeId) -> usize {
        self.shard_groups.get(&node).copied().unwrap_or(0)
    }

    fn serving(&self, group: &Name) -> impl Iterator<Item = NodeId> {
        self.servers.iter().filter(|server| server.serves.includes(group)).map(|server| server.node)
    }

    fn taker(&self, shard_group: &ShardGroup, from: Option<NodeId>) -> Option<NodeId> {
        self.serving(&shard_group.group).min_by_key(|node| {
            (Some(*node) == from, self.load(*node), Reverse(weight(shard_group, *node)), *node)
        })
    }

    /// The handover that evens out the most: of whom, and which shard group.
    fn next_move<'p>(&self, shard_groups: &'p [Assignment]) -> Option<(NodeId, &'p ShardGroup)> {
        let (least, most) = (self.shard_groups.values().min()?, self.shard_groups.values().max()?);
        if most - least < 2 {
            return None;
        }
        let moves = shard_groups.iter().filter_map(|assignment| {
            let GroupOwner::Held(from) = assignment.group_owner else { return None };
            let to = self.taker(&assignment.shard_group, None)?;
            let gain = self.load(from).checked_sub(self.load(to)).filter(|gain| *gain >= 2)?;
            Some((gain, Reverse(from), weight(&assignment.shard_group, to), from, &assignment.shard_group))
        });
        moves.max().map(|(.., from, shard_group)| (from, shard_group))
    }
}

/// Rendezvous hashing: among equals a shard group tends to go to the same fetcher.
fn weight(shard_group: &ShardGroup, node: NodeId) -> u64 {
    xxh3_64(format!("{}/{}/{node}", shard_group.group, shard_group.shard.get()).as_bytes())
}
