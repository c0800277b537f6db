//! Callbacks over HTTP: one guarded client, one request and one reading of the answer (API.md
//! section 5, docs/reference/http-callbacks.md).

mod client;
mod connection;
mod connector;
mod dial;
mod failure;
mod handler;
mod keep_alive;
mod lookup_limits;
mod pool;
mod request;
mod resolver;
mod retry_after;
mod sign;
mod stream;
mod target;
mod tls;
mod traceparent;
mod tsp_result;
mod verdict;
mod watched;

#[cfg(test)]
mod fault_server;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod keep_alive_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod tls_tests;

pub use self::client::{Answer, ClientSettings};
pub use self::connector::ConnectError;
pub use self::failure::CallError;
pub use self::handler::{HttpHandler, SetupError};
pub use self::lookup_limits::LOOK_UPS_MAX;
pub use self::resolver::{Lookup, LookupAnswer, LookupError};
pub use self::target::{PreparedTarget, TargetError};
pub use self::tls::{TlsProblem, check_tls, read_ca_file};
pub use self::verdict::judge;
