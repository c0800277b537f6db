//! Configs as files: read, compared with the server's, and made so.

mod changes;
mod document;
mod normal;
mod plan;
mod remote;

pub(crate) use document::{Syntax, exported, read_files, write};
pub(crate) use normal::normal;
pub(crate) use plan::Plan;
pub(crate) use remote::{Remote, carry_out};
