//! What a cluster is like, and what happens to it. A seed draws its own.

use crate::plan::{ANSWERS, Sizes, drawn};
use crate::rng::SeededRng;
use crate::weather::FaultRates;

/// A rule of the cluster that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterBug {
    /// What an attempt came to closes whatever attempt runs now, of whichever node.
    RescuedNodeFinishes,
    /// A change is answered before every node has applied it.
    BarrierDoesNotWait,
    /// An owner writes without checking its lease.
    LeaseNotAsked,
}

/// What stays broken when nothing else goes wrong any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forever {
    Nothing,
    /// No call of one node reaches a database.
    OneNode,
    /// One worker takes messages and gives no feedback.
    OneWorker,
}

/// What happens to a cluster.
#[derive(Debug, Clone)]
pub(crate) struct ClusterPlan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// Slices of time before it comes to rest.
    pub(crate) slices: usize,
    pub(crate) kill_per_mille: u64,
    pub(crate) freeze_per_mille: u64,
    /// Steps of the database's clock.
    pub(crate) step_per_mille: u64,
    pub(crate) lose_per_mille: u64,
    pub(crate) double_per_mille: u64,
    pub(crate) slow_per_mille: u64,
    pub(crate) faults: FaultRates,
    /// Submit, change, hold.
    pub(crate) operators: Vec<u64>,
    pub(crate) answers: Vec<u64>,
    pub(crate) sizes: Sizes,
    pub(crate) forever: Forever,
    pub(crate) bug: Option<ClusterBug>,
}

impl ClusterPlan {
    /// Everything goes wrong now and then.
    pub(crate) fn rough(seed: u64) -> Self {
        let rng = SeededRng::new(seed ^ 0x00c1_0570_e000);
        let some = |most: u64| if rng.below(3) == 0 { 0 } else { rng.below(most) };
        Self {
            seed,
            nodes: 2 + rng.index(3),
            slices: 2_000,
            kill_per_mille: some(4),
            freeze_per_mille: some(4),
            step_per_mille: some(4),
            lose_per_mille: some(100),
            double_per_mille: some(200),
            slow_per_mille: some(80),
            faults: FaultRates {
                before: some(40),
                instead: 0,
                after: some(40),
                late: some(40),
                cut: 0,
                slow: some(300),
                split: some(1_000),
                focus: some(2) * rng.next(),
            },
            operators: drawn(&rng, &[55, 30, 15]),
            answers: drawn(&rng, &ANSWERS),
            sizes: Sizes::drawn(&rng),
            forever: [Forever::Nothing, Forever::OneNode, Forever::OneWorker][rng.index(3)],
            bug: None,
        }
    }
}
