//! Turns of the fetcher on the store in memory, with a clock that is moved by hand.

mod claiming;
mod failing;
mod fairness;
mod fixture;
mod holding;
mod idle;
mod misfires;
mod overlaps;
mod rescuing;
mod running;
mod schedules;
mod watchers;
