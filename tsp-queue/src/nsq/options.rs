//! Where the nsqds are and how they are used.

use std::time::Duration;

use thiserror::Error;
use tsp_nsq::{ClientConfig, Jitter, KnownNsqds, NameError, Nsqds, Secret, TlsConfig};

/// A connection that was silent for two and a half heartbeats is given up. To lose one for publishing costs
/// nothing, so this is the least that nsqd allows.
const PRODUCER_HEARTBEAT: Duration = Duration::from_secs(1);
/// What a lost connection had in flight takes up room until its time is over, so a process or an nsqd that
/// stumbles is not given up so soon.
const CONSUMER_HEARTBEAT: Duration = Duration::from_secs(5);

/// A back end that cannot be what its options ask for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NsqError {
    #[error("no nsqd is given: name their TCP and HTTP addresses, or those of nsqlookupds")]
    NoAddress,
    #[error("{tcp} TCP addresses of nsqds and {http} HTTP addresses: give both of each nsqd")]
    Unpaired { tcp: usize, http: usize },
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Start with [`NsqOptions::new`] and change what is needed.
#[derive(Clone)]
pub struct NsqOptions {
    /// `host:port` of each nsqd. Not looked at when there are nsqlookupds.
    pub nsqd_tcp: Vec<String>,
    /// `host:port` of the HTTP port of each, which is asked for depths.
    pub nsqd_http: Vec<String>,
    /// `host:port` of the HTTP port of each nsqlookupd; all are asked.
    pub lookupd_http: Vec<String>,
    /// How often nsqlookupds are asked for nsqds; up to 30 % is added to it.
    pub lookup_every: Duration,
    /// Messages that wait and that are out, of each queue.
    pub capacity: usize,
    /// How often a queue that is in use is asked for its depth.
    pub poll_every: Duration,
    /// How long a queue has no room after a publish that failed.
    pub pause_after_failure: Duration,
    /// A publish without an answer for this long has failed. Longer than the time in which a silent nsqd is
    /// given up, which is 2.5 s, so that the next publish goes to another.
    pub answer_within: Duration,
    /// After this long without a sign of life of its worker a message is delivered to another: at least 1 s,
    /// at most the `--max-msg-timeout` of nsqd.
    pub msg_timeout: Duration,
    /// How long, at most, events are gathered while there were some just before.
    pub event_tick: Duration,
    /// Shown in the statistics of nsqd, as is the next one.
    pub client_id: String,
    pub hostname: String,
    pub tls: Option<TlsConfig>,
    pub auth_secret: Option<Secret>,
    /// Spreads reconnects and lookups of many processes.
    pub jitter: Jitter,
    /// Where the nsqds were last found. What begins again in a process gets that of what was before.
    pub known_nsqds: KnownNsqds,
}

impl NsqOptions {
    /// No addresses yet; the rest is what suits a queue that is a short pipe.
    pub fn new(jitter: Jitter) -> Self {
        Self {
            nsqd_tcp: Vec::new(),
            nsqd_http: Vec::new(),
            lookupd_http: Vec::new(),
            lookup_every: Duration::from_secs(15),
            capacity: 4_096,
            poll_every: Duration::from_millis(50),
            pause_after_failure: Duration::from_millis(200),
            answer_within: Duration::from_secs(3),
            msg_timeout: Duration::from_secs(5),
            event_tick: Duration::from_millis(2),
            client_id: "tsp".to_owned(),
            hostname: String::new(),
            tls: None,
            auth_secret: None,
            jitter,
            known_nsqds: KnownNsqds::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), NsqError> {
        if !self.lookupd_http.is_empty() {
            return Ok(());
        }
        match (self.nsqd_tcp.len(), self.nsqd_http.len()) {
            (0, 0) => Err(NsqError::NoAddress),
            (tcp, http) if tcp != http => Err(NsqError::Unpaired { tcp, http }),
            _ => Ok(()),
        }
    }

    pub(crate) fn nsqds(&self) -> Nsqds {
        if self.lookupd_http.is_empty() {
            Nsqds::Fixed(self.nsqd_tcp.clone())
        } else {
            Nsqds::Lookup(self.lookupd_http.clone())
        }
    }

    pub(crate) fn producer(&self) -> ClientConfig {
        ClientConfig { heartbeat_interval: PRODUCER_HEARTBEAT, ..self.consumer() }
    }

    pub(crate) fn consumer(&self) -> ClientConfig {
        ClientConfig {
            client_id: self.client_id.clone(),
            hostname: self.hostname.clone(),
            user_agent: concat!("tsp/", env!("CARGO_PKG_VERSION")).to_owned(),
            heartbeat_interval: CONSUMER_HEARTBEAT,
            msg_timeout: Some(self.msg_timeout),
            tls: self.tls.clone(),
            auth_secret: self.auth_secret.clone(),
            jitter: self.jitter.clone(),
            known_nsqds: self.known_nsqds.clone(),
            ..ClientConfig::default()
        }
    }
}

impl std::fmt::Debug for NsqOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NsqOptions")
            .field("nsqd_tcp", &self.nsqd_tcp)
            .field("nsqd_http", &self.nsqd_http)
            .field("lookupd_http", &self.lookupd_http)
            .field("capacity", &self.capacity)
            .field("msg_timeout", &self.msg_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn addresses_are_given_in_one_of_two_ways() {
        let mut options = NsqOptions::new(Arc::new(|| 0.5));
        assert_eq!(options.check(), Err(NsqError::NoAddress));
        options.nsqd_tcp = vec!["a:4150".to_owned(), "b:4150".to_owned()];
        options.nsqd_http = vec!["a:4151".to_owned()];
        assert_eq!(options.check(), Err(NsqError::Unpaired { tcp: 2, http: 1 }));
        options.nsqd_http.push("b:4151".to_owned());
        assert_eq!(options.check(), Ok(()));
        assert_eq!(options.nsqds(), Nsqds::Fixed(options.nsqd_tcp.clone()));
        options.lookupd_http = vec!["c:4161".to_owned()];
        assert_eq!(options.nsqds(), Nsqds::Lookup(vec!["c:4161".to_owned()]));
    }
}
