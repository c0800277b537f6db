//! A way to a server on which answers take as long as the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

const PIECE: usize = 64 << 10;

/// Passes bytes both ways; those from the server come late by the delay of the moment at which it sent them.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    delay_ms: Arc<AtomicU64>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// One with no delay, for a server on loopback.
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let delay_ms = Arc::new(AtomicU64::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, server, Arc::clone(&delay_ms)));
        Self { port, delay_ms, _serving: serving }
    }

    /// Where it listens on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the server says from now on comes so much later.
    pub(crate) fn delay(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).expect("no test is so long"), Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, server: u16, delay_ms: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        // An accept can fail for a moment under load; the peer tries again.
        let Ok((client, _)) = listener.accept().await else { continue };
        connections.spawn(pass(client, server, Arc::clone(&delay_ms)));
        while connections.try_join_next().is_some() {}
    }
}

/// Until both sides have closed. One that breaks ends the other as well.
async fn pass(client: TcpStream, server: u16, delay_ms: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let (held, release) = mpsc::unbounded_channel();
    let asking = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    tokio::join!(asking, hold(from_server, held, &delay_ms), give(to_client, release));
}

type Held = (Instant, Vec<u8>);

async fn hold(mut server: OwnedReadHalf, held: mpsc::UnboundedSender<Held>, delay_ms: &AtomicU64) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = server.read(&mut piece).await.unwrap_or(0);
        piece.truncate(read);
        let due = Instant::now() + Duration::from_millis(delay_ms.load(Ordering::Relaxed));
        // The end of the stream comes late as everything else does.
        if held.send((due, piece)).is_err() || read == 0 {
            return;
        }
    }
}

/// In the order in which they were said, even if the delay became less in between.
async fn give(mut client: OwnedWriteHalf, mut release: mpsc::UnboundedReceiver<Held>) {
    while let Some((due, piece)) = release.recv().await {
        sleep_until(due).await;
        if piece.is_empty() || client.write_all(&piece).await.is_err() {
            break;
        }
    }
    let _ = client.shutdown().await;
}
