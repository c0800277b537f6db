//! Answers on a listener until it is told to stop.

mod connections;
mod io;
mod requests;

use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connections::{Connections, Guard};
use self::io::Socket;
use self::requests::Requests;

/// At most so much of a head is buffered, and so much of a body that its reader has not taken.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How soon accepting is tried again after it failed.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// At a stop, a client whose turn it is has this long to go on.
const STILL_MAX: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Answers until `shutdown`, then closes idle connections and ends when those at work have been answered. When
/// there are `connections_max`, the one that has been still for longest makes room for the next.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    shutdown: CancellationToken,
) {
    let bounds = Bounds { connections: connections_max.max(1), ..Bounds::default() };
    serve_within(bounds, listener, router, shutdown).await;
}

/// What clients may hold of the server without asking anything of it.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Between the end of an answer, or the beginning of a connection, and the end of the next request's
    /// head. Longer than most clients keep an idle connection, so that they close it and no request meets
    /// a connection that is just being closed.
    head_within: Duration,
    connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head_within: Duration::from_mins(2), connections: 10_000 }
    }
}

async fn serve_within(bounds: Bounds, listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(bounds.head_within).max_buf_size(BUFFER_BYTES_MAX);
    let (open, tasks) = (Connections::new(), TaskTracker::new());
    loop {
        let next = async {
            let stream = accept(&listener, &open).await;
            open.make_room(bounds.connections).await;
            stream
        };
        let Some(stream) = shutdown.run_until_cancelled(next).await else { break };
        let (protocol, router, shutdown) = (protocol.clone(), router.clone(), shutdown.clone());
        let guard = open.add();
        tasks.spawn(async move { answer(&protocol, stream, router, &guard, &shutdown).await });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// The next connection. What fails belongs to one connection, or to the process: it has no descriptors left
/// although the connections are bounded.
async fn accept(listener: &TcpListener, open: &Connections) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!("a connection was gone before it was accepted: {error}");
            }
            Err(error) => {
                metrics::counter!("tsp_descriptors_exhausted_total", "side" => "api").increment(1);
                tracing::error!("cannot accept a connection: {error}; see `tsp doctor` about descriptors");
                open.close_stillest();
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// All requests of one connection.
async fn answer(
    protocol: &http1::Builder,
    stream: TcpStream,
    router: Router,
    guard: &Guard,
    shutdown: &CancellationToken,
) {
    // Answers are small and complete: waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set `nodelay` on a connection: {error}");
    }
    let one = &guard.connection;
    let socket = Socket::new(stream, Arc::clone(one), shutdown.clone());
    let requests = Requests::new(router, Arc::clone(one));
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(socket), requests));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = one.closed_for_room.notified() => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = still(guard) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection has ended: {error}");
    }
}

/// Returns when the client has not gone on for a while although it is its turn.
async fn still(guard: &Guard) {
    while !guard.connection.is_still(STILL_MAX) {
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::{get, post};
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;

    const ROOMY: Bounds = Bounds { head_within: Duration::from_mins(10), connections: 100 };
    const HASTY: Bounds = Bounds { head_within: Duration::from_secs(1), connections: 100 };
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: x";
    const REST: &[u8] = b"\r\n\r\n";

    struct RunningServer {
        address: SocketAddr,
        stop: CancellationToken,
        /// `/slow` has been entered.
        entered: Arc<Notify>,
        /// Lets `/slow` go on.
        go_on: Arc<Notify>,
        task: JoinHandle<()>,
    }

    async fn start(bounds: Bounds) -> RunningServer {
        let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, waits) = (entered.clone(), go_on.clone());
        let slow = move || async move {
            told.notify_one();
            waits.notified().await;
            "late"
        };
        let refuses = || async { (http::StatusCode::PAYLOAD_TOO_LARGE, "too much") };
        let router = Router::new()
            .route("/", get(|| async { "hello" }).post(|body: Bytes| async move { body }))
            .route("/refuses", post(refuses))
            .route("/slow", get(slow));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = TaskTracker::new().spawn(serve_within(bounds, listener, router, stop.clone()));
        RunningServer { address, stop, entered, go_on, task }
    }

    impl RunningServer {
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
    async fn silent_connections_make_room_for_those_that_ask() {
        let server = start(Bounds { connections: 4, ..ROOMY }).await;
        let mut busy = server.client(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.entered.notified().await;
        let mut silent = Vec::new();
        for number in 0..100 {
            silent.push(server.client(if number % 2 == 0 { b"" } else { HALF }).await);
            if number % 10 == 9 {
                let mut asks = server.client(GET).await;
                assert!(read_to(&mut asks, "hello").await.starts_with("HTTP/1.1 200 OK"));
                silent.push(asks);
            }
        }
        for gone in silent.drain(..silent.len() - 4) {
            assert!(!rest(gone).await.contains("200 OK"));
        }
        server.go_on.notify_one();
        read_to(&mut busy, "late").await;
    }

    #[tokio::test]
    async fn the_one_that_has_been_still_for_longest_goes_first() {
        let server = start(Bounds { connections: 3, ..ROOMY }).await;
        let (mut first, mut second, mut third) =
            (server.client(GET).await, server.client(GET).await, server.client(GET).await);
        for client in [&mut first, &mut second, &mut third] {
            read_to(client, "hello").await;
        }
        // Of these three the first is the last one that was heard of.
        first.write_all(GET).await.unwrap();
        read_to(&mut first, "hello").await;
        let mut fourth = server.client(GET).await;
        read_to(&mut fourth, "hello").await;
        first.write_all(GET).await.unwrap();
        read_to(&mut first, "hello").await;
    }

    #[tokio::test]
    async fn those_at_work_are_waited_for() {
        let server = start(Bounds { connections: 1, ..ROOMY }).await;
        let mut busy = server.client(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        server.entered.notified().await;
        let mut second = server.client(GET).await;
        let early = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
        assert!(early.is_err(), "there is room for one");
        server.go_on.notify_one();
        read_to(&mut busy, "late").await;
        assert!(read_to(&mut second, "hello").await.starts_with("HTTP/1.1 200 OK"));
    }

    /// Writes all of a request before it reads, as simple clients do.
    async fn write_first(server: &RunningServer, path: &str, length: usize) -> String {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let mut client = server.client(head.as_bytes()).await;
        client.write_all(&vec![b'x'; length]).await.unwrap();
        client.shutdown().await.unwrap();
        rest(client).await
    }

    #[tokio::test]
    async fn a_refusal_reaches_those_who_write_first() {
        let server = start(ROOMY).await;
        let text = write_first(&server, "/refuses", 20 * 1024 * 1024).await;
        assert!(text.starts_with("HTTP/1.1 413"), "{text}");
        assert!(text.contains("connection: close\r\n") && text.ends_with("too much"), "{text}");
    }

    #[tokio::test]
    async fn a_short_body_that_nobody_reads_costs_no_connection() {
        let server = start(ROOMY).await;
        let request = b"POST /refuses HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";
        let mut client = server.client(request).await;
        for _ in 0..2 {
            let text = read_to(&mut client, "too much").await;
            assert!(text.starts_with("HTTP/1.1 413") && !text.contains("connection: close"), "{text}");
            client.write_all(request).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stop_waits_for_no_client_whose_turn_it_is() {
        let server = start(ROOMY).await;
        let half_a_head = server.client(HALF).await;
        let half_a_body = server.client(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf").await;
        let refused =
            server.client(b"POST /refuses HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n").await;
        let mut known = server.client(GET).await;
        read_to(&mut known, "hello").await;
        server.stop.cancel();
        // They have a minute at least for what they do not do.
        tokio::time::timeout(20 * STILL_MAX, server.task).await.expect("it ends").unwrap();
        drop((half_a_head, half_a_body, refused, known));
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
