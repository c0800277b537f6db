//! TLS to targets: whom we trust, who we are, and what failed.

use std::error::Error as StdError;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;
use tsp_core::config::TargetTls;

/// What a connection is protected with. Two that are equal may share connections.
#[derive(Clone)]
pub(super) struct Security {
    connector: TlsConnector,
    /// Of a target's own certificates; `None` for the settings of the process.
    own: Option<[u8; 32]>,
}

impl Security {
    pub(super) fn connector(&self) -> &TlsConnector {
        &self.connector
    }
}

impl PartialEq for Security {
    fn eq(&self, other: &Self) -> bool {
        self.own == other.own
    }
}

impl Eq for Security {}

impl Hash for Security {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.own.hash(state);
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("own", &self.own.is_some()).finish_non_exhaustive()
    }
}

/// Makes the [`Security`] of targets.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    /// The public authorities and those of the settings.
    roots: Arc<RootCertStore>,
    usual: Security,
}

impl Tls {
    /// Fails when an authority is no certificate, or the versions do not fit the crypto provider.
    pub(super) fn new(extra_roots: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        for root in extra_roots {
            roots.add(root.clone())?;
        }
        let (provider, roots) = (provider(), Arc::new(roots));
        let usual = Security { connector: connector(&provider, Arc::clone(&roots), None)?, own: None };
        Ok(Self { provider, roots, usual })
    }

    /// That of a target: its own authorities take the place of all others.
    pub(super) fn security(&self, target: Option<&TargetTls>) -> Result<Security, TlsProblem> {
        let Some(target) = target else { return Ok(self.usual.clone()) };
        let roots = match &target.ca {
            Some(ca) => Arc::new(read_authorities(ca)?),
            None => Arc::clone(&self.roots),
        };
        let identity = read_identity(target, &self.provider)?;
        let connector = connector(&self.provider, roots, identity).map_err(|error| problem("ca", &error))?;
        Ok(Security { connector, own: Some(fingerprint(target)) })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn connector(
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    identity: Option<CertifiedKey>,
) -> Result<TlsConnector, Error> {
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn fingerprint(target: &TargetTls) -> [u8; 32] {
    let key = target.key.as_ref().map(tsp_core::config::Secret::expose);
    let mut hash = Sha256::new();
    for part in [target.ca.as_deref(), target.cert.as_deref(), key] {
        // With its length, so that no two lists of parts look the same.
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().into()
}

/// What is wrong with `target.tls`: the field and the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsProblem {
    pub field: &'static str,
    pub message: String,
}

fn problem(field: &'static str, message: &impl ToString) -> TlsProblem {
    TlsProblem { field, message: message.to_string() }
}

/// Checks the certificates of a target that is about to be saved.
pub fn check_tls(target: &TargetTls) -> Result<(), TlsProblem> {
    if let Some(ca) = &target.ca {
        read_authorities(ca)?;
    }
    read_identity(target, &provider()).map(drop)
}

/// The certificates of authorities in a file of PEM, at least one.
pub fn read_ca_file(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| format!("holds what is no authority: {error}"))?;
    }
    Ok(certificates)
}

fn read_authorities(pem: &str) -> Result<RootCertStore, TlsProblem> {
    let certificates = read_ca_file(pem.as_bytes()).map_err(|message| problem("ca", &message))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    Ok(roots)
}

fn read_identity(target: &TargetTls, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, TlsProblem> {
    let (cert, key) = match (&target.cert, &target.key) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(problem("key", &"is required with `cert`: the private key in PEM")),
        (None, Some(_)) => return Err(problem("cert", &"is required with `key`: the certificate in PEM")),
        (Some(cert), Some(key)) => (cert, key),
    };
    let chain = certificates(cert.as_bytes()).map_err(|message| problem("cert", &message))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|_| problem("key", &"must be a private key in PEM: `-----BEGIN PRIVATE KEY-----`"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| problem("key", &"is of a kind that is not supported; use ECDSA, Ed25519 or RSA"))?;
    let identity = CertifiedKey::new(chain, key);
    match identity.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Some(identity)),
        Err(Error::InconsistentKeys(_)) => Err(problem("key", &"is not the key of `cert`")),
        Err(error) => Err(problem("cert", &format!("cannot be read: {error}"))),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("is no PEM: {error}"))?;
    if all.is_empty() {
        return Err("must hold a certificate in PEM: `-----BEGIN CERTIFICATE-----`".to_owned());
    }
    Ok(all)
}

const NO_NAME: &str = "tls_error: the host is no name for a certificate";

/// The reason code of what failed, for operators to read; one of a few texts, none from the other side.
pub(super) fn reason(error: &io::Error) -> &'static str {
    match tls_error(error) {
        Some(error) => of_tls(error),
        None if error.kind() == io::ErrorKind::InvalidInput => NO_NAME,
        None => "tls_error: broken off during the handshake",
    }
}

/// Whether an exchange broke because the peer did not like our certificate: in TLS 1.3 that comes after the
/// handshake, in place of an answer.
pub(super) fn refused_later(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let tls = error.downcast_ref::<io::Error>().and_then(tls_error).or_else(|| error.downcast_ref());
        if let Some(tls @ Error::AlertReceived(_)) = tls {
            return Some(of_tls(tls));
        }
        cause = error.source();
    }
    None
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(problem) => of_certificate(problem),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::PeerSentOversizedRecord => {
            "tls_error: the peer does not speak TLS"
        }
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            "tls_error: no version or cipher in common"
        }
        Error::UnsupportedNameType => NO_NAME,
        _ => "tls_error: the handshake failed",
    }
}

fn of_certificate(problem: &CertificateError) -> &'static str {
    use CertificateError as E;
    match problem {
        E::UnknownIssuer => "tls_error: unknown issuer",
        E::Expired | E::ExpiredContext { .. } => "tls_error: certificate expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "tls_error: certificate not valid yet",
        E::NotValidForName | E::NotValidForNameContext { .. } => "tls_error: certificate for another name",
        E::Revoked => "tls_error: certificate revoked",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "tls_error: certificate for another purpose",
        E::BadSignature => "tls_error: bad signature of the certificate",
        _ => "tls_error: bad certificate",
    }
}

fn of_alert(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired | A::NoCertificate => "tls_error: client certificate required",
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied => "tls_error: client certificate refused",
        A::ProtocolVersion | A::InsufficientSecurity | A::HandshakeFailure | A::NoApplicationProtocol => {
            "tls_error: no version or cipher in common, or a client certificate required"
        }
        A::UnrecognisedName => "tls_error: the peer does not know the name",
        _ => "tls_error: the peer refused the handshake",
    }
}
