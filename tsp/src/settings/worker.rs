//! `[worker]` and `[worker.http]`

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tsp_core::Millis;

use super::reader::Reader;

#[derive(Debug)]
pub(crate) struct WorkerSettings {
    pub(crate) concurrency: usize,
    pub(crate) shutdown_grace: Duration,
    pub(crate) allow_networks: Vec<IpNet>,
    pub(crate) name_servers: Vec<SocketAddr>,
    pub(crate) ca_file: Option<PathBuf>,
}

impl WorkerSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let concurrency = reader.number("worker.concurrency", 1..=100_000);
        Self {
            concurrency: usize::try_from(concurrency).unwrap_or(1),
            shutdown_grace: reader.duration("worker.shutdown_grace", Millis::ZERO..=Millis::from_hours(1)),
            allow_networks: reader.list("worker.http.allow_networks", parse_network),
            name_servers: reader.list("worker.http.name_servers", parse_name_server),
            ca_file: Some(reader.text("worker.http.ca_file"))
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        }
    }
}

/// An address, with a port or without.
fn parse_name_server(text: &str) -> Result<SocketAddr, String> {
    let server = text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53)));
    server.map_err(|_| format!("`{text}` is no address; for example `10.0.0.2` or `10.0.0.2:5353`"))
}

/// A network, or one address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("`{text}` is no network; for example `10.0.0.0/8` or `::1/128`"))
}
