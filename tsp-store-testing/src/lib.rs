//! The store in memory, for tests and the simulation; and what every store means: the conformance suite.

pub mod conformance;
pub mod memory;
pub mod samples;

#[cfg(test)]
mod member_tests;
