//! Configs between the wire and the domain, in both directions.
//!
//! Reading names every wrong field; what is absent gets the default of API.md section 2. Writing shows
//! every field, so that what was read can be sent back.

mod document;
mod merge;
mod origin;
mod policy;
mod read;
mod schedule;
mod secrets;
mod target;
mod unsupported;
mod write;

pub(super) use document::read_document;
pub(super) use merge::{patched, read_patch};
pub(super) use origin::{leave_secrets_behind, leave_unnamed_secrets_behind};
pub(crate) use read::text;
pub(super) use read::{Reader, Source, read_config};
pub(super) use schedule::read_schedule;
pub(super) use write::{config_document, config_json, etag, write_kind};
