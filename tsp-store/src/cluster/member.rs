//! A process as a node among the nodes of a cluster.

use std::fmt;
use std::sync::Arc;

use futures::join;
use thiserror::Error;
use tokio::sync::Notify;
use tsp_core::{ClusterClock, Millis, MonotonicInstant, NodeId};

use super::leases::{Heartbeat, LeaseStore, NewNode, answer_within};
use super::node_lease::NodeLease;
use super::peer_watch::PeerWatch;
use super::peers::Peers;
use super::renewing::{LeaseLoss, LeaseRenewal, LeaseStatus};
use crate::error::{Result, StoreError};

/// What the node has to say with its next renewal.
pub type HeartbeatSource = Arc<dyn Fn() -> Heartbeat + Send + Sync>;

/// Renewals in one lease.
const RENEWALS_PER_LEASE: i64 = 5;

#[derive(Debug, Clone, Copy)]
pub struct MemberOptions {
    /// The length of a node's lease.
    pub lease: Millis,
    /// A larger sudden change of the service's time makes the node release its leases.
    pub max_skew: Millis,
    /// It makes ids: web and fetcher.
    pub id_slot: bool,
    /// It watches the other nodes: the fetcher, and whoever else likes to.
    pub watches: bool,
}

#[derive(Debug, Error)]
pub enum JoinError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("all id slots are taken: too many processes with the roles `web` and `fetcher`")]
    NoIdSlot,
}

/// What one step found.
#[derive(Debug, Clone)]
pub struct MemberReport {
    pub lease_status: LeaseStatus,
    /// The last config change that was made, as of the last good renewal.
    pub config_seq: Option<i64>,
    /// Nodes that are newly dead: whoever rescues reads the rows again at once.
    pub died: Vec<NodeId>,
    /// By how much the service's time suddenly is ahead of what this process goes by; zero as a rule.
    pub clock_change: Millis,
}

impl MemberReport {
    pub const fn lost(&self) -> Option<LeaseLoss> {
        match self.lease_status {
            LeaseStatus::Lost(why) => Some(why),
            LeaseStatus::Renewed | LeaseStatus::Unanswered(_) => None,
        }
    }
}

/// One incarnation of a process. When it is lost, the process joins again, with the same clock.
pub struct Member {
    store: Arc<dyn LeaseStore>,
    clock: Arc<ClusterClock>,
    node: NodeId,
    id_slot: Option<u8>,
    options: MemberOptions,
    renewing: LeaseRenewal,
    watching: Option<PeerWatch>,
    wake: Arc<Notify>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("node", &self.node)
            .field("id_slot", &self.id_slot)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Makes a node, measures the meta database's clock, and takes an id slot if one is needed. What it has
    /// made when it fails is released, or left to be marked dead.
    pub async fn join(
        store: Arc<dyn LeaseStore>,
        clock: Arc<ClusterClock>,
        new: NewNode,
        heartbeat: HeartbeatSource,
        options: MemberOptions,
    ) -> Result<Self, JoinError> {
        let node = answer_within(options.lease, store.join(new, options.lease)).await?;
        let begun = Self::begin(store.clone(), clock, node, heartbeat, options).await;
        if begun.is_err()
            && let Err(error) = answer_within(options.lease, store.leave(node)).await
        {
            tracing::debug!(%error, %node, "could not leave after a failed join");
        }
        begun
    }

    async fn begin(
        store: Arc<dyn LeaseStore>,
        clock: Arc<ClusterClock>,
        node: NodeId,
        heartbeat: HeartbeatSource,
        options: MemberOptions,
    ) -> Result<Self, JoinError> {
        let times = (options.lease, options.max_skew);
        let renewing = LeaseRenewal::begin(store.clone(), clock.clone(), heartbeat, node, times).await?;
        let id_slot = if options.id_slot {
            let taken = answer_within(options.lease, store.take_id_slot(node)).await?;
            Some(taken.ok_or(JoinError::NoIdSlot)?)
        } else {
            None
        };
        let watching =
            options.watches.then(|| PeerWatch::new(store.clone(), clock.clone(), node, options.lease));
        Ok(Self { store, clock, node, id_slot, options, renewing, watching, wake: Arc::new(Notify::new()) })
    }

    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// For [`crate::IdSource::lease`]; renewed by its holder as long as this member is not lost.
    pub const fn id_slot(&self) -> Option<u8> {
        self.id_slot
    }

    /// What the roles of this process look at before they begin anything.
    pub const fn lease(&self) -> &Arc<NodeLease> {
        self.renewing.lease()
    }

    /// The nodes as last seen; `None` when this member does not watch.
    pub fn peers(&self) -> Option<Peers> {
        self.watching.as_ref().map(|watching| watching.peers().clone())
    }

    /// Wakes [`Member::run`] before its period is over, to say something new at once: a config barrier
    /// waits for what the node has applied.
    pub const fn wake(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// Renews, and observes the others. `now` is read from the clock of [`Member::join`] just before. Takes
    /// at most two fifths of a lease.
    pub async fn step(&mut self, now: MonotonicInstant) -> MemberReport {
        let lease = self.options.lease;
        let ((lease_status, clock_change), ()) =
            join!(self.renewing.step(now), watch(self.watching.as_mut(), lease, now));
        if clock_change.ms().abs() > self.options.max_skew.ms() {
            tracing::error!(
                change_ms = clock_change.ms(),
                "the service's time changed suddenly; this node gives its leases back"
            );
        }
        MemberReport {
            lease_status,
            config_seq: self.renewing.config_seq(),
            died: self.watching.as_mut().map(PeerWatch::take_died).unwrap_or_default(),
            clock_change,
        }
    }

    /// Steps five times in a lease, and when woken, until `stop` or until the node is lost. Does not leave:
    /// the roles may still be ending their work under the lease when `stop` comes to them.
    pub async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        mut tell: impl FnMut(MemberReport),
    ) -> Option<LeaseLoss> {
        let period = Millis::from_ms(self.options.lease.ms() / RENEWALS_PER_LEASE);
        tokio::pin!(stop);
        loop {
            let began = self.clock.instant();
            let report = self.step(began).await;
            let lost = report.lost();
            tell(report);
            if lost.is_some() {
                return lost;
            }
            let left = period.saturating_sub(self.clock.instant().since(began));
            tokio::select! {
                () = &mut stop => return None,
                () = tokio::time::sleep(left.to_std()) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// The node is dead from now on, and its id slot free. Nothing may be begun under it any more.
    pub async fn leave(mut self) -> Result<()> {
        self.renewing.end(LeaseLoss::Left);
        answer_within(self.options.lease, self.store.leave(self.node)).await
    }
}

async fn watch(watching: Option<&mut PeerWatch>, lease: Millis, now: MonotonicInstant) {
    let Some(watching) = watching else { return };
    if let Err(error) = answer_within(lease, watching.step(now)).await {
        tracing::debug!(%error, "could not read the other nodes, starts observing from nothing");
        watching.reset();
    }
}
