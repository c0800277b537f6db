//! The one client of an egress profile: its connector and its pools. It follows no redirect, reads no
//! proxy from the environment, decompresses nothing and keeps no cookies.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout};
use tsp_core::config::{TargetTls, Timeouts};
use tsp_core::egress::EgressPolicy;

use super::connection::Connection;
use super::connector::{ConnectError, Connector, Origin};
use super::failure::CallError;
use super::pool::Pool;
use super::resolver::Lookup;
use super::tls::{Security, TlsProblem};
use crate::dns::SystemLookup;

/// An egress profile.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    pub policy: EgressPolicy,
    /// The value of `User-Agent`: `tsp/<version>`.
    pub user_agent: String,
    /// Certificate authorities trusted beside the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
    pub lookup: Arc<dyn Lookup>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            policy: EgressPolicy::default(),
            user_agent: concat!("tsp/", env!("CARGO_PKG_VERSION")).to_owned(),
            extra_roots: Vec::new(),
            lookup: Arc::new(SystemLookup::default()),
        }
    }
}

/// A complete answer, or one whose body was cut at the cap.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// At most the first 4 KiB of the body.
    pub excerpt: Vec<u8>,
}

pub(super) struct Client {
    connector: Connector,
    /// A pool lives as long as a prepared target that uses it.
    pools: Mutex<HashMap<Origin, Weak<Pool>>>,
}

impl Client {
    pub(super) fn new(policy: Arc<EgressPolicy>, settings: &ClientSettings) -> Result<Self, rustls::Error> {
        Ok(Self { connector: Connector::new(policy, settings)?, pools: Mutex::default() })
    }

    /// The pool of an origin, shared by all targets there.
    pub(super) fn pool(&self, origin: Origin) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(&origin).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Arc::new(Pool::new(origin.clone()));
        pools.insert(origin, Arc::downgrade(&pool));
        pool
    }

    /// One exchange within both time-outs.
    pub(super) async fn send(
        &self,
        pool: &Pool,
        request: Request<Full<Bytes>>,
        timeouts: Timeouts,
    ) -> Result<Answer, CallError> {
        let mut status = None;
        let exchange = self.exchange(pool, request, timeouts.connect.to_std(), &mut status);
        match timeout(timeouts.total.to_std(), exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout { status }),
        }
    }

    async fn exchange(
        &self,
        pool: &Pool,
        request: Request<Full<Bytes>>,
        connect_limit: Duration,
        status: &mut Option<StatusCode>,
    ) -> Result<Answer, CallError> {
        let (mut connection, response) = self.first_answer(pool, request, connect_limit).await?;
        let (head, body) = response.into_parts();
        *status = Some(head.status);
        let body = connection
            .read(body)
            .await
            .map_err(|error| CallError::Broken { error, status: Some(head.status) })?;
        if body.complete {
            pool.put(connection).await;
        }
        Ok(Answer { status: head.status, headers: head.headers, excerpt: body.excerpt })
    }

    /// Sends until a connection takes the request. Only an idle connection that turned out to be dead
    /// before anything was written is replaced; whatever was written may have been executed.
    async fn first_answer(
        &self,
        pool: &Pool,
        mut request: Request<Full<Bytes>>,
        connect_limit: Duration,
    ) -> Result<(Connection, Response<Incoming>), CallError> {
        loop {
            let mut connection = match pool.take().await {
                Some(connection) => connection,
                None => self.open(pool, connect_limit).await?,
            };
            match connection.send(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(failure) => match failure.unsent {
                    Some(unsent) if connection.reused => request = unsent,
                    _ => return Err(CallError::Broken { error: failure.error, status: None }),
                },
            }
        }
    }

    /// A new connection, once it is our turn to open one; or one that became idle meanwhile.
    async fn open(&self, pool: &Pool, limit: Duration) -> Result<Connection, CallError> {
        let started = Instant::now();
        let turn = timeout(limit, pool.opening.acquire()).await;
        let Ok(_turn) = turn else { return Err(CallError::Connect(ConnectError::Timeout)) };
        if let Some(connection) = pool.take().await {
            return Ok(connection);
        }
        let left = limit.saturating_sub(started.elapsed());
        let stream = self.connector.connect(&pool.origin, left).await.map_err(CallError::Connect)?;
        Connection::open(stream).await.map_err(|error| CallError::Broken { error, status: None })
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
        let mut live = Vec::new();
        self.pools.lock().retain(|_, pool| {
            pool.upgrade().is_some_and(|pool| {
                live.push(pool);
                true
            })
        });
        for pool in live {
            pool.close_idle(now);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
