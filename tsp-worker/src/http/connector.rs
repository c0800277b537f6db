//! Opens connections, and only to addresses that the egress policy allows. Literal addresses are
//! checked here again, because no resolver is ever asked about them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tsp_core::config::TargetTls;
use tsp_core::egress::{CheckedUrl, EgressDenied, EgressPolicy};
use tsp_core::ids::AppId;
use url::Host;

use super::client::ClientSettings;
use super::dial::Dialer;
use super::resolver::{LookupError, Resolver};
use super::stream::Stream;
use super::tls::{Security, Tls, TlsProblem};

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
    /// `None` for plain HTTP.
    pub(super) tls: Option<Security>,
    pub(super) host: Host<String>,
    pub(super) port: u16,
}

impl Origin {
    pub(super) fn new(app: AppId, url: &CheckedUrl, tls: Option<Security>) -> Self {
        Self { app, tls, host: url.host().clone(), port: url.port() }
    }
}

pub(super) struct Connector {
    policy: Arc<EgressPolicy>,
    resolver: Resolver,
    dialer: Dialer,
    tls: Tls,
}

impl Connector {
    /// Fails when the TLS versions do not fit the crypto provider.
    pub(super) fn new(policy: Arc<EgressPolicy>, settings: &ClientSettings) -> Result<Self, rustls::Error> {
        Ok(Self {
            resolver: Resolver::new(Arc::clone(&policy), Arc::clone(&settings.lookup), settings.look_ups_max),
            policy,
            dialer: Dialer::default(),
            tls: Tls::new(&settings.extra_roots)?,
        })
    }

    /// Connects within `limit`: look-up and TLS included.
    pub(super) async fn connect(&self, origin: &Origin, limit: Duration) -> Result<Stream, ConnectError> {
        let deadline = Instant::now() + limit;
        timeout_at(deadline, self.open(origin, deadline)).await.unwrap_or(Err(ConnectError::Timeout))
    }

    /// What a target with these certificates of its own is protected with.
    pub(super) fn security(&self, own: Option<&TargetTls>) -> Result<Security, TlsProblem> {
        self.tls.security(own)
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
        let Some(tls) = &origin.tls else { return Ok(Stream::Plain(stream)) };
        let name = server_name(&origin.host)?;
        let stream = tls.connector().connect(name, stream).await.map_err(ConnectError::Tls)?;
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
            let origin = Origin { app: AppId::new(1), tls: None, host, port: 80 };
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
