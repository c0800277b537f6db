//! Answers on a listener until it is told to stop.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Answers until `shutdown`, then closes idle connections and ends when those at work have been answered.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    serve_within(Bounds::default(), listener, router, shutdown).await;
    Ok(())
}

/// What clients may hold of the server without asking anything of it.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Between the end of an answer, or the beginning of a connection, and the end of the next request's
    /// head. Longer than most clients keep an idle connection, so that they close it and no request meets
    /// a connection that is just being closed.
    head_within: Duration,
    /// More connections wait in the kernel until one of these ends.
    connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head_within: Duration::from_mins(2), connections: 10_000 }
    }
}

async fn serve_within(
    bounds: Bounds,
    mut listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(bounds.head_within);
    let (room, connections) = (Arc::new(Semaphore::new(bounds.connections)), TaskTracker::new());
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            // It tries again by itself when there are no more file descriptors.
            (permit, Listener::accept(&mut listener).await.0)
        };
        let Some((permit, stream)) = shutdown.run_until_cancelled(next).await else { break };
        let (protocol, router, shutdown) = (protocol.clone(), router.clone(), shutdown.clone());
        connections.spawn(async move {
            answer(&protocol, stream, router, &shutdown).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// All requests of one connection.
async fn answer(protocol: &http1::Builder, stream: TcpStream, router: Router, shutdown: &CancellationToken) {
    // Answers are small and complete: waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set `nodelay` on a connection: {error}");
    }
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection has ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;

    const ROOMY: Bounds = Bounds { head_within: Duration::from_mins(10), connections: 100 };
    const HASTY: Bounds = Bounds { head_within: Duration::from_millis(100), connections: 100 };
    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: x";
    const REST: &[u8] = b"\r\n\r\n";

    struct Running {
        address: SocketAddr,
        stop: CancellationToken,
        /// `/slow` has been entered.
        entered: Arc<Notify>,
        /// Lets `/slow` go on.
        go_on: Arc<Notify>,
        task: JoinHandle<()>,
    }

    async fn start(bounds: Bounds) -> Running {
        let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, waits) = (entered.clone(), go_on.clone());
        let slow = move || async move {
            told.notify_one();
            waits.notified().await;
            "late"
        };
        let router = Router::new().route("/", get(|| async { "hello" })).route("/slow", get(slow));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = TaskTracker::new().spawn(serve_within(bounds, listener, router, stop.clone()));
        Running { address, stop, entered, go_on, task }
    }

    impl Running {
        async fn client(&self, first: &[u8]) -> TcpStream {
            let mut client = TcpStream::connect(self.address).await.unwrap();
            client.write_all(first).await.unwrap();
            client
        }
    }

    /// What comes up to and with `end`.
    async fn read_to(client: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let byte = client.read_u8().await.unwrap_or_else(|error| panic!("{error} after {text:?}"));
            text.push(char::from(byte));
        }
        text
    }

    /// Everything until the server closes the connection.
    async fn rest(mut client: TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn half_a_request_is_not_waited_for_forever() {
        let server = start(HASTY).await;
        let text = rest(server.client(HALF).await).await;
        assert!(!text.contains("200 OK"), "{text}");
        assert!(!rest(server.client(b"").await).await.contains("200 OK"), "nor is none at all");
        let mut client = server.client(&[HALF, REST].concat()).await;
        assert!(read_to(&mut client, "hello").await.starts_with("HTTP/1.1 200 OK"), "others are answered");
        client.write_all(HALF).await.unwrap();
        assert!(!rest(client).await.contains("200 OK"), "nor is the second request of a connection");
    }

    #[tokio::test]
    async fn a_slow_answer_is_no_slow_request() {
        let server = start(HASTY).await;
        let mut client = server.client(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.entered.notified().await;
        // Whoever came after it and was silent has been shut out by now.
        rest(server.client(b"").await).await;
        server.go_on.notify_one();
        assert!(read_to(&mut client, "late").await.starts_with("HTTP/1.1 200 OK"));
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait() {
        let server = start(Bounds { connections: 1, ..ROOMY }).await;
        let first = server.client(HALF).await;
        let mut second = server.client(&[HALF, REST].concat()).await;
        let early = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
        assert!(early.is_err(), "there is room for one");
        drop(first);
        assert!(read_to(&mut second, "hello").await.starts_with("HTTP/1.1 200 OK"));
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_and_waits_for_answers() {
        let server = start(ROOMY).await;
        let mut idle = server.client(&[HALF, REST].concat()).await;
        read_to(&mut idle, "hello").await;
        let silent = server.client(b"").await;
        let mut busy = server.client(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.entered.notified().await;
        server.stop.cancel();
        assert_eq!(rest(idle).await, "");
        assert_eq!(rest(silent).await, "");
        assert!(!server.task.is_finished(), "one request has no answer yet");
        server.go_on.notify_one();
        assert!(read_to(&mut busy, "late").await.contains("connection: close"));
        server.task.await.unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
