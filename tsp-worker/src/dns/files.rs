//! What the system's files say about names.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How often a file is looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const DNS_PORT: u16 = 53;
/// As the system's own look-up has it.
const SERVERS_MAX: usize = 3;
const NDOTS_MAX: usize = 15;

/// `/etc/resolv.conf`.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// A name with fewer dots is tried with the search list first.
    ndots: usize,
}

impl Conf {
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    conf.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()).map(at_53));
                }
                // Of several lines the last one counts.
                Some("search" | "domain") => conf.search = words.map(absolute).collect(),
                Some("options") => {
                    let ndots =
                        words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    conf.ndots = ndots.map_or(conf.ndots, |ndots: usize| ndots.min(NDOTS_MAX));
                }
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        if conf.servers.is_empty() {
            conf.servers.push(at_53(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        }
        conf
    }

    /// The absolute names to ask for, in order; the first that has addresses is meant.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut all: Vec<String> = self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let place = if name.matches('.').count() >= self.ndots { 0 } else { all.len() };
        all.insert(place, absolute(name));
        all
    }
}

fn at_53(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, DNS_PORT)
}

fn absolute(name: &str) -> String {
    format!("{}.", name.strip_suffix('.').unwrap_or(name))
}

/// `/etc/hosts`.
#[derive(Debug)]
pub(super) struct Hosts(HashMap<Box<str>, Vec<IpAddr>>);

impl Hosts {
    pub(super) fn parse(text: &str) -> Self {
        let mut names: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else { continue };
            for name in words {
                let known = names.entry(name.to_ascii_lowercase().into()).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
        Self(names)
    }

    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.0.get(name.to_ascii_lowercase().as_str()).cloned()
    }
}

/// A file that is parsed again when it has changed. One that cannot be read counts as empty.
#[derive(Debug)]
pub(super) struct WatchedFile<T> {
    path: PathBuf,
    parse: fn(&str) -> T,
    state: Mutex<Option<State<T>>>,
}

#[derive(Debug)]
struct State<T> {
    looked_at: Instant,
    version: Option<Version>,
    value: Arc<T>,
}

/// When it was written, and how long it is.
type Version = (SystemTime, u64);

impl<T> WatchedFile<T> {
    pub(super) fn new(path: impl Into<PathBuf>, parse: fn(&str) -> T) -> Self {
        Self { path: path.into(), parse, state: Mutex::new(None) }
    }

    pub(super) fn get(&self) -> Arc<T> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if let Some(state) = &*state
            && now.duration_since(state.looked_at) < LOOK_EVERY
        {
            return Arc::clone(&state.value);
        }
        let version =
            fs::metadata(&self.path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        let value = match &*state {
            Some(state) if state.version == version => Arc::clone(&state.value),
            _ => {
                let bytes = fs::read(&self.path).unwrap_or_default();
                Arc::new((self.parse)(&String::from_utf8_lossy(&bytes)))
            }
        };
        *state = Some(State { looked_at: now, version, value: Arc::clone(&value) });
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_as_the_system_reads_it() {
        let conf = Conf::parse(
            "# a comment\nnameserver 10.0.0.2\nnameserver ::1\nnameserver nonsense\nsearch old.test\n\
             search ns.svc.cluster.local  svc.cluster.local.\noptions edns0 ndots:5 timeout:1\n",
        );
        assert_eq!(conf.servers, ["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!(
            conf.candidates("orders.trade"),
            ["orders.trade.ns.svc.cluster.local.", "orders.trade.svc.cluster.local.", "orders.trade."]
        );
        assert_eq!(conf.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f.");
        assert_eq!(conf.candidates("orders.trade."), ["orders.trade."]);
    }

    #[test]
    fn without_a_word_it_is_this_machine_and_no_search_list() {
        let conf = Conf::parse("");
        assert_eq!(conf.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(conf.candidates("orders"), ["orders."]);
        assert_eq!(Conf::parse("domain lan").candidates("orders"), ["orders.lan.", "orders."]);
    }

    #[test]
    fn hosts_have_names_and_aliases_in_any_case() {
        let hosts =
            Hosts::parse("127.0.0.1 localhost\n::1 localhost # twice\n10.0.0.1\tOrders orders.test\nx y\n");
        let of = |name| hosts.addresses(name).unwrap_or_default();
        assert_eq!(of("localhost"), ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(of("ORDERS.test"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(hosts.addresses("y"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_within_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let hosts = WatchedFile::new(&path, Hosts::parse);
        assert_eq!(hosts.get().addresses("orders"), None);
        fs::write(&path, "10.0.0.1 orders").unwrap();
        assert_eq!(hosts.get().addresses("orders"), None, "not looked at yet");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(hosts.get().addresses("orders").unwrap().len(), 1);
        fs::write(&path, "10.0.0.1 orders\n10.0.0.2 orders").unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!(hosts.get().addresses("orders").unwrap().len(), 2);
    }
}
