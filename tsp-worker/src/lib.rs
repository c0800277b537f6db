//! HTTP callbacks on the worker framework.
//!
//! [`http`] is everything behind one callback: egress guard, client, signature, outcome. Its
//! [`http::HttpHandler`] is the worker's [`TaskHandler`].

mod dns;
pub mod http;
mod race;

pub use dns::SystemLookup;
pub use tsp_consumer_core::{Fence, TaskContext, TaskHandler};
