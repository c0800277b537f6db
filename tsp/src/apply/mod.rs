//! Configs as files: read, compared with the server's, and made so.

mod changes;
mod document;
mod normal;
mod payload;
mod plan;
mod remote;
mod write;
mod yaml;

pub(crate) use document::{exported, read_files};
pub(crate) use normal::normal;
pub(crate) use plan::Plan;
pub(crate) use remote::{Remote, carry_out, check};
pub(crate) use write::{Syntax, write};
