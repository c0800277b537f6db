//! The one client of an egress profile: its connector and its pools. It follows no redirect, reads no
//! proxy from the environment, decompresses nothing and keeps no cookies.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{DATE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout, timeout_at};
use tsp_core::config::{TargetTls, Timeouts};
use tsp_core::egress::EgressPolicy;

use super::connection::Connection;
use super::connector::{ConnectError, Connector, Origin};
use super::failure::CallError;
use super::keep_alive::idle_limit;
use super::lookup_limits::LOOK_UPS_MAX;
use super::pool::{Pool, Pools};
use super::resolver::Lookup;
use super::stream::Stream;
use super::tls::{Security, TlsProblem};
use super::tsp_result::TSP_RESULT;
use crate::dns::SystemLookup;

/// Unless the settings say otherwise.
const CONNECTIONS_MAX: usize = 8_192;
/// So many idle connections are closed when there are no more descriptors.
const SPARED_AT_ONCE: usize = 16;

/// An egress profile.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    pub policy: EgressPolicy,
    /// The value of `User-Agent`: `tsp/<version>`.
    pub user_agent: String,
    /// Certificate authorities trusted beside the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
    pub lookup: Arc<dyn Lookup>,
    /// Connections open at once, idle ones included.
    pub connections_max: usize,
    /// Look-ups of names at a time; each takes a descriptor, at times two.
    pub look_ups_max: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            policy: EgressPolicy::default(),
            user_agent: concat!("tsp/", env!("CARGO_PKG_VERSION")).to_owned(),
            extra_roots: Vec::new(),
            lookup: Arc::new(SystemLookup::default()),
            connections_max: CONNECTIONS_MAX,
            look_ups_max: LOOK_UPS_MAX,
        }
    }
}

type SendPermission<'a> = &'a (dyn Fn() -> bool + Sync);

/// A complete answer, or one whose body was cut at the cap.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    /// Those that are judged.
    pub headers: HeaderMap,
    /// At most the first 4 KiB of the body.
    pub excerpt: Vec<u8>,
}

pub(super) struct Client {
    connector: Connector,
    all: Arc<Pools>,
    /// A pool lives as long as a prepared target that uses it.
    pools: Mutex<HashMap<Origin, Weak<Pool>>>,
}

impl Client {
    pub(super) fn new(policy: Arc<EgressPolicy>, settings: &ClientSettings) -> Result<Self, rustls::Error> {
        describe_metrics();
        Ok(Self {
            connector: Connector::new(policy, settings)?,
            all: Pools::new(settings.connections_max),
            pools: Mutex::default(),
        })
    }

    /// The pool of an origin, shared by all targets there.
    pub(super) fn pool(&self, origin: Origin) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&origin).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Arc::new(self.all.pool(origin.clone()));
        pools.insert(origin, Arc::downgrade(&pool));
        pool
    }

    /// One exchange within both time-outs. `again` makes the same request again; `may_send` is asked each time.
    pub(super) async fn send(
        &self,
        pool: &Pool,
        request: Request<Full<Bytes>>,
        again: impl Fn() -> Option<Request<Full<Bytes>>>,
        may_send: SendPermission<'_>,
        timeouts: Timeouts,
    ) -> Result<Answer, CallError> {
        let mut status = None;
        let exchange = self.exchange(pool, request, again, may_send, timeouts.connect.to_std(), &mut status);
        match timeout(timeouts.total.to_std(), exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout { status }),
        }
    }

    async fn exchange(
        &self,
        pool: &Pool,
        request: Request<Full<Bytes>>,
        again: impl Fn() -> Option<Request<Full<Bytes>>>,
        may_send: SendPermission<'_>,
        connect_limit: Duration,
        status: &mut Option<StatusCode>,
    ) -> Result<Answer, CallError> {
        let (mut connection, response) =
            self.first_answer(pool, request, again, may_send, connect_limit).await?;
        let (head, body) = response.into_parts();
        *status = Some(head.status);
        let body = connection
            .read(body)
            .await
            .map_err(|error| CallError::Broken { error, status: Some(head.status) })?;
        let (limit, headers) = (idle_limit(&head.headers), copied(&head.headers));
        let status = head.status;
        // The connection reads into the same 8 KiB again, if nobody holds any of them.
        drop(head);
        if body.complete {
            pool.put(connection, limit).await;
        }
        Ok(Answer { status, headers, excerpt: body.excerpt })
    }

    /// Sends until an answer begins. A receiver may close an idle connection at the moment at which it is
    /// used again: then the request goes out once more, on a new connection, with the same attempt number
    /// and `Idempotency-Key`. What breaks on a new connection, or after the first byte of an answer, is
    /// not repeated, nor is what somebody else may have begun meanwhile: the wait for a connection, or for the
    /// old one to break, can outlast a lease.
    async fn first_answer(
        &self,
        pool: &Pool,
        mut request: Request<Full<Bytes>>,
        again: impl Fn() -> Option<Request<Full<Bytes>>>,
        may_send: SendPermission<'_>,
        connect_limit: Duration,
    ) -> Result<(Connection, Response<Incoming>), CallError> {
        let (mut fresh, mut broken) = (false, None);
        loop {
            let mut connection = self.connection(pool, connect_limit, fresh).await?;
            if !may_send() {
                return Err(broken.unwrap_or(CallError::LeaseOver));
            }
            let failure = match connection.send(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(failure) => failure,
            };
            // What was not written goes over any connection.
            fresh = failure.unsent.is_none();
            let repeated = match failure.unsent {
                _ if !connection.reused => None,
                None if !failure.heard => again(),
                unsent => unsent,
            };
            let error = CallError::Broken { error: failure.error, status: None };
            let Some(repeated) = repeated else { return Err(error) };
            request = repeated;
            if fresh {
                broken = Some(error);
            }
        }
    }

    /// An idle connection, or a new one. `fresh`: only a new one.
    async fn connection(&self, pool: &Pool, limit: Duration, fresh: bool) -> Result<Connection, CallError> {
        if !fresh && let Some(connection) = pool.take().await {
            return Ok(connection);
        }
        // In a box: look-ups, races and handshakes make the largest part of a call's future, which is copied for
        // each call, and few calls need it.
        Box::pin(self.open(pool, limit, fresh)).await
    }

    /// A new connection, once it is our turn to open one; unless one has become idle meanwhile.
    async fn open(&self, pool: &Pool, limit: Duration, fresh: bool) -> Result<Connection, CallError> {
        let until = Instant::now() + limit;
        let turn = timeout_at(until, pool.opening.acquire()).await;
        let Ok(_turn) = turn else { return Err(CallError::Connect(ConnectError::Timeout)) };
        if !fresh && let Some(connection) = pool.take().await {
            return Ok(connection);
        }
        let Some(room) = self.all.room(until).await else {
            return Err(CallError::OutOfSockets(
                "all connections that may be open at once are in use".to_owned(),
            ));
        };
        let stream = self.connect(&pool.origin, until).await?;
        Connection::open(stream, room).await.map_err(|error| CallError::Broken { error, status: None })
    }

    async fn connect(&self, origin: &Origin, until: Instant) -> Result<Stream, CallError> {
        let connect = || self.connector.connect(origin, until.saturating_duration_since(Instant::now()));
        match connect().await.map_err(CallError::from) {
            // What others of this process hold was not foreseen; what is idle can be spared.
            Err(CallError::OutOfSockets(_)) if self.all.close_oldest(SPARED_AT_ONCE) => {
                connect().await.map_err(CallError::from)
            }
            connected => connected,
        }
    }

    pub(super) fn security(&self, own: Option<&TargetTls>) -> Result<Security, TlsProblem> {
        self.connector.security(own)
    }

    /// From now on no look-up is waited for.
    pub(super) fn stopping(&self) {
        self.connector.stopping();
    }

    /// Closes what has been idle for too long, and forgets pools that nobody uses.
    pub(super) fn close_idle(&self, now: Instant) {
        self.pools.lock().retain(|_, pool| pool.strong_count() > 0);
        self.all.close_idle(now);
        let (open, idle) = self.all.count();
        metrics::gauge!("tsp_callback_connections", "state" => "busy").set(as_f64(open.saturating_sub(idle)));
        metrics::gauge!("tsp_callback_connections", "state" => "idle").set(as_f64(idle));
    }
}

/// What is judged, and no more: an answer mostly has none of it.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut copies = HeaderMap::new();
    let mut copy = |name: HeaderName| {
        for value in headers.get_all(&name) {
            copies.append(&name, HeaderValue::from_bytes(value.as_bytes()).expect("it was one"));
        }
    };
    copy(TSP_RESULT);
    copy(RETRY_AFTER);
    if headers.contains_key(RETRY_AFTER) {
        // A time of the receiver's clock.
        copy(DATE);
    }
    copies
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn describe_metrics() {
    metrics::describe_gauge!("tsp_callback_connections", "open connections to receivers");
    metrics::describe_counter!(
        "tsp_descriptors_exhausted_total",
        "how often there was no descriptor or port left for a connection"
    );
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
