//! Real servers on free ports, with private data directories, that end with the process that started them:
//! [`MariaDb`], [`Nsqd`] and [`Nsqlookupd`]. And a [`NameServer`] of our own, which can be silent.
//!
//! Starting blocks until the server is ready, or says with the server's own log why it is not.

mod error;
mod http;
mod mariadb;
mod name_server;
mod nsq;
mod port;
mod program;
mod server;
mod template;
mod watchdog;

pub use error::PeerError;
pub use mariadb::{MariaDb, MariaDbOptions};
pub use name_server::{Family, NameAnswer, NameServer};
pub use nsq::{Nsqd, Nsqlookupd};
