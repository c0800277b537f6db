//! Which pair should be whose, from what all fetchers see alike. Pure: no IO, no time.
//!
//! Free pairs go to whoever has the fewest, so fetchers that look at the same time want different ones. When
//! none is free, the fullest fetcher gives one up if another one that serves its group has two fewer. Each
//! such move makes the spread more even, so they come to an end.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tsp_core::{Name, NodeId};
use tsp_store::cluster::Pair;
use xxhash_rust::xxh3::xxh3_64;

use super::serves::Serves;

/// A live fetcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub node: NodeId,
    pub serves: Serves,
}

/// Where a pair is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub pair: Pair,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Held(NodeId),
    /// Nobody's. It had better not go to `from`, who let its lease run out.
    Free {
        from: Option<NodeId>,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Free pairs that this node should take.
    pub mine: Vec<Pair>,
    /// Free pairs that this node serves and others should take. If they do not, anybody should.
    pub others: Vec<Pair>,
    /// The pair that this node should give up.
    pub give_up: Option<Pair>,
}

/// What `me` should do. `pairs` are those of all groups, also of those that `me` does not serve: every
/// fetcher that sees the same gets a plan that fits the others'.
pub fn plan(me: NodeId, servers: &[Server], pairs: &[Placed]) -> Plan {
    let mut loads = Loads::of(servers, pairs);
    let mut plan = Plan::default();
    let mut settled = pairs.iter().all(|placed| loads.knows(placed));
    let mut free: Vec<_> = pairs
        .iter()
        .filter_map(|placed| match placed.place {
            Place::Free { from } => Some((&placed.pair, from)),
            Place::Held(_) => None,
        })
        .collect();
    free.sort_unstable();
    for (pair, from) in &free {
        let Some(taker) = loads.taker(pair, *from) else { continue };
        loads.add(taker);
        settled = false;
        if taker == me {
            plan.mine.push((*pair).clone());
        } else if loads.serving(&pair.group).any(|node| node == me) {
            plan.others.push((*pair).clone());
        }
    }
    if settled {
        plan.give_up = loads.next_move(pairs).filter(|(from, _)| *from == me).map(|(_, pair)| pair.clone());
    }
    plan
}

struct Loads<'a> {
    servers: &'a [Server],
    pairs: BTreeMap<NodeId, usize>,
}

impl<'a> Loads<'a> {
    fn of(servers: &'a [Server], pairs: &[Placed]) -> Self {
        let mut loads = Self { servers, pairs: servers.iter().map(|server| (server.node, 0)).collect() };
        for placed in pairs {
            if let Place::Held(node) = placed.place {
                loads.add(node);
            }
        }
        loads
    }

    fn add(&mut self, node: NodeId) {
        if let Some(load) = self.pairs.get_mut(&node) {
            *load += 1;
        }
    }

    /// A pair of a fetcher that is not live is about to become free.
    fn knows(&self, placed: &Placed) -> bool {
        match placed.place {
            Place::Held(node) => self.pairs.contains_key(&node),
            Place::Free { .. } => true,
        }
    }

    fn load(&self, node: NodeId) -> usize {
        self.pairs.get(&node).copied().unwrap_or(0)
    }

    fn serving(&self, group: &Name) -> impl Iterator<Item = NodeId> {
        self.servers.iter().filter(|server| server.serves.includes(group)).map(|server| server.node)
    }

    fn taker(&self, pair: &Pair, from: Option<NodeId>) -> Option<NodeId> {
        self.serving(&pair.group)
            .min_by_key(|node| (Some(*node) == from, self.load(*node), Reverse(weight(pair, *node)), *node))
    }

    /// The move that evens out the most: who gives up which pair.
    fn next_move<'p>(&self, pairs: &'p [Placed]) -> Option<(NodeId, &'p Pair)> {
        let (least, most) = (self.pairs.values().min()?, self.pairs.values().max()?);
        if most - least < 2 {
            return None;
        }
        let moves = pairs.iter().filter_map(|placed| {
            let Place::Held(from) = placed.place else { return None };
            let to = self.taker(&placed.pair, None)?;
            let gain = self.load(from).checked_sub(self.load(to)).filter(|gain| *gain >= 2)?;
            Some((gain, Reverse(from), weight(&placed.pair, to), from, &placed.pair))
        });
        moves.max().map(|(.., from, pair)| (from, pair))
    }
}

/// Rendezvous hashing: among equals a pair tends to go to the same fetcher.
fn weight(pair: &Pair, node: NodeId) -> u64 {
    xxh3_64(format!("{}/{}/{node}", pair.group, pair.shard.get()).as_bytes())
}
