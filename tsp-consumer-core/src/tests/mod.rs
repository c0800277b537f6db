//! The pipeline and the worker on a service that is scripted, with callees played by the test.

mod bed;
mod pipeline;
mod reconcile;
mod worker;
