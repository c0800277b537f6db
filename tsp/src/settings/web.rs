//! `[web]`

use std::net::SocketAddr;

use super::reader::Reader;

/// API.md section 1.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct WebSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) payload_max: usize,
    pub(crate) metrics_open: bool,
}

impl WebSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let listen = reader.parsed("web.listen", |text| {
            text.parse::<SocketAddr>()
                .map_err(|_| "must be an IP address with a port, for example `127.0.0.1:8080`".to_owned())
        });
        let payload_max = reader.size("web.payload_max", 1..=PAYLOAD_BYTES_MAX);
        let metrics_open = reader.flag("web.metrics_open");
        Some(Self { listen: listen?, payload_max, metrics_open })
    }
}
