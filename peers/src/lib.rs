//! Real servers on free ports, with private data directories, that end with the process that started them:
//! [`MariaDb`], [`Nsqd`] and [`Nsqlookupd`].
//!
//! Starting blocks until the server is ready, or says with the server's own log why it is not.

mod error;
mod http;
mod mariadb;
mod nsq;
mod port;
mod program;
mod server;
mod template;
mod watchdog;

pub use error::PeerError;
pub use mariadb::{MariaDb, MariaDbOptions};
pub use nsq::{Nsqd, Nsqlookupd};
