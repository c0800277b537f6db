//! A deterministic simulation: fetcher, worker pipeline and submits on the in-memory store and queue,
//! on one thread, with a manual clock and no timers.
//!
//! A seed draws a [`Plan`] and makes a [`Harness`]; it takes steps, with crashes, lost and doubled messages,
//! and calls to the store that fail, are late, or are dropped on their way; the checker holds promises 1 to 6 of
//! DESIGN.md section 2 against everything that happens, and that all that is due is done once nothing goes wrong.
//! One seed gives one history.
//!
//! That is one process, driven call by call. `cluster` has several nodes with the loops of the product, each in a
//! runtime with virtual time, and what one process cannot show: leases, rescue, ghosts, the barrier, clocks that differ.

mod broken;
mod callers;
mod checker;
mod clock;
#[cfg(test)]
mod cluster;
mod coverage;
mod faulty_catalog;
mod faulty_pipe;
mod faulty_store;
mod harness;
mod plan;
mod process;
mod rng;
#[cfg(test)]
mod seeds;
mod weather;

pub use broken::Bug;
pub use coverage::{CallFate, Coverage, Move};
pub use harness::{Harness, Story};
pub use plan::{Plan, Rates, Sizes};
pub use rng::SeededRng;
pub use weather::FaultRates;
