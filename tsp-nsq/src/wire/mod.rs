//! One connection to an nsqd: made, driven, ended.

pub(crate) mod compress;
pub(crate) mod handshake;
pub(crate) mod identify;
pub(crate) mod link;
pub(crate) mod outbox;
pub(crate) mod stream;
pub(crate) mod tls;
mod writer;
