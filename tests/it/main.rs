//! The integration tests: the real executable, a real receiver, real time.
//!
//! One executable with a module for each topic. The harness explains how tests wait, and
//! [`harness::mode`] in which deployment mode they run.

mod harness;

mod auth;
mod chaos;
mod cluster;
mod cron;
mod dev;
mod durable;
mod first_callback;
mod harness_itself;
mod idempotency;
mod idle;
mod input;
mod isolation;
mod keys;
mod names;
mod parking;
mod readme;
mod requests;
mod retries;
mod signing;
mod sockets;
mod startup;
mod tasks;
mod waiting;
