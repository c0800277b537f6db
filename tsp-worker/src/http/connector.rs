//! Opens connections, and only to addresses that the egress policy allows. Literal addresses are
//! checked here again, because no resolver is ever asked about them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tsp_core::egress::{CheckedUrl, EgressDenied, EgressPolicy};
use tsp_core::ids::AppId;
use url::Host;

use super::client::ClientSettings;
use super::dial::Dialer;
use super::resolver::{LookupError, Resolver};
use super::stream::Stream;

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error(transparent)]
    Denied(EgressDenied),
    #[error(transparent)]
    Lookup(LookupError),
    /// Refused, unreachable, or given up by the network.
    #[error("no address could be connected to: {0}")]
    Refused(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("no connection within the connect time-out")]
    Timeout,
}

impl From<LookupError> for ConnectError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Denied(denied) => Self::Denied(denied),
            other => Self::Lookup(other),
        }
    }
}

/// What connections are shared by. Apps share none, so that one cannot use up what another needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) app: AppId,
    pub(super) tls: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
}

impl Origin {
    pub(super) fn new(app: AppId, url: &CheckedUrl) -> Self {
        Self { app, tls: url.is_https(), host: url.host().clone(), port: url.port() }
    }
}

pub(super) struct Connector {
    policy: Arc<EgressPolicy>,
    resolver: Resolver,
    dialer: Dialer,
    tls: TlsConnector,
}

impl Connector {
    /// Fails when the TLS versions do not fit the crypto provider.
    pub(super) fn new(policy: Arc<EgressPolicy>, settings: &ClientSettings) -> Result<Self, rustls::Error> {
        let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        for root in &settings.extra_roots {
            roots.add(root.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            resolver: Resolver::new(Arc::clone(&policy), Arc::clone(&settings.lookup)),
            policy,
            dialer: Dialer::default(),
            tls: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// Connects within `limit`: look-up and TLS included.
    pub(super) async fn connect(&self, origin: &Origin, limit: Duration) -> Result<Stream, ConnectError> {
        let deadline = Instant::now() + limit;
        timeout_at(deadline, self.open(origin, deadline)).await.unwrap_or(Err(ConnectError::Timeout))
    }

    /// From now on no look-up is waited for.
    pub(super) fn stopping(&self) {
        self.resolver.stopping();
    }

    async fn open(&self, origin: &Origin, deadline: Instant) -> Result<Stream, ConnectError> {
        let addresses = match &origin.host {
            Host::Ipv4(address) => self.literal((*address).into())?,
            Host::Ipv6(address) => self.literal((*address).into())?,
            Host::Domain(name) => {
                let answer = timeout_at(deadline, self.resolver.resolve(origin.app, name)).await;
                answer.unwrap_or(Err(LookupError::Timeout))?
            }
        };
        let stream = self.dialer.dial(&addresses, origin.port).await.map_err(ConnectError::Refused)?;
        // Headers and body go out in one write each; waiting for more would only delay them.
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        if !origin.tls {
            return Ok(Stream::Plain(stream));
        }
        let name = server_name(&origin.host)?;
        let stream = self.tls.connect(name, stream).await.map_err(ConnectError::Tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    fn literal(&self, address: IpAddr) -> Result<Arc<[IpAddr]>, ConnectError> {
        self.policy.check_address(address).map_err(ConnectError::Denied)?;
        Ok([address].into())
    }
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, ConnectError> {
    let name = match host {
        Host::Ipv4(address) => return Ok(ServerName::from(IpAddr::from(*address))),
        Host::Ipv6(address) => return Ok(ServerName::from(IpAddr::from(*address))),
        // Certificates and SNI hold names without the root's full stop.
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(name),
    };
    ServerName::try_from(name.to_owned())
        .map_err(|error| ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_literal_is_refused_here_too() {
        let connector = Connector::new(Arc::default(), &ClientSettings::default()).unwrap();
        for host in [Host::Ipv4([127, 0, 0, 1].into()), Host::Ipv6("::ffff:10.0.0.1".parse().unwrap())] {
            let origin = Origin { app: AppId::new(1), tls: false, host, port: 80 };
            let answer = connector.connect(&origin, Duration::from_secs(1)).await;
            assert!(matches!(answer, Err(ConnectError::Denied(_))), "{answer:?}");
        }
    }

    #[test]
    fn the_server_name_is_the_host_without_its_last_full_stop() {
        let name = server_name(&Host::Domain("example.com.".to_owned())).unwrap();
        assert_eq!(name.to_str(), "example.com");
        assert!(matches!(server_name(&Host::Ipv4([1, 1, 1, 1].into())), Ok(ServerName::IpAddress(_))));
    }
}
