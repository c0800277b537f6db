//! Tests of what only this back end has, on a real server. What every store means is in `conformance`.

pub(crate) mod auditing;
pub(crate) mod barrier;
pub(crate) mod bulkheads;
pub(crate) mod common_subset;
pub(crate) mod fencing;
pub(crate) mod firing;
pub(crate) mod fixture;
pub(crate) mod following;
pub(crate) mod importing;
pub(crate) mod joint;
pub(crate) mod leases;
pub(crate) mod migrating;
pub(crate) mod moving;
pub(crate) mod outages;
pub(crate) mod parks;
pub(crate) mod plans;
pub(crate) mod retention;
pub(crate) mod site;
pub(crate) mod statements;
pub(crate) mod tasks;
pub(crate) mod whole;

/// What a store means, on four shards of two data sources.
mod conformance {
    use super::whole::Whole;
    use tsp_store_testing::conformance::StoreUnderTest;

    async fn make() -> StoreUnderTest {
        Whole::make().await
    }

    tsp_store_testing::conformance_tests!(make);
}
