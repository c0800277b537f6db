//! A way to a server on which a test makes bytes late, holds them up, or lets them vanish, in either direction.

use std::fmt;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

const PIECE: usize = 64 << 10;
/// Pieces on the way in one direction. Who sends more has to wait, as on a road that is jammed.
const PIECES: usize = 64;

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flow {
    #[default]
    Open,
    /// What is sent from now on comes so much later.
    Slow(Duration),
    /// Nothing comes; all of it does when the flow is open again.
    Held,
    /// What is sent is gone. A connection that lost something ends when the flow is open again.
    Lost,
}

/// Both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) to_server: Flow,
    pub(crate) from_server: Flow,
    /// No connection lives, old or new.
    pub(crate) closed: bool,
}

impl Way {
    pub(crate) fn both(flow: Flow) -> Self {
        Self { to_server: flow, from_server: flow, closed: false }
    }

    pub(crate) fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.closed {
            return f.write_str("closed");
        }
        if self.to_server == self.from_server {
            return write!(f, "{:?}", self.to_server);
        }
        write!(f, "{:?} to it and {:?} from it", self.to_server, self.from_server)
    }
}

/// Passes bytes both ways.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    server: Arc<OnceLock<u16>>,
    way: watch::Sender<Way>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// An open one, for a server on loopback.
    pub(crate) fn start(server: u16) -> Self {
        let proxy = Self::ahead();
        proxy.lead_to(server);
        proxy
    }

    /// One whose server is not there yet: it is to be told where it can be reached.
    pub(crate) fn ahead() -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        listener.set_nonblocking(true).expect("a listener can be told not to block");
        let listener = TcpListener::from_std(listener).expect("it is made in a runtime");
        let (server, way) = (Arc::new(OnceLock::new()), watch::Sender::new(Way::default()));
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&server), way.subscribe()));
        Self { port, server, way, _serving: serving }
    }

    pub(crate) fn lead_to(&self, server: u16) {
        self.server.set(server).expect("it leads to one server");
    }

    /// Where it listens on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// What the server says from now on comes so much later.
    pub(crate) fn delay(&self, delay: Duration) {
        self.set(Way { from_server: Flow::Slow(delay), ..Way::default() });
    }
}

async fn accept(listener: TcpListener, server: Arc<OnceLock<u16>>, way: watch::Receiver<Way>) {
    let mut connections = JoinSet::new();
    loop {
        // An accept can fail for a moment under load; the peer tries again.
        let Ok((client, _)) = listener.accept().await else { continue };
        let Some(&server) = server.get() else { continue };
        if !way.borrow().closed {
            connections.spawn(pass(client, server, way.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Until both sides have closed, or the way is. One that breaks ends the other as well.
async fn pass(client: TcpStream, server: u16, mut way: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let asking = Direction { way: way.clone(), flow: |way| way.to_server };
    let answering = Direction { way: way.clone(), flow: |way| way.from_server };
    let both =
        async { tokio::try_join!(asking.run(from_client, to_server), answering.run(from_server, to_client)) };
    tokio::select! {
        _ = both => {}
        _ = way.wait_for(|way| way.closed) => {}
    }
}

type Piece = (Instant, Vec<u8>);

/// Something was lost, so what follows makes no sense.
struct ConnectionLoss;

struct Direction {
    way: watch::Receiver<Way>,
    flow: fn(&Way) -> Flow,
}

impl Direction {
    async fn run(mut self, from: OwnedReadHalf, to: OwnedWriteHalf) -> Result<(), ConnectionLoss> {
        let (held, release) = mpsc::channel(PIECES);
        let delay = {
            let (way, flow) = (self.way.clone(), self.flow);
            move || match flow(&way.borrow()) {
                Flow::Slow(delay) => delay,
                _ => Duration::ZERO,
            }
        };
        let ((), given) = tokio::join!(take(from, held, delay), self.give(to, release));
        given
    }

    /// In the order in which they were sent, even if the delay became less in between.
    async fn give(
        &mut self,
        mut to: OwnedWriteHalf,
        mut release: mpsc::Receiver<Piece>,
    ) -> Result<(), ConnectionLoss> {
        let flow = self.flow;
        while let Some((due, piece)) = release.recv().await {
            sleep_until(due).await;
            // Only a dropped sender ends these waits with an error: then the proxy goes.
            let passes = self.way.wait_for(|way| flow(way) != Flow::Held).await.map(|way| flow(&way));
            if passes.is_ok_and(|flow| flow == Flow::Lost) {
                drop(self.way.wait_for(|way| flow(way) != Flow::Lost).await);
                return Err(ConnectionLoss);
            }
            if piece.is_empty() || to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
        Ok(())
    }
}

async fn take(mut from: OwnedReadHalf, held: mpsc::Sender<Piece>, delay: impl Fn() -> Duration) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = from.read(&mut piece).await.unwrap_or(0);
        piece.truncate(read);
        let due = Instant::now() + delay();
        // The end of the stream comes late as everything else does.
        if held.send((due, piece)).await.is_err() || read == 0 {
            return;
        }
    }
}
