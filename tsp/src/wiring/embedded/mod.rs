//! The embedded deployment mode: SQLite and the queue in memory, all roles in one process.

mod open;
mod state;

pub(super) use open::open;
pub(super) use state::Embedded;
