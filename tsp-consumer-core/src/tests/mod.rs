//! The pipeline and the worker on rows that are scripted, with receivers played by the test.

mod fixture;
mod pipeline;
mod reconcile;
mod worker;
