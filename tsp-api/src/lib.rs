//! The public wire types of TSP: JSON documents, error codes, header names.
//!
//! Documents are strict where they are read (no unknown fields) and plain where they are written. What a
//! value means beyond its shape is checked by the server, which names every field that is wrong.

pub mod api_key;
pub mod app;
pub mod cluster;
pub mod config;
pub mod duration;
pub mod headers;
pub mod id;
pub mod json;
pub mod list;
mod patch;
pub mod problem;
pub mod schedule;
pub mod service;
pub mod task;
pub mod time;

pub use duration::Length;
pub use id::Id;
pub use problem::{ErrorCode, Errors, FieldError, Problem};
pub use time::Time;
