//! Ports that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range that the system takes for outgoing connections. From inside it, a client that keeps dialling
/// a server that is down would one day be given the server's own port and connect to itself.
const FIRST: u32 = 16_000;
const COUNT: u32 = 16_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that is free now. Another process may take it before the server does, so starting tries again.
pub(crate) fn free() -> u16 {
    // Processes begin at different places, so that they seldom want the same port at the same time.
    let begin = std::process::id().wrapping_mul(131);
    loop {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
