//! A server on loopback that answers as badly as a test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Listens until it is dropped.
pub(super) struct FaultServer {
    pub(super) address: SocketAddr,
    pub(super) accepted: Arc<AtomicUsize>,
    /// Each request that was read completely, head and body.
    pub(super) requests: mpsc::UnboundedReceiver<String>,
    /// One signal each time a connection's behaviour has come to its end and the socket is closed.
    pub(super) closed: mpsc::UnboundedReceiver<()>,
    _tasks: JoinSet<()>,
}

/// One accepted connection; `number` counts from 1.
pub(super) struct Peer<S = TcpStream> {
    pub(super) stream: S,
    pub(super) number: usize,
    seen: mpsc::UnboundedSender<String>,
}

impl FaultServer {
    pub(super) async fn start<F, B>(behave: B) -> Self
    where
        B: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (seen, requests) = mpsc::unbounded_channel();
        let (ended, closed) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&accepted);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let behaviour = behave(Peer { stream, number, seen: seen.clone() });
                let ended = ended.clone();
                connections.spawn(async move {
                    behaviour.await;
                    let _ = ended.send(());
                });
            }
        });
        Self { address, accepted, requests, closed, _tasks: tasks }
    }

    /// Reads one request on each connection, writes `answer` and keeps the connection open.
    pub(super) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start(move |mut peer| {
            let answer = Arc::clone(&answer);
            async move { while peer.read_request().await && peer.stream.write_all(&answer).await.is_ok() {} }
        })
        .await
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/close", self.address)
    }

    pub(super) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many requests have been read so far.
    pub(super) fn drain_requests(&mut self) -> usize {
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Reads one request with its body; false at the end of the connection.
    pub(super) async fn read_request(&mut self) -> bool {
        let mut bytes = Vec::new();
        while !is_complete(&bytes) {
            match self.stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        self.seen.send(String::from_utf8(bytes).unwrap()).is_ok()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads until the other side goes away.
    pub(super) async fn wait_for_close(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.stream.read(&mut bytes).await, Ok(1..)) {}
    }
}

impl Peer {
    pub(super) async fn accept_tls(
        self,
        certificate: &[u8],
    ) -> Option<Peer<tokio_rustls::server::TlsStream<TcpStream>>> {
        self.accept(certificate, None).await
    }

    /// Wants a certificate of the other side, too, from this authority.
    pub(super) async fn accept_mutual_tls(
        self,
        certificate: &[u8],
        authority: &[u8],
    ) -> Option<Peer<tokio_rustls::server::TlsStream<TcpStream>>> {
        self.accept(certificate, Some(authority)).await
    }

    async fn accept(
        self,
        certificate: &[u8],
        authority: Option<&[u8]>,
    ) -> Option<Peer<tokio_rustls::server::TlsStream<TcpStream>>> {
        let chain = vec![CertificateDer::from_pem_slice(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("testdata/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match authority {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                config.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let config = config.with_single_cert(chain, key).unwrap();
        let stream = TlsAcceptor::from(Arc::new(config)).accept(self.stream).await.ok()?;
        Some(Peer { stream, number: self.number, seen: self.seen })
    }
}

fn is_complete(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    bytes.len() >= end + 4 + length.map_or(0, |length| length.parse().unwrap())
}
