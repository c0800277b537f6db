//! Search over open and ended tasks.

pub(crate) mod gather;
pub(crate) mod merge;
pub(crate) mod page;
pub(crate) mod scan;
