//! From any start, with fetchers that come and go, repeated plans reach an even spread and rest there.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tsp_core::{Name, NodeId, ShardId};
use tsp_store::cluster::Pair;

use crate::pairs::Serves;
use crate::pairs::spread::{Place, Placed, Server, plan};

const GROUPS: [&str; 3] = ["log", "public", "trade"];
const SHARDS: u16 = 8;

fn group(number: usize) -> Name {
    Name::group(GROUPS[number % GROUPS.len()]).unwrap()
}

fn all_pairs() -> Vec<Pair> {
    let shards = (0..SHARDS).map(|shard| ShardId::new(shard).unwrap());
    shards.flat_map(|shard| (0..3).map(move |number| Pair { group: group(number), shard })).collect()
}

struct Sketch {
    places: BTreeMap<Pair, Place>,
    servers: Vec<Server>,
}

impl Sketch {
    fn new(owners: &[Option<i64>], servers: Vec<Server>) -> Self {
        let place =
            |owner: &Option<i64>| owner.map_or(Place::Free { from: None }, |id| Place::Held(NodeId::new(id)));
        let places = all_pairs().into_iter().zip(owners.iter().map(place).cycle()).collect();
        let mut sketch = Self { places, servers };
        sketch.free_what_is_nobodys();
        sketch
    }

    /// The leases of those who are gone run out, and nobody keeps what it does not serve.
    fn free_what_is_nobodys(&mut self) {
        for (pair, place) in &mut self.places {
            let Place::Held(owner) = *place else { continue };
            match self.servers.iter().find(|server| server.node == owner) {
                Some(server) if server.serves.includes(&pair.group) => {}
                Some(_) => *place = Place::Free { from: None },
                None => *place = Place::Free { from: Some(owner) },
            }
        }
    }

    fn seen(&self) -> Vec<Placed> {
        self.places.iter().map(|(pair, place)| Placed { pair: pair.clone(), place: *place }).collect()
    }

    /// All look at the same moment and then do what they planned. How much changed.
    fn round(&mut self, patience_over: bool) -> usize {
        let plans: Vec<_> = self
            .servers
            .iter()
            .map(|server| (server.node, plan(server.node, &self.servers, &self.seen())))
            .collect();
        let mut changes = 0;
        for (node, plan) in plans {
            let others = if patience_over { plan.others } else { Vec::new() };
            for pair in plan.mine.into_iter().chain(others) {
                if let Place::Free { .. } = self.places[&pair] {
                    self.places.insert(pair, Place::Held(node));
                    changes += 1;
                }
            }
            if let Some(pair) = plan.give_up {
                assert_eq!(self.places.insert(pair, Place::Free { from: None }), Some(Place::Held(node)));
                changes += 1;
            }
        }
        changes
    }

    fn rounds_to_rest(&mut self) -> usize {
        (1..500).find(|_| self.round(false) == 0).expect("comes to rest")
    }

    fn load(&self, node: NodeId) -> usize {
        self.places.values().filter(|place| **place == Place::Held(node)).count()
    }

    fn served(&self, pair: &Pair) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.serves.includes(&pair.group))
    }

    fn assert_even(&self) {
        for (pair, place) in &self.places {
            match *place {
                Place::Held(owner) => {
                    for other in self.served(pair) {
                        let (mine, theirs) = (self.load(owner), self.load(other.node));
                        assert!(mine <= theirs + 1, "{pair:?}: {mine} against {theirs}");
                    }
                }
                Place::Free { .. } => assert_eq!(self.served(pair).count(), 0, "{pair:?} is free"),
            }
        }
    }
}

fn servers_of_all(ids: &BTreeSet<i64>) -> Vec<Server> {
    ids.iter().map(|id| Server { node: NodeId::new(*id), serves: Serves::All }).collect()
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
            prop_assert_eq!(loads.iter().sum::<usize>(), sketch.places.len());
        }
    }

    #[test]
    fn nobody_who_serves_a_group_has_two_fewer(
        owners in some_owners(),
        serving in prop::collection::btree_map(1_i64..9, prop::collection::btree_set(0_usize..3, 1..4), 1..6),
    ) {
        let servers = serving.iter().map(|(id, groups)| Server {
            node: NodeId::new(*id),
            serves: Serves::Only(groups.iter().map(|number| group(*number)).collect()),
        });
        let mut sketch = Sketch::new(&owners, servers.collect());
        sketch.rounds_to_rest();
        sketch.assert_even();
        prop_assert_eq!(sketch.round(true), 0, "nothing moves any more");
    }

    /// Those who look at the same moment want different pairs, and all of them are wanted.
    #[test]
    fn those_who_start_together_do_not_fight(ids in prop::collection::btree_set(1_i64..99, 1..9)) {
        let sketch = Sketch::new(&[None], servers_of_all(&ids));
        let mut wanted = BTreeSet::new();
        for server in &sketch.servers {
            for pair in plan(server.node, &sketch.servers, &sketch.seen()).mine {
                prop_assert!(wanted.insert(pair.clone()), "{pair:?} is wanted twice");
            }
        }
        prop_assert_eq!(wanted.len(), sketch.places.len());
    }
}

#[test]
fn one_pair_moves_at_a_time() {
    let mut sketch = Sketch::new(&[Some(1)], servers_of_all(&BTreeSet::from([1, 2, 3])));
    let mut moves = 0;
    while sketch.round(false) > 0 {
        let free = sketch.places.values().filter(|place| matches!(place, Place::Free { .. })).count();
        assert!(free <= 1, "{free} pairs are free at once");
        moves += free;
    }
    assert_eq!(moves, 16, "no more than needed: 24 pairs become 8, 8 and 8");
}

#[test]
fn what_somebody_let_run_out_goes_to_another() {
    let servers = servers_of_all(&BTreeSet::from([1, 2]));
    let pairs: Vec<_> = all_pairs()
        .into_iter()
        .map(|pair| Placed { pair, place: Place::Free { from: Some(NodeId::new(1)) } })
        .collect();
    assert_eq!(plan(NodeId::new(1), &servers, &pairs).mine, []);
    assert_eq!(plan(NodeId::new(2), &servers, &pairs).mine.len(), pairs.len());
    assert_eq!(plan(NodeId::new(1), &servers[..1], &pairs).mine.len(), pairs.len(), "unless it is alone");
}

#[test]
fn nothing_is_given_up_while_anything_is_unsettled() {
    let servers = servers_of_all(&BTreeSet::from([1, 2]));
    let held = |node: i64| Place::Held(NodeId::new(node));
    let mut pairs: Vec<_> = all_pairs().into_iter().map(|pair| Placed { pair, place: held(1) }).collect();
    assert!(plan(NodeId::new(1), &servers, &pairs).give_up.is_some());
    assert!(plan(NodeId::new(2), &servers, &pairs).give_up.is_none());
    pairs[0].place = held(7);
    assert!(plan(NodeId::new(1), &servers, &pairs).give_up.is_none(), "7 is gone: its pair will be free");
    pairs[0].place = Place::Free { from: None };
    assert!(plan(NodeId::new(1), &servers, &pairs).give_up.is_none());
}
