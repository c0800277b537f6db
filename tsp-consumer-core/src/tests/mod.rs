//! The pipeline and the worker on a service that is scripted, with receivers played by the test.

mod fixture;
mod pipeline;
mod reconcile;
mod worker;
