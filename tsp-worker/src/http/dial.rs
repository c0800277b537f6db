//! From the addresses of a target to a connection (Happy Eyeballs, RFC 8305): families take turns, the next address
//! starts when one has failed or has had its head start, and the first to connect wins.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::race::race;

const HEAD_START: Duration = Duration::from_millis(250);
/// For so long an address that failed or was overtaken comes last.
const AVOID_FOR: Duration = Duration::from_secs(30);
const AVOIDED_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Dialer {
    /// Each connection begins with another address, as name servers that take turns would have it.
    turn: AtomicUsize,
    avoided: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Dialer {
    /// Connects to one of `addresses`, all of them checked. It waits for as long as the caller does.
    pub(super) async fn dial(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let order = self.order(addresses, port);
        let connect =
            |address| async move { TcpStream::connect(address).await.map(|stream| (address, stream)) };
        let (winner, stream) = race(order.iter().copied(), HEAD_START, connect)
            .await
            .unwrap_or_else(|| Err(io::Error::other("the name has no address")))?;
        let mut avoided = self.avoided.lock();
        avoided.remove(&winner);
        if avoided.len() >= AVOIDED_MAX {
            avoided.clear();
        }
        let now = Instant::now();
        avoided
            .extend(order.into_iter().take_while(|address| *address != winner).map(|address| (address, now)));
        Ok(stream)
    }

    fn order(&self, addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
        let (mut v6, mut v4): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|address| address.is_ipv6());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for family in [&mut v6, &mut v4] {
            if !family.is_empty() {
                let first = turn % family.len();
                family.rotate_left(first);
            }
        }
        let mut order = Vec::with_capacity(addresses.len());
        let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
        while order.len() < addresses.len() {
            let pair = v6.next().into_iter().chain(v4.next());
            order.extend(pair.map(|address| SocketAddr::new(address, port)));
        }
        let avoided = self.avoided.lock();
        if !avoided.is_empty() {
            order
                .sort_by_key(|address| avoided.get(address).is_some_and(|since| since.elapsed() < AVOID_FOR));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::advance;

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn order(dialer: &Dialer, addresses: &[&str]) -> Vec<String> {
        dialer.order(&ips(addresses), 80).iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn families_take_turns_and_so_do_the_addresses_of_one() {
        let dialer = Dialer::default();
        let addresses = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "2606::1", "2606::2"];
        assert_eq!(order(&dialer, &addresses), ["2606::1", "1.1.1.1", "2606::2", "1.1.1.2", "1.1.1.3"]);
        assert_eq!(order(&dialer, &addresses), ["2606::2", "1.1.1.2", "2606::1", "1.1.1.3", "1.1.1.1"]);
        assert_eq!(order(&dialer, &["1.1.1.1"]), ["1.1.1.1"]);
    }

    #[tokio::test]
    async fn an_address_that_fails_is_passed_and_avoided_for_a_while() {
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (dialer, addresses) = (Dialer::default(), ips(&["127.0.0.1", "127.0.0.2"]));
        let stream = dialer.dial(&addresses, port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        for _ in 0..2 {
            assert_eq!(dialer.order(&addresses, port)[0].ip(), addresses[1]);
        }
        tokio::time::pause();
        advance(AVOID_FOR).await;
        let first: Vec<IpAddr> = (0..2).map(|_| dialer.order(&addresses, port)[0].ip()).collect();
        assert!(first.contains(&addresses[0]), "{first:?}");
    }

    #[tokio::test]
    async fn when_none_connects_the_error_says_why() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = Dialer::default().dial(&ips(&["127.0.0.1", "127.0.0.2"]), port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
