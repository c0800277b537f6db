//! A callback receiver inside the test: it keeps every arrival, answers as it is told, and lets the
//! test wait for the n-th arrival by a signal.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tsp_core::{Millis, Timestamp};

use super::{in_time, now, past, time};

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Timestamp,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// It was interrupted without an answer; on a kept-alive connection the same attempt is sent once more.
    pub(crate) dropped: bool,
    left: Leaving,
}

/// When a request left the receiver: with its answer, or because its caller was gone.
#[derive(Clone, Debug, Default)]
struct Leaving(Arc<OnceLock<Timestamp>>);

/// Says so however the work on a request ends.
struct RequestGuard(Leaving);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let _ = self.0.0.set(now());
    }
}

impl Arrival {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("the callback has no `{name}`: {:?}", self.headers))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    #[track_caller]
    pub(crate) fn task(&self) -> &str {
        self.header("tsp-task-id")
    }

    #[track_caller]
    pub(crate) fn attempt(&self) -> u32 {
        self.header("tsp-attempt").parse().expect("`TSP-Attempt` is a number")
    }

    #[track_caller]
    pub(crate) fn execute_at(&self) -> Timestamp {
        time(self.header("tsp-execute-at"))
    }

    /// When it was answered or cut off; `None` while it is here.
    pub(crate) fn left_at(&self) -> Option<Timestamp> {
        self.left.0.get().copied()
    }

    /// Milliseconds after the promised time; negative is a broken promise.
    #[track_caller]
    pub(crate) fn lateness_ms(&self) -> i64 {
        self.at.since(self.execute_at()).ms()
    }
}

/// What the receiver does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16, Vec<(&'static str, String)>),
    /// Waits for the gate, then does the other.
    After(Gate, Box<Reply>),
    /// Takes so long for the other.
    Slowly(Millis, Box<Reply>),
    /// Closes the connection without an answer.
    Drop,
    /// 200 with a body of so many bytes.
    Body(usize),
}

impl Reply {
    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }

    pub(crate) fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Status(status, mut headers) => {
                headers.push((name, value.into()));
                Self::Status(status, headers)
            }
            other => other,
        }
    }

    fn drops(&self) -> bool {
        match self {
            Self::Drop => true,
            Self::After(_, then) | Self::Slowly(_, then) => then.drops(),
            Self::Status(..) | Self::Body(_) => false,
        }
    }

    pub(crate) fn slowly(self, lasts: Millis) -> Self {
        Self::Slowly(lasts, Box::new(self))
    }

    pub(crate) fn after(self, gate: &Gate) -> Self {
        Self::After(gate.clone(), Box::new(self))
    }
}

/// Holds answers back until the test opens it. Stays open.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        // Only a dropped sender ends this wait with an error, and `self` holds one.
        drop(self.0.subscribe().wait_for(|open| *open).await);
    }
}

type Decide = Arc<dyn Fn(&Arrival) -> Reply + Send + Sync>;

#[derive(Default)]
struct State {
    arrivals: Mutex<Vec<Arrival>>,
    count: watch::Sender<usize>,
    rules: Mutex<HashMap<String, Decide>>,
}

/// Answers 200 to every path without a rule.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({})", self.address)
    }
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::listening("127.0.0.1:0").await
    }

    /// It answers at every address of 127.0.0.0/8.
    pub(crate) async fn on_all_of_loopback() -> Self {
        Self::listening("0.0.0.0:0").await
    }

    async fn listening(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State::default());
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _serving: serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The same at another address of loopback.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// From now on `decide` answers what comes to `path`.
    pub(crate) fn on(&self, path: &str, decide: impl Fn(&Arrival) -> Reply + Send + Sync + 'static) {
        self.state.rules.lock().insert(path.to_owned(), Arc::new(decide));
    }

    /// From now on what comes to `path` is answered with `reply`.
    pub(crate) fn always(&self, path: &str, reply: Reply) {
        self.on(path, move |_| reply.clone());
    }

    /// Answers what comes to `path` with `replies` in order; the last one repeats.
    pub(crate) fn script(&self, path: &str, replies: Vec<Reply>) {
        let given = Mutex::new(0);
        self.on(path, move |_| {
            let mut given = given.lock();
            let reply = replies[(*given).min(replies.len() - 1)].clone();
            *given += 1;
            reply
        });
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state.arrivals.lock().clone()
    }

    pub(crate) fn at(&self, path: &str) -> Vec<Arrival> {
        let mut all = self.arrivals();
        all.retain(|arrival| arrival.path == path);
        all
    }

    pub(crate) fn count(&self) -> usize {
        *self.state.count.borrow()
    }

    /// The n-th arrival, from 1, wherever it went.
    #[track_caller]
    pub(crate) fn nth(&self, n: usize) -> impl Future<Output = Arrival> + use<> {
        let wait = self.until(format!("arrival {n}"), move |all| all.len() >= n);
        async move { wait.await.swap_remove(n - 1) }
    }

    /// The n-th arrival at `path`, from 1.
    #[track_caller]
    pub(crate) fn nth_at(&self, path: &str, n: usize) -> impl Future<Output = Arrival> + use<> {
        let wanted = path.to_owned();
        let wait = self.until(format!("arrival {n} at `{path}`"), move |all| {
            all.iter().filter(|arrival| arrival.path == wanted).count() >= n
        });
        let path = path.to_owned();
        async move {
            let mut all = wait.await;
            all.retain(|arrival| arrival.path == path);
            all.swap_remove(n - 1)
        }
    }

    /// All arrivals, once they are such that `enough` holds; it is asked at every arrival.
    #[track_caller]
    pub(crate) fn until<F: Fn(&[Arrival]) -> bool>(
        &self,
        what: String,
        enough: F,
    ) -> impl Future<Output = Vec<Arrival>> + use<F> {
        in_time(what, self.until_at_last(enough))
    }

    /// The same with no end of patience: the caller has its own.
    pub(crate) fn until_at_last<F: Fn(&[Arrival]) -> bool>(
        &self,
        enough: F,
    ) -> impl Future<Output = Vec<Arrival>> + use<F> {
        let state = Arc::clone(&self.state);
        let mut count = self.state.count.subscribe();
        async move {
            loop {
                count.borrow_and_update();
                {
                    let arrivals = state.arrivals.lock();
                    if enough(&arrivals) {
                        return arrivals.clone();
                    }
                }
                count.changed().await.expect("the state holds the sender");
            }
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        // An accept can fail for a moment under load; the peer tries again.
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve(stream, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| respond(request, Arc::clone(&state)));
    // A connection that breaks is what several tests are about.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn respond(request: Request<Incoming>, state: Arc<State>) -> io::Result<Response<Body>> {
    let at = now();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path().to_owned();
    let left = Leaving::default();
    let _stay = RequestGuard(left.clone());
    let (method, headers) = (head.method.to_string(), head.headers);
    let mut arrival = Arrival { at, method, path, headers, body, dropped: false, left };
    let rule = state.rules.lock().get(&arrival.path).cloned();
    let reply = rule.map_or_else(Reply::ok, |decide| decide(&arrival));
    arrival.dropped = reply.drops();
    {
        let mut arrivals = state.arrivals.lock();
        arrivals.push(arrival);
        state.count.send_replace(arrivals.len());
    }
    play(reply).await
}

async fn play(mut reply: Reply) -> io::Result<Response<Body>> {
    loop {
        reply = match reply {
            Reply::After(gate, then) => {
                gate.passed().await;
                *then
            }
            Reply::Slowly(lasts, then) => {
                past(now().plus(lasts)).await;
                *then
            }
            _ => break,
        };
    }
    match reply {
        Reply::After(..) | Reply::Slowly(..) => unreachable!("the loop above has taken them all"),
        Reply::Drop => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        Reply::Status(status, headers) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            let body = Full::new(Bytes::from_static(b"received")).boxed_unsync();
            response.body(body).map_err(io::Error::other)
        }
        Reply::Body(size) => {
            const CHUNK: usize = 64 * 1024;
            let chunk = Bytes::from(vec![b'x'; CHUNK]);
            let chunks =
                futures::stream::repeat(chunk).take(size / CHUNK).map(|chunk| Ok(Frame::data(chunk)));
            Ok(Response::new(StreamBody::new(chunks).boxed_unsync()))
        }
    }
}
