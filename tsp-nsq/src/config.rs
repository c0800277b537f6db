//! How connections are made and kept.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::TlsConfig;
use crate::backoff::Backoff;
use crate::codec::MESSAGE_OVERHEAD;
use crate::discovery::KnownNsqds;

const MIB: usize = 1 << 20;

/// A random number from 0 up to 1, injected so that one seed gives one history.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// What producers and consumers have in common. Take [`ClientConfig::default`] and change what is needed.
#[derive(Clone)]
pub struct ClientConfig {
    /// Shown in the statistics of nsqd, as are the next two.
    pub client_id: String,
    pub hostname: String,
    pub user_agent: String,
    /// For the TCP connection alone; the handshake has nsqd's own limit of 5 seconds.
    pub dial_timeout: Duration,
    /// How often nsqd shows that it lives: 1 to 60 seconds. A connection that was silent for two and a half
    /// of them is given up.
    pub heartbeat_interval: Duration,
    /// How long nsqd waits for a message to be finished, at least 1 second. `None` leaves it to nsqd.
    pub msg_timeout: Option<Duration>,
    pub output_buffer: OutputBuffer,
    /// The largest frame that is read, and so the largest message that is published: the `--max-msg-size` of
    /// nsqd and [`MESSAGE_OVERHEAD`].
    pub max_frame: usize,
    pub tls: Option<TlsConfig>,
    pub compression: Compression,
    /// Sent only to an nsqd that asks for it.
    pub auth_secret: Option<Secret>,
    /// Between attempts to connect.
    pub reconnect: Backoff,
    pub jitter: Jitter,
    /// Where the nsqds were last found. Give the same one to all who search on behalf of a process.
    pub known_nsqds: KnownNsqds,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            client_id: "tsp-nsq".to_owned(),
            hostname: String::new(),
            user_agent: concat!("tsp-nsq/", env!("CARGO_PKG_VERSION")).to_owned(),
            dial_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(30),
            msg_timeout: None,
            output_buffer: OutputBuffer::Off,
            max_frame: MIB + MESSAGE_OVERHEAD,
            tls: None,
            compression: Compression::None,
            auth_secret: None,
            reconnect: Backoff::default(),
            jitter: Arc::new(|| 0.5),
            known_nsqds: KnownNsqds::default(),
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("client_id", &self.client_id)
            .field("hostname", &self.hostname)
            .field("user_agent", &self.user_agent)
            .field("dial_timeout", &self.dial_timeout)
            .field("heartbeat_interval", &self.heartbeat_interval)
            .field("msg_timeout", &self.msg_timeout)
            .field("output_buffer", &self.output_buffer)
            .field("max_frame", &self.max_frame)
            .field("tls", &self.tls)
            .field("compression", &self.compression)
            .field("auth_secret", &self.auth_secret)
            .field("reconnect", &self.reconnect)
            .finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// Silence for this long means that the peer is gone.
    pub(crate) fn read_deadline(&self) -> Duration {
        self.heartbeat_interval * 5 / 2
    }
}

/// How nsqd gathers messages before it writes them to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputBuffer {
    /// Each message is written at once: the lowest latency.
    #[default]
    Off,
    /// `bytes` from 64 to 64 KiB, `timeout` from 25 ms to 30 s: fewer writes at the cost of that much latency.
    Sized { bytes: u32, timeout: Duration },
}

/// What is asked of nsqd; it may decline, and then nothing is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    Snappy,
    /// 1 (fast) to 9 (small); nsqd allows up to 6 unless told otherwise. Its compressor holds messages back, so
    /// that [`OutputBuffer::Off`] then means 25 ms.
    Deflate(u8),
}

/// Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the nsqds are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nsqds {
    /// `host:port` of the TCP port of each.
    Fixed(Vec<String>),
    /// HTTP addresses of nsqlookupds, `http://host:4161` or `host:4161`. All are asked and what they say is
    /// united.
    Lookup(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let config = ClientConfig { auth_secret: Some(Secret::new("hunter2")), ..ClientConfig::default() };
        let shown = format!("{config:?}");
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(config.auth_secret.expect("set").reveal(), "hunter2");
    }
}
