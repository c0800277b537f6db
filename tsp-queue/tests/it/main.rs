//! The queue over real nsqds.

mod bed;
mod conforming;
mod failing;
mod holding;
mod news;
mod room;
