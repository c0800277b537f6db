//! Properties of the share-out, against any order of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LIMIT: u32 = 2_500;

fn idle(_: u64) -> Load {
    Load::default()
}

fn all(total: u32) -> Limits {
    Limits { total, allowed: total }
}

fn seated(count: u64, now: Instant) -> Shares {
    let mut shares = Shares::default();
    (0..count).for_each(|id| shares.join(id, LIMIT, now));
    shares
}

fn ready(shares: &Shares) -> Vec<u32> {
    shares.seats.values().map(|seat| seat.ready).collect()
}

#[test]
fn one_connection_gets_all_up_to_its_limit() {
    let now = Instant::now();
    let mut shares = seated(1, now);
    assert_eq!(shares.step(all(10), now, idle).changes, [(0, 10)]);
    assert!(shares.step(all(10), now, idle).changes.is_empty());
    assert_eq!(shares.step(all(9_000), now, idle).changes, [(0, LIMIT)]);
}

#[test]
fn shares_are_even_and_leave_nothing_over() {
    let now = Instant::now();
    let mut shares = seated(4, now);
    shares.step(all(10), now, idle);
    assert_eq!(ready(&shares), [3, 3, 2, 2]);
}

#[test]
fn a_newcomer_waits_until_the_others_have_given_up_its_share() {
    let now = Instant::now();
    let mut shares = seated(1, now);
    shares.step(all(10), now, idle);
    shares.join(1, LIMIT, now);
    let first = shares.step(all(10), now, idle);
    assert_eq!((first.changes, first.short, first.wake), (vec![(0, 5)], true, Some(now + GRACE)));
    let second = shares.step(all(10), now + GRACE, idle);
    assert_eq!((second.changes, second.short), (vec![(1, 5)], false));
}

#[test]
fn what_is_in_flight_on_one_is_not_given_to_another() {
    let now = Instant::now();
    let mut shares = seated(1, now);
    shares.step(all(10), now, idle);
    shares.join(1, LIMIT, now);
    shares.step(all(10), now, idle);
    let busy = |in_flight: u32| {
        move |id| Load { in_flight: if id == 0 { in_flight } else { 0 }, last_message: None }
    };
    let later = now + GRACE;
    let full = shares.step(all(10), later, busy(10));
    assert!(full.changes.is_empty() && full.short);
    assert_eq!(shares.step(all(10), later, busy(8)).changes, [(1, 2)]);
    assert_eq!(shares.step(all(10), later, busy(5)).changes, [(1, 5)]);
}

#[test]
fn a_trial_is_one_message_wherever_the_rest_is() {
    let now = Instant::now();
    let mut shares = seated(3, now);
    shares.step(all(9), now, idle);
    shares.step(Limits { total: 9, allowed: 0 }, now, idle);
    assert_eq!(ready(&shares), [0, 0, 0]);
    let busy = |_| Load { in_flight: 2, last_message: None };
    let trial = shares.step(Limits { total: 9, allowed: 1 }, now + GRACE, busy);
    assert_eq!(trial.changes, [(0, 1)]);
}

/// For how long each of `connections` was without `RDY`, at most.
fn longest_wait(connections: u64, total: u32, busy: bool) -> Duration {
    let start = Instant::now();
    let mut shares = seated(connections, start);
    let mut last_served: BTreeMap<u64, Instant> = (0..connections).map(|id| (id, start)).collect();
    let (mut now, mut longest) = (start, Duration::ZERO);
    while now < start + Duration::from_mins(10) {
        let served = shares.seats.iter().filter(|(_, seat)| seat.ready > 0);
        last_served.extend(served.map(|(id, _)| (*id, now)));
        let last_message = busy.then_some(now);
        let step = shares.step(all(total), now, |_| Load { in_flight: 0, last_message });
        assert!(shares.sum() <= total);
        longest = last_served.values().map(|last| now - *last).fold(longest, Duration::max);
        now = step.wake.expect("somebody's turn ends");
    }
    longest
}

#[test]
fn with_more_connections_than_messages_each_gets_its_turn() {
    assert!(longest_wait(5, 2, false) < Duration::from_secs(30));
    assert!(longest_wait(5, 2, true) < Duration::from_secs(65));
    assert!(longest_wait(7, 1, false) < Duration::from_secs(65));
    assert!(longest_wait(3, 2, false) < Duration::from_secs(15));
}

#[derive(Debug, Clone)]
enum Op {
    Join(u32),
    Leave(usize),
    Limits(u32, u32),
    Pass(u64),
    Load(usize, u32),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (1_u32..20).prop_map(Op::Join),
        any::<usize>().prop_map(Op::Leave),
        (0_u32..30, 0_u32..30).prop_map(|(total, part)| Op::Limits(total, part.min(total))),
        (0_u64..20_000).prop_map(Op::Pass),
        (any::<usize>(), 0_u32..15).prop_map(|(at, load)| Op::Load(at, load)),
    ]
}

proptest! {
    #[test]
    fn the_limits_hold_whatever_happens(ops in prop::collection::vec(any_op(), 1..80)) {
        let mut now = Instant::now();
        let (mut shares, mut limits, mut next) = (Shares::default(), all(10), 0_u64);
        let mut loads: BTreeMap<u64, u32> = BTreeMap::new();
        for op in ops {
            let pick = |at: usize, shares: &Shares| {
                let ids: Vec<u64> = shares.seats.keys().copied().collect();
                (!ids.is_empty()).then(|| ids[at % ids.len()])
            };
            match op {
                Op::Join(limit) => { shares.join(next, limit, now); next += 1; }
                Op::Leave(at) => if let Some(id) = pick(at, &shares) {
                    shares.retain(|seat| seat != id);
                    loads.remove(&id);
                },
                Op::Limits(total, allowed) => limits = Limits { total, allowed },
                Op::Pass(millis) => now += Duration::from_millis(millis),
                Op::Load(at, load) => if let Some(id) = pick(at, &shares) { loads.insert(id, load); },
            }
            let load = |id: u64| Load { in_flight: loads.get(&id).copied().unwrap_or(0), last_message: None };
            let step = shares.step(limits, now, load);
            prop_assert!(shares.sum() <= limits.allowed);
            prop_assert!(shares.seats.values().all(|seat| seat.ready <= seat.limit));
            let changed: BTreeSet<u64> = step.changes.iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(changed.len(), step.changes.len(), "one command per connection and step");
            for (id, value) in &step.changes {
                prop_assert_eq!(shares.seats[id].ready, *value);
            }
            prop_assert!(step.wake.is_none_or(|wake| wake > now));
        }
        // Once everything is quiet, all that may be used is, but for the moment in which turns change.
        let count = u32::try_from(shares.seats.len()).expect("few");
        let turns = limits.allowed < count;
        if turns || (count > 0 && shares.seats.values().all(|seat| seat.limit > limits.allowed / count)) {
            let all_is_used = (0..6).any(|_| {
                now += GRACE;
                shares.step(limits, now, idle);
                shares.sum() == limits.allowed
            });
            prop_assert!(all_is_used);
        }
    }
}
