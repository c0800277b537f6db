//! TLS of a connection. Certificates are always verified; there is no way to turn that off.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// What [`TlsConfig::new`] is made of.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    pub roots: TlsRoots,
    pub client_cert: Option<ClientCert>,
    /// Refuse an nsqd that offers no TLS. If false, the connection then goes on in the clear.
    pub required: bool,
}

/// Whose signatures are trusted.
#[derive(Debug, Clone)]
pub enum TlsRoots {
    /// Mozilla's list.
    Webpki,
    /// One or more certificates in PEM.
    Pem(Vec<u8>),
    /// Certificates in DER.
    Der(Vec<Vec<u8>>),
}

/// How the client shows who it is.
#[derive(Clone)]
pub struct ClientCert {
    pub chain_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCert").field("key_pem", &"***").finish_non_exhaustive()
    }
}

/// TLS, ready to use. Cheap to clone.
#[derive(Clone)]
pub struct TlsConfig {
    pub(crate) rustls: Arc<ClientConfig>,
    pub(crate) required: bool,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("required", &self.required).finish_non_exhaustive()
    }
}

/// Certificates or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    #[error("PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("no certificate to trust is given")]
    NoRoots,
}

impl TlsConfig {
    pub fn new(options: &TlsOptions) -> Result<Self, TlsConfigError> {
        let roots = root_store(&options.roots)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let rustls = match &options.client_cert {
            None => builder.with_no_client_auth(),
            Some(cert) => {
                let chain = CertificateDer::pem_slice_iter(&cert.chain_pem).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&cert.key_pem)?)?
            }
        };
        Ok(Self { rustls: Arc::new(rustls), required: options.required })
    }
}

fn root_store(roots: &TlsRoots) -> Result<RootCertStore, TlsConfigError> {
    let mut store = RootCertStore::empty();
    match roots {
        TlsRoots::Webpki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        TlsRoots::Pem(pem) => {
            for cert in CertificateDer::pem_slice_iter(pem) {
                store.add(cert?)?;
            }
        }
        TlsRoots::Der(certs) => {
            for cert in certs {
                store.add(CertificateDer::from(cert.clone()))?;
            }
        }
    }
    if store.is_empty() { Err(TlsConfigError::NoRoots) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(roots: TlsRoots) -> Result<TlsConfig, TlsConfigError> {
        TlsConfig::new(&TlsOptions { roots, client_cert: None, required: true })
    }

    #[test]
    fn roots_that_trust_nobody_are_refused() {
        assert!(with(TlsRoots::Webpki).expect("built in").required);
        assert!(matches!(with(TlsRoots::Pem(b"nothing".to_vec())), Err(TlsConfigError::NoRoots)));
        assert!(matches!(with(TlsRoots::Der(Vec::new())), Err(TlsConfigError::NoRoots)));
        assert!(matches!(with(TlsRoots::Der(vec![b"nothing".to_vec()])), Err(TlsConfigError::Tls(_))));
    }

    #[test]
    fn a_key_is_not_shown() {
        let cert = ClientCert { chain_pem: b"chain".to_vec(), key_pem: b"hunter2".to_vec() };
        let shown = format!("{cert:?}");
        assert!(!shown.contains("104") && shown.contains("***"), "{shown}");
    }
}
