//! The integration tests: the real executable, a real receiver, real time.
//!
//! One executable with a module for each topic. The harness explains how tests wait.

mod harness;

mod first_callback;
mod keys;
mod retries;
mod signing;
mod tasks;
mod waiting;
