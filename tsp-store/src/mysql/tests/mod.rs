//! Tests of what only this back end has, on a real server. What every store means is in `conformance`.

mod auditing;
mod barrier;
mod bulkheads;
mod common_subset;
mod fencing;
mod firing;
mod fixture;
mod following;
mod importing;
mod leases;
mod migrating;
mod moving;
mod outages;
mod parks;
mod plans;
mod retention;
pub(super) mod site;
mod statements;
mod tasks;
mod whole;

/// What a store means, on four shards of two data sources.
mod conformance {
    use super::whole::Whole;
    use crate::conformance::Made;

    async fn make() -> Made {
        Whole::make().await
    }

    crate::conformance_tests!(make);
}
