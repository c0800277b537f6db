//! What both sides tell each other first. See `docs/reference/nsq.md`, section 4.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{ClientConfig, Compression, OutputBuffer};

/// The shortest that nsqd takes.
const DEFLATE_FLUSH_MS: i64 = 25;

#[derive(Serialize)]
struct Request<'a> {
    client_id: &'a str,
    hostname: &'a str,
    user_agent: &'a str,
    feature_negotiation: bool,
    heartbeat_interval: u64,
    output_buffer_size: i64,
    output_buffer_timeout: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_timeout: Option<u64>,
    tls_v1: bool,
    snappy: bool,
    deflate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    deflate_level: Option<u8>,
}

/// The body of `IDENTIFY`.
pub(crate) fn request(config: &ClientConfig) -> Bytes {
    let deflate = matches!(config.compression, Compression::Deflate(_));
    let (output_buffer_size, output_buffer_timeout) = match config.output_buffer {
        // The compressor of nsqd has a buffer of its own, which without a timer is flushed by a heartbeat only.
        OutputBuffer::Off if deflate => (0, DEFLATE_FLUSH_MS),
        // A size of -1 turns the flush timer off with it, which is right: there is nothing to flush.
        OutputBuffer::Off => (-1, -1),
        OutputBuffer::Sized { bytes, timeout } => {
            (i64::from(bytes), i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))
        }
    };
    let request = Request {
        client_id: &config.client_id,
        hostname: &config.hostname,
        user_agent: &config.user_agent,
        feature_negotiation: true,
        heartbeat_interval: millis(config.heartbeat_interval),
        output_buffer_size,
        output_buffer_timeout,
        msg_timeout: config.msg_timeout.map(millis),
        tls_v1: config.tls.is_some(),
        snappy: config.compression == Compression::Snappy,
        deflate,
        deflate_level: match config.compression {
            Compression::Deflate(level) => Some(level),
            _ => None,
        },
    };
    serde_json::to_vec(&request).expect("plain fields have a JSON form").into()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What nsqd grants, which need not be what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct NegotiatedOptions {
    pub(crate) version: String,
    pub(crate) max_rdy_count: u32,
    #[serde(deserialize_with = "from_millis")]
    pub(crate) msg_timeout: Duration,
    #[serde(deserialize_with = "from_millis")]
    pub(crate) max_msg_timeout: Duration,
    pub(crate) tls_v1: bool,
    pub(crate) snappy: bool,
    pub(crate) deflate: bool,
    pub(crate) deflate_level: u8,
    pub(crate) auth_required: bool,
}

/// The defaults of nsqd, for what an answer leaves out.
impl Default for NegotiatedOptions {
    fn default() -> Self {
        Self {
            version: String::new(),
            max_rdy_count: 2_500,
            msg_timeout: Duration::from_mins(1),
            max_msg_timeout: Duration::from_mins(15),
            tls_v1: false,
            snappy: false,
            deflate: false,
            deflate_level: 6,
            auth_required: false,
        }
    }
}

fn from_millis<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// Reads the answer to `IDENTIFY`. A plain `OK` is an nsqd that negotiates nothing.
pub(crate) fn answer(data: &[u8]) -> Result<NegotiatedOptions, serde_json::Error> {
    if data == b"OK" { Ok(NegotiatedOptions::default()) } else { serde_json::from_slice(data) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(config: &ClientConfig) -> Value {
        serde_json::from_slice(&request(config)).expect("JSON")
    }

    #[test]
    fn the_default_turns_the_buffer_off_and_leaves_the_timeout_to_nsqd() {
        let config =
            ClientConfig { client_id: "a".to_owned(), hostname: "b".to_owned(), ..ClientConfig::default() };
        assert_eq!(
            asked(&config),
            json!({
                "client_id": "a", "hostname": "b", "user_agent": config.user_agent, "feature_negotiation": true,
                "heartbeat_interval": 30_000, "output_buffer_size": -1, "output_buffer_timeout": -1,
                "tls_v1": false, "snappy": false, "deflate": false,
            })
        );
    }

    #[test]
    fn what_is_set_is_asked_for() {
        let config = ClientConfig {
            output_buffer: OutputBuffer::Sized { bytes: 16_384, timeout: Duration::from_millis(25) },
            msg_timeout: Some(Duration::from_secs(90)),
            compression: Compression::Deflate(3),
            ..ClientConfig::default()
        };
        let asked = asked(&config);
        assert_eq!(asked["output_buffer_size"], 16_384);
        assert_eq!(asked["output_buffer_timeout"], 25);
        assert_eq!(asked["msg_timeout"], 90_000);
        assert_eq!(
            (&asked["deflate"], &asked["deflate_level"], &asked["snappy"]),
            (&json!(true), &json!(3), &json!(false))
        );
    }

    #[test]
    fn what_deflate_holds_back_is_flushed_by_a_timer() {
        let config = ClientConfig { compression: Compression::Deflate(6), ..ClientConfig::default() };
        let asked = asked(&config);
        assert_eq!((&asked["output_buffer_size"], &asked["output_buffer_timeout"]), (&json!(0), &json!(25)));
    }

    #[test]
    fn limits_are_those_of_the_answer() {
        let negotiated = answer(
            br#"{"max_rdy_count":10,"version":"1.3.0","msg_timeout":2000,"max_msg_timeout":4000,"tls_v1":true,"new":1}"#,
        )
        .expect("JSON");
        let expected = NegotiatedOptions {
            version: "1.3.0".to_owned(),
            max_rdy_count: 10,
            msg_timeout: Duration::from_secs(2),
            max_msg_timeout: Duration::from_secs(4),
            tls_v1: true,
            ..NegotiatedOptions::default()
        };
        assert_eq!(negotiated, expected);
        assert_eq!(answer(b"OK").expect("plain"), NegotiatedOptions::default());
        assert!(answer(b"no").is_err());
    }
}
