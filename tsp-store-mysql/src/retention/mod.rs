//! Dropping what nobody needs any more.

pub(crate) mod meta;
pub(crate) mod policy;
pub(crate) mod prune;
pub(crate) mod whole_days;
