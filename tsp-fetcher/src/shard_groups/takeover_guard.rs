//! When a shard group may be taken from somebody who does not renew it.

use std::collections::HashSet;

use tsp_core::{Millis, NodeId, Timestamp};
use tsp_store::cluster::{FailureDetector, Observation, ShardGroup, ShardGroupLease, ShardGroupLeases};

/// How long a shard group that another fetcher should take is left to it.
const PATIENCE: Millis = Millis::from_secs(2);

/// A shard group's lease is taken over only when it has expired by its database's clock and this node has
/// observed no change of it for a whole lease on its own monotonic clock: neither a step of the database's
/// clock nor an outage between this node and the database takes a shard group from a healthy fetcher.
#[derive(Debug)]
pub struct TakeoverGuard {
    lease: Millis,
    still: FailureDetector<ShardGroup, (Option<NodeId>, i64, Timestamp)>,
}

impl TakeoverGuard {
    pub fn of_lease(lease: Millis) -> Self {
        Self { lease, still: FailureDetector::of_lease(lease) }
    }

    /// Takes in what was read. Shards that were unavailable start from nothing when they are back.
    pub fn observe(&mut self, observation: Observation, shard_groups: &ShardGroupLeases) {
        let away: HashSet<_> = shard_groups.away.iter().map(|(shard, _)| *shard).collect();
        let shown = shard_groups.rows.iter().filter(|row| !away.contains(&row.shard_group.shard));
        self.still.observe(
            observation,
            shown.map(|row| (row.shard_group.clone(), (row.owner, row.epoch, row.lease_until))),
        );
    }

    /// The observation failed.
    pub fn reset(&mut self) {
        self.still.reset();
    }

    /// Whether the shard group may be taken now; `ours`: it falls to this node.
    pub fn may_take(&self, row: &ShardGroupLease, ours: bool) -> bool {
        let watched = if row.owner.is_some() { self.lease } else { Millis::ZERO };
        let patience = if ours { Millis::ZERO } else { PATIENCE };
        let needed = watched.saturating_add(patience);
        row.expired && self.still.unchanged_for(&row.shard_group).is_some_and(|still| still >= needed)
    }
}

#[cfg(test)]
mod tests {
    use tsp_core::{MonotonicInstant, Name, ShardId};

    use super::*;

    const LEASE: Millis = Millis::from_secs(5);

    fn row(owner: Option<i64>, lease_until: i64, expired: bool) -> ShardGroupLease {
        ShardGroupLease {
            shard_group: ShardGroup { group: Name::group("g").unwrap(), shard: ShardId::new(3).unwrap() },
            owner: owner.map(NodeId::new),
            epoch: 1,
            lease_until: Timestamp::from_ms(lease_until),
            expired,
            source: "ds0".to_owned(),
        }
    }

    struct Watcher {
        watch: TakeoverGuard,
        second: i64,
    }

    impl Watcher {
        fn new() -> Self {
            Self { watch: TakeoverGuard::of_lease(LEASE), second: 0 }
        }

        /// Sees the same row once a second; after how many seconds it may be taken.
        fn seconds_until(&mut self, row: &ShardGroupLease, ours: bool) -> i64 {
            let start = self.second;
            while self.second < start + 30 {
                self.see(&ShardGroupLeases { rows: vec![row.clone()], away: Vec::new() });
                if self.watch.may_take(row, ours) {
                    return self.second - start - 1;
                }
            }
            panic!("never");
        }

        fn see(&mut self, shard_groups: &ShardGroupLeases) {
            let at = MonotonicInstant::from_ms(self.second * 1_000);
            self.watch.observe(Observation { sent: at, received: at }, shard_groups);
            self.second += 1;
        }
    }

    #[test]
    fn a_free_shard_group_is_taken_at_once_by_whom_it_falls_to() {
        assert_eq!(Watcher::new().seconds_until(&row(None, 0, true), true), 0);
        assert_eq!(Watcher::new().seconds_until(&row(None, 0, true), false), 2, "left to another first");
    }

    #[test]
    fn a_lease_that_is_over_is_watched_for_a_lease() {
        assert_eq!(Watcher::new().seconds_until(&row(Some(7), 1, true), true), 5);
        assert_eq!(Watcher::new().seconds_until(&row(Some(7), 1, true), false), 7);
    }

    #[test]
    fn a_lease_that_runs_is_never_taken() {
        let mut watcher = Watcher::new();
        for _ in 0..20 {
            let running = row(Some(7), 1, false);
            watcher.see(&ShardGroupLeases { rows: vec![running.clone()], away: Vec::new() });
            assert!(!watcher.watch.may_take(&running, true));
        }
        assert_eq!(watcher.seconds_until(&row(Some(7), 1, true), true), 0, "it stood still all the time");
    }

    #[test]
    fn a_renewal_and_an_absence_start_it_again() {
        let mut watcher = Watcher::new();
        assert_eq!(watcher.seconds_until(&row(Some(7), 1, true), true), 5);
        assert_eq!(watcher.seconds_until(&row(Some(7), 2, true), true), 5, "renewed, though over");
        watcher.see(&ShardGroupLeases {
            rows: Vec::new(),
            away: vec![(ShardId::new(3).unwrap(), "away".to_owned())],
        });
        assert_eq!(watcher.seconds_until(&row(Some(7), 2, true), true), 5);
        watcher.watch.reset();
        assert_eq!(watcher.seconds_until(&row(Some(7), 2, true), true), 5);
    }
}
