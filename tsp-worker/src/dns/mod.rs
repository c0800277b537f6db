//! Names of targets, looked up without blocking a thread: the system's own look-up blocks one for up to ten
//! seconds, and some hundred names whose name server is silent would take all that a process has. What the
//! system would read is read here: `/etc/hosts`, and servers, search list and `ndots` of `/etc/resolv.conf`.

mod exchange;
mod files;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::rr::Name;

use self::files::{Conf, Hosts, WatchedFile};
use crate::http::{Lookup, LookupAnswer, LookupError};
use crate::race::race;

/// A name server that has not answered for so long gets company.
const HEAD_START: Duration = Duration::from_millis(500);

/// The names that this machine knows.
#[derive(Debug)]
pub struct SystemLookup {
    /// Asked in place of those of `/etc/resolv.conf`, if there are any.
    servers: Vec<SocketAddr>,
    conf: WatchedFile<Conf>,
    hosts: WatchedFile<Hosts>,
    /// The place in the list of the server that answered last.
    preferred: AtomicUsize,
}

impl SystemLookup {
    /// `servers` takes the place of the name servers of the system, for all names; the files keep their say in
    /// everything else.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            conf: WatchedFile::new("/etc/resolv.conf", Conf::parse),
            hosts: WatchedFile::new("/etc/hosts", Hosts::parse),
            preferred: AtomicUsize::new(0),
        }
    }

    /// The server that answered last comes first: one that is dead costs its head start once.
    fn servers_in_order(&self, conf: &Conf) -> Vec<(usize, SocketAddr)> {
        let all = if self.servers.is_empty() { &conf.servers } else { &self.servers };
        let mut ordered: Vec<_> = all.iter().copied().enumerate().collect();
        let first = self.preferred.load(Ordering::Relaxed);
        if first < ordered.len() {
            ordered[..=first].rotate_right(1);
        }
        ordered
    }
}

impl Default for SystemLookup {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[async_trait]
impl Lookup for SystemLookup {
    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let listed = self.hosts.get().addresses(name);
        // RFC 6761: it is this machine, whatever a name server says.
        let local = name == "localhost" || name.ends_with(".localhost");
        listed.or_else(|| local.then(|| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))
    }

    async fn addresses(&self, name: &str) -> Result<LookupAnswer, LookupError> {
        let conf = self.conf.get();
        let servers = self.servers_in_order(&conf);
        let mut failure = LookupError::NotFound;
        for candidate in conf.candidates(name) {
            let candidate = Name::from_ascii(&candidate).map_err(|error| failed(io::Error::other(error)))?;
            let ask = |(place, server)| {
                let answer = exchange::ask(server, &candidate);
                async move { answer.await.map(|found| (place, found)) }
            };
            match race(servers.iter().copied(), HEAD_START, ask).await {
                Some(Ok((place, found))) => {
                    self.preferred.store(place, Ordering::Relaxed);
                    if !found.addresses.is_empty() {
                        return Ok(found);
                    }
                }
                Some(Err(error)) => failure = failed(error),
                None => {}
            }
        }
        Err(failure)
    }
}

fn failed(error: io::Error) -> LookupError {
    LookupError::Failed(Arc::new(error))
}

#[cfg(test)]
mod tests;
