//! Dropping what nobody needs any more.

pub(crate) mod old_rows;
pub(crate) mod whole_days;
