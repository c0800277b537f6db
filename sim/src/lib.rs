//! A deterministic simulation: fetcher, worker pipeline and submits on the in-memory store and queue,
//! on one thread, with a manual clock and no timers.
//!
//! A seed makes a [`World`]; the world takes steps, with crashes, lost and doubled messages, failing
//! store calls and calls whose answer is lost; the checker holds promises 1 to 6 of DESIGN.md section 2
//! against everything that happens. One seed gives one history.

mod broken;
mod callers;
mod chance;
mod checker;
mod faults;
mod process;
#[cfg(test)]
mod seeds;
mod world;

pub use broken::Bug;
pub use chance::Chance;
pub use world::{Plan, World};
