//! The queue over real nsqds.

mod conforming;
mod events;
mod failing;
mod fixture;
mod holding;
mod room;
