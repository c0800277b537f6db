//! HTTP callbacks on the worker framework.
//!
//! [`CallbackHandler`] is the handler, [`DirectTaskService`] begins and finishes for it on the store,
//! and [`http`] is everything behind one callback: egress guard, client, signature, outcome.

mod callback;
mod dns;
pub mod http;
mod race;
mod service;

pub use callback::CallbackHandler;
pub use dns::SystemLookup;
pub use service::DirectTaskService;
