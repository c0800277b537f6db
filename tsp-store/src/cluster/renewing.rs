//! One half of a member: its own lease.

use std::sync::Arc;

use tsp_core::clock::Measurement;
use tsp_core::{ClusterClock, Millis, MonotonicInstant, NodeId};

use super::leases::{LeaseStore, Renewal, answer_within};
use super::member::HeartbeatSource;
use super::node_lease::NodeLease;
use crate::error::{Cause, Result, StoreError};

/// Attempts at a trustworthy first measurement of the database's clock.
const FIRST_MEASUREMENTS: usize = 3;

/// How a node stands after a renewal.
#[derive(Debug, Clone)]
pub enum LeaseStatus {
    Renewed,
    /// The lease runs as long as it was last renewed for. Once it has expired nothing is begun under it, and
    /// a renewal that is answered yet is good: nobody can have marked this node dead, or it would say so.
    Unanswered(StoreError),
    /// For ever: the process stops its roles and starts again under a new node id. What its workers still
    /// finish goes under the old one.
    Lost(LeaseLoss),
}

/// Why a node is none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseLoss {
    /// Somebody declared it dead.
    MarkedDead,
    /// It has left.
    Left,
    /// The service's time suddenly is ahead of what this process went by (negative: behind). Everything is
    /// to be released: [`super::Member::leave`].
    ClockChanged(Millis),
}

pub(super) struct LeaseRenewal {
    store: Arc<dyn LeaseStore>,
    clock: Arc<ClusterClock>,
    heartbeat: HeartbeatSource,
    node: NodeId,
    length: Millis,
    max_skew: Millis,
    lease: Arc<NodeLease>,
    lost: Option<LeaseLoss>,
    config_seq: Option<i64>,
}

impl LeaseRenewal {
    /// Renews a new node's lease and begins the clock again by the answer.
    pub(super) async fn begin(
        store: Arc<dyn LeaseStore>,
        clock: Arc<ClusterClock>,
        heartbeat: HeartbeatSource,
        node: NodeId,
        (length, max_skew): (Millis, Millis),
    ) -> Result<Self> {
        let mut best: Option<Measurement> = None;
        let mut last_sent = clock.instant();
        for _ in 0..FIRST_MEASUREMENTS {
            last_sent = clock.instant();
            let remote = match answer_within(length, store.renew(node, length, heartbeat())).await? {
                Renewal::Alive { clock, .. } => clock,
                Renewal::Dead => {
                    return Err(Cause::LeaseOver.because(format!("node {node} is dead already")));
                }
            };
            let seen = Measurement { remote, sent: last_sent, received: clock.instant() };
            if best.is_none_or(|best| seen.round_trip() < best.round_trip()) {
                best = Some(seen);
            }
            if seen.round_trip() <= tsp_core::clock::ROUND_TRIP_TRUSTED {
                break;
            }
        }
        if let Some(seen) = best {
            clock.restart(seen);
        }
        let lease = Arc::new(NodeLease::until(clock.at(last_sent).plus(length)));
        Ok(Self { store, clock, heartbeat, node, length, max_skew, lease, lost: None, config_seq: None })
    }

    pub(super) const fn lease(&self) -> &Arc<NodeLease> {
        &self.lease
    }

    /// The last config change that was made, as of the last good renewal.
    pub(super) const fn config_seq(&self) -> Option<i64> {
        self.config_seq
    }

    pub(super) fn end(&mut self, why: LeaseLoss) -> LeaseStatus {
        self.lease.end();
        self.lost = Some(why);
        LeaseStatus::Lost(why)
    }

    /// One renewal, sent after `now`. Also by how much the service's time suddenly differs.
    pub(super) async fn step(&mut self, now: MonotonicInstant) -> (LeaseStatus, Millis) {
        if let Some(why) = self.lost {
            return (LeaseStatus::Lost(why), Millis::ZERO);
        }
        let asked = self.store.renew(self.node, self.length, (self.heartbeat)());
        match answer_within(self.length, asked).await {
            Ok(Renewal::Alive { clock: remote, config_seq }) => {
                let seen = Measurement { remote, sent: now, received: self.clock.instant() };
                let change = self.clock.measure(seen);
                self.config_seq = Some(config_seq);
                (self.renewed(now, change), change)
            }
            Ok(Renewal::Dead) => (self.end(LeaseLoss::MarkedDead), Millis::ZERO),
            Err(error) => (LeaseStatus::Unanswered(error), Millis::ZERO),
        }
    }

    /// A late answer is as good as an early one: nobody has declared this node dead.
    fn renewed(&mut self, sent: MonotonicInstant, change: Millis) -> LeaseStatus {
        if change.ms().abs() > self.max_skew.ms() {
            return self.end(LeaseLoss::ClockChanged(change));
        }
        self.lease.extend(self.clock.at(sent).plus(self.length));
        LeaseStatus::Renewed
    }
}
