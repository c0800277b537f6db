//! From any start, with fetchers that come and go, repeated plans reach an even spread and rest there.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tsp_core::{Name, NodeId, ShardId};
use tsp_store::cluster::ShardGroup;

use crate::shard_groups::ServingScope;
use crate::shard_groups::spread::{Assignment, GroupOwner, Server, plan};

const GROUPS: [&str; 3] = ["log", "public", "trade"];
const SHARDS: u16 = 8;

fn group(number: usize) -> Name {
    Name::group(GROUPS[number % GROUPS.len()]).unwrap()
}

fn all_shard_groups() -> Vec<ShardGroup> {
    let shards = (0..SHARDS).map(|shard| ShardId::new(shard).unwrap());
    shards.flat_map(|shard| (0..3).map(move |number| ShardGroup { group: group(number), shard })).collect()
}

struct Sketch {
    assigned: BTreeMap<ShardGroup, GroupOwner>,
    servers: Vec<Server>,
}

impl Sketch {
    fn new(owners: &[Option<i64>], servers: Vec<Server>) -> Self {
        let group_owner = |owner: &Option<i64>| {
            owner.map_or(GroupOwner::Free { from: None }, |id| GroupOwner::Held(NodeId::new(id)))
        };
        let assigned = all_shard_groups().into_iter().zip(owners.iter().map(group_owner).cycle()).collect();
        let mut sketch = Self { assigned, servers };
        sketch.free_what_is_nobodys();
        sketch
    }

    /// The leases of those who are gone run out, and nobody keeps what it does not serve.
    fn free_what_is_nobodys(&mut self) {
        for (shard_group, group_owner) in &mut self.assigned {
            let GroupOwner::Held(owner) = *group_owner else { continue };
            match self.servers.iter().find(|server| server.node == owner) {
                Some(server) if server.serves.includes(&shard_group.group) => {}
                Some(_) => *group_owner = GroupOwner::Free { from: None },
                None => *group_owner = GroupOwner::Free { from: Some(owner) },
            }
        }
    }

    fn seen(&self) -> Vec<Assignment> {
        self.assigned
            .iter()
            .map(|(shard_group, group_owner)| Assignment {
                shard_group: shard_group.clone(),
                group_owner: *group_owner,
            })
            .collect()
    }

    /// All plan at the same moment and then do what they planned. How much changed.
    fn round(&mut self, patience_over: bool) -> usize {
        let plans: Vec<_> = self
            .servers
            .iter()
            .map(|server| (server.node, plan(server.node, &self.servers, &self.seen())))
            .collect();
        let mut changes = 0;
        for (node, plan) in plans {
            let others = if patience_over { plan.others } else { Vec::new() };
            for shard_group in plan.mine.into_iter().chain(others) {
                if let GroupOwner::Free { .. } = self.assigned[&shard_group] {
                    self.assigned.insert(shard_group, GroupOwner::Held(node));
                    changes += 1;
                }
            }
            if let Some(shard_group) = plan.give_up {
                assert_eq!(
                    self.assigned.insert(shard_group, GroupOwner::Free { from: None }),
                    Some(GroupOwner::Held(node))
                );
                changes += 1;
            }
        }
        changes
    }

    fn rounds_to_rest(&mut self) -> usize {
        (1..500).find(|_| self.round(false) == 0).expect("comes to rest")
    }

    fn load(&self, node: NodeId) -> usize {
        self.assigned.values().filter(|group_owner| **group_owner == GroupOwner::Held(node)).count()
    }

    fn served(&self, shard_group: &ShardGroup) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.serves.includes(&shard_group.group))
    }

    fn assert_even(&self) {
        for (shard_group, group_owner) in &self.assigned {
            match *group_owner {
                GroupOwner::Held(owner) => {
                    for other in self.served(shard_group) {
                        let (mine, theirs) = (self.load(owner), self.load(other.node));
                        assert!(mine <= theirs + 1, "{shard_group:?}: {mine} against {theirs}");
                    }
                }
                GroupOwner::Free { .. } => {
                    assert_eq!(self.served(shard_group).count(), 0, "{shard_group:?} is free");
                }
            }
        }
    }
}

fn servers_of_all(ids: &BTreeSet<i64>) -> Vec<Server> {
    ids.iter().map(|id| Server { node: NodeId::new(*id), serves: ServingScope::All }).collect()
}

fn some_owners() -> impl Strategy<Value = Vec<Option<i64>>> {
    prop::collection::vec(prop::option::of(1_i64..9), 24)
}

proptest! {
    #[test]
    fn fetchers_of_all_groups_differ_by_at_most_one(
        owners in some_owners(),
        comings in prop::collection::vec(prop::collection::btree_set(1_i64..9, 1..7), 1..5),
    ) {
        let mut sketch = Sketch::new(&owners, servers_of_all(&comings[0]));
        for ids in &comings {
            sketch.servers = servers_of_all(ids);
            sketch.free_what_is_nobodys();
            sketch.rounds_to_rest();
            let loads: Vec<_> = ids.iter().map(|id| sketch.load(NodeId::new(*id))).collect();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{loads:?}");
            prop_assert_eq!(loads.iter().sum::<usize>(), sketch.assigned.len());
        }
    }

    #[test]
    fn nobody_who_serves_a_group_has_two_fewer(
        owners in some_owners(),
        serving in prop::collection::btree_map(1_i64..9, prop::collection::btree_set(0_usize..3, 1..4), 1..6),
    ) {
        let servers = serving.iter().map(|(id, groups)| Server {
            node: NodeId::new(*id),
            serves: ServingScope::Only(groups.iter().map(|number| group(*number)).collect()),
        });
        let mut sketch = Sketch::new(&owners, servers.collect());
        sketch.rounds_to_rest();
        sketch.assert_even();
        prop_assert_eq!(sketch.round(true), 0, "nothing moves any more");
    }

    /// Those who plan at the same moment want different shard groups, and all of them are wanted.
    #[test]
    fn those_who_start_together_do_not_fight(ids in prop::collection::btree_set(1_i64..99, 1..9)) {
        let sketch = Sketch::new(&[None], servers_of_all(&ids));
        let mut wanted = BTreeSet::new();
        for server in &sketch.servers {
            for shard_group in plan(server.node, &sketch.servers, &sketch.seen()).mine {
                prop_assert!(wanted.insert(shard_group.clone()), "{shard_group:?} is wanted twice");
            }
        }
        prop_assert_eq!(wanted.len(), sketch.assigned.len());
    }
}

#[test]
fn one_shard_group_moves_at_a_time() {
    let mut sketch = Sketch::new(&[Some(1)], servers_of_all(&BTreeSet::from([1, 2, 3])));
    let mut moves = 0;
    while sketch.round(false) > 0 {
        let free = sketch
            .assigned
            .values()
            .filter(|group_owner| matches!(group_owner, GroupOwner::Free { .. }))
            .count();
        assert!(free <= 1, "{free} shard groups are free at once");
        moves += free;
    }
    assert_eq!(moves, 16, "no more than needed: 24 shard groups become 8, 8 and 8");
}

#[test]
fn what_somebody_let_run_out_goes_to_another() {
    let servers = servers_of_all(&BTreeSet::from([1, 2]));
    let shard_groups: Vec<_> = all_shard_groups()
        .into_iter()
        .map(|shard_group| Assignment {
            shard_group,
            group_owner: GroupOwner::Free { from: Some(NodeId::new(1)) },
        })
        .collect();
    assert_eq!(plan(NodeId::new(1), &servers, &shard_groups).mine, []);
    assert_eq!(plan(NodeId::new(2), &servers, &shard_groups).mine.len(), shard_groups.len());
    assert_eq!(
        plan(NodeId::new(1), &servers[..1], &shard_groups).mine.len(),
        shard_groups.len(),
        "unless it is alone"
    );
}

#[test]
fn nothing_is_given_up_while_anything_is_unsettled() {
    let servers = servers_of_all(&BTreeSet::from([1, 2]));
    let held = |node: i64| GroupOwner::Held(NodeId::new(node));
    let mut shard_groups: Vec<_> = all_shard_groups()
        .into_iter()
        .map(|shard_group| Assignment { shard_group, group_owner: held(1) })
        .collect();
    assert!(plan(NodeId::new(1), &servers, &shard_groups).give_up.is_some());
    assert!(plan(NodeId::new(2), &servers, &shard_groups).give_up.is_none());
    shard_groups[0].group_owner = held(7);
    assert!(
        plan(NodeId::new(1), &servers, &shard_groups).give_up.is_none(),
        "7 is gone: its shard group will be free"
    );
    shard_groups[0].group_owner = GroupOwner::Free { from: None };
    assert!(plan(NodeId::new(1), &servers, &shard_groups).give_up.is_none());
}
