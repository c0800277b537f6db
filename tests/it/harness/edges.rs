//! Ways from the processes of a cluster to its servers, to be disturbed one by one.

use super::proxy::{Proxy, Way};

/// From one process.
#[derive(Debug)]
pub(crate) struct ProcessEdges {
    pub(crate) database: Proxy,
    pub(crate) lookupd: Proxy,
}

/// From all processes to one nsqd: they learn of one address by nsqlookupd.
#[derive(Debug)]
pub(crate) struct NsqdEdge {
    pub(super) tcp: Proxy,
    pub(super) http: Proxy,
}

impl NsqdEdge {
    pub(super) fn ahead() -> Self {
        Self { tcp: Proxy::ahead(), http: Proxy::ahead() }
    }

    /// The flags of the nsqd, so that it is known by this way alone.
    pub(super) fn told(&self) -> [String; 2] {
        let (tcp, http) = (self.tcp.port(), self.http.port());
        [format!("--broadcast-tcp-port={tcp}"), format!("--broadcast-http-port={http}")]
    }

    pub(crate) fn set(&self, way: Way) {
        self.tcp.set(way);
        self.http.set(way);
    }
}
