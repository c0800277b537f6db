//! `[queue]`

use std::time::Duration;

use tsp_core::Millis;

use super::reader::Reader;

/// The way from fetcher to worker.
#[derive(Debug)]
pub(crate) enum QueueSettings {
    Memory,
    Nsq(NsqSettings),
}

#[derive(Debug)]
pub(crate) struct NsqSettings {
    pub(crate) nsqd_tcp: Vec<String>,
    /// Of the same nsqd, in the same order.
    pub(crate) nsqd_http: Vec<String>,
    pub(crate) lookupd_http: Vec<String>,
    pub(crate) msg_timeout: Duration,
}

impl QueueSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let is_nsq = reader.parsed("queue.url", |text| match text {
            "memory:" => Ok(false),
            "nsq:" => Ok(true),
            _ => Err("must be `memory:` or `nsq:`".to_owned()),
        });
        let nsq = NsqSettings {
            nsqd_tcp: reader.list("queue.nsq.nsqd_tcp", address),
            nsqd_http: reader.list("queue.nsq.nsqd_http", address),
            lookupd_http: reader.list("queue.nsq.lookupd_http", address),
            msg_timeout: reader
                .duration("queue.nsq.msg_timeout", Millis::from_secs(1)..=Millis::from_mins(15)),
        };
        if is_nsq != Some(true) {
            return Self::Memory;
        }
        if nsq.nsqd_tcp.len() != nsq.nsqd_http.len() {
            reader.wrong("queue.nsq.nsqd_http", "must have one address for each of `queue.nsq.nsqd_tcp`");
        }
        if nsq.nsqd_tcp.is_empty() && nsq.lookupd_http.is_empty() {
            reader.wrong("queue.nsq.nsqd_tcp", "or `queue.nsq.lookupd_http` must name a server");
        }
        Self::Nsq(nsq)
    }
}

/// `host:port`; whether somebody answers there is seen later.
fn address(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(port)) if port > 0 && !text.contains('/') => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is no address; for example `127.0.0.1:4150`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["127.0.0.1:4150", "nsqd-1:4150", "[::1]:4150"] {
            assert_eq!(address(good), Ok(good.to_owned()));
        }
        for bad in ["", "4150", ":4150", "nsqd", "nsqd:0", "http://nsqd:4151", "nsqd:99999"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
