//! What callers and operators do with tasks.

pub(crate) mod cancel;
pub(crate) mod change;
pub(crate) mod group_commit;
pub(crate) mod idempotency;
pub(crate) mod rows;
pub(crate) mod store;
pub(crate) mod submit;
pub(crate) mod update;
