//! The HTTP handler: from a begun attempt to its verdict.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http::header::HeaderValue;
use http_body_util::Full;
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::time::Instant;
use tracing::{debug, error};
use tsp_consumer_core::{TaskContext, TaskHandler};
use tsp_core::config::{Target, TaskConfig};
use tsp_core::egress::EgressPolicy;
use tsp_core::entropy::Entropy;
use tsp_core::ids::{ConfigId, IdMap};
use tsp_core::outcome::Verdict;

use super::client::{Answer, Client, ClientSettings};
use super::failure::CallError;
use super::request;
use super::target::{PreparedTarget, TargetError};
use super::verdict::judge;

/// The most configs whose targets are kept ready.
const PREPARED_MAX: usize = 10_000;
const ALARM_EVERY: Duration = Duration::from_secs(10);

/// Settings of which no client can be made.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error("the user agent is no header value")]
    UserAgent,
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// What was made of a config.
#[derive(Debug)]
struct PreparedConfig {
    /// Of the config.
    version: i64,
    target: Result<Arc<PreparedTarget>, TargetError>,
}

/// Calls HTTP targets. One per egress profile, shared by all workers of a process.
#[derive(Debug)]
pub struct HttpHandler {
    client: Client,
    policy: Arc<EgressPolicy>,
    entropy: Arc<dyn Entropy>,
    user_agent: HeaderValue,
    prepared: RwLock<IdMap<ConfigId, PreparedConfig>>,
    /// When it was last logged that there is no room for connections.
    alarmed: Mutex<Option<Instant>>,
}

impl HttpHandler {
    pub fn new(settings: &ClientSettings, entropy: Arc<dyn Entropy>) -> Result<Self, SetupError> {
        let policy = Arc::new(settings.policy.clone());
        Ok(Self {
            client: Client::new(Arc::clone(&policy), settings)?,
            policy,
            entropy,
            user_agent: HeaderValue::from_str(&settings.user_agent).map_err(|_| SetupError::UserAgent)?,
            prepared: RwLock::default(),
            alarmed: Mutex::default(),
        })
    }

    /// Runs one attempt to its verdict, within the config's time-outs. It never fails: what goes wrong is
    /// a verdict too. Dropping the future closes the connection; the receiver may have acted.
    pub async fn call(&self, call: &TaskContext) -> Verdict {
        let prepared = self.prepare(&call.config);
        let request = prepared.and_then(|target| Ok((self.request(&target, call)?, target)));
        let (request, target) = match request {
            Ok(ready) => ready,
            Err(error) => {
                debug!(task = call.task.id.get(), %error, "callback not sent");
                return error.verdict();
            }
        };
        match self.send(&target, call, request).await {
            Ok(answer) => judge(&answer, &call.task, &call.config, call.now),
            Err(error) => {
                let reason = error.reason();
                debug!(task = call.task.id.get(), attempt = call.task.attempt, reason, %error, "callback failed");
                if let CallError::OutOfSockets(cause) = &error {
                    self.alarm(cause);
                }
                error.verdict(call.now, self.entropy.jitter_fraction())
            }
        }
    }

    /// The part of the requests that is the same for all tasks of a config, made once per version.
    pub fn prepare(&self, config: &TaskConfig) -> Result<Arc<PreparedTarget>, TargetError> {
        if let Some(prepared) = self.prepared.read().get(&config.id)
            && prepared.version == config.version
        {
            return prepared.target.clone();
        }
        let target = self.prepare_unsaved(config);
        let mut prepared = self.prepared.write();
        if prepared.len() >= PREPARED_MAX {
            prepared.clear();
        }
        prepared.insert(config.id, PreparedConfig { version: config.version, target: target.clone() });
        target
    }

    /// The same for a config that has no version of its own yet, such as that of a test call.
    pub fn prepare_unsaved(&self, config: &TaskConfig) -> Result<Arc<PreparedTarget>, TargetError> {
        PreparedTarget::new(config, &self.policy, &self.user_agent, &self.client).map(Arc::new)
    }

    /// The request of one attempt.
    pub fn request(
        &self,
        target: &PreparedTarget,
        call: &TaskContext,
    ) -> Result<Request<Full<Bytes>>, TargetError> {
        request::build(target, call, &*self.entropy)
    }

    /// One exchange within the target's time-outs. `request` is that of `call`.
    pub async fn send(
        &self,
        target: &PreparedTarget,
        call: &TaskContext,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, CallError> {
        let (again, may_send) = (|| self.request(target, call).ok(), || call.fence.may_send());
        self.client.send(&target.pool, request, again, &may_send, target.timeouts).await
    }

    /// Once in a while, and counted each time.
    fn alarm(&self, cause: &str) {
        metrics::counter!("tsp_descriptors_exhausted_total", "side" => "callbacks").increment(1);
        let now = Instant::now();
        let mut alarmed = self.alarmed.lock();
        if alarmed.is_none_or(|last| now.duration_since(last) >= ALARM_EVERY) {
            *alarmed = Some(now);
            error!(cause, "callbacks find no room for a connection and are put off; see `tsp doctor`");
        }
    }

    /// The process is about to stop: names that are not found soon are not waited for.
    pub fn stopping(&self) {
        self.client.stopping();
    }

    /// Closes connections that have been idle for too long. To be called every few seconds.
    pub fn close_idle(&self, now: Instant) {
        self.client.close_idle(now);
    }
}

#[async_trait]
impl TaskHandler for HttpHandler {
    async fn execute(&self, task: &TaskContext) -> Verdict {
        match &task.config.spec.target {
            Target::Http(_) => self.call(task).await,
        }
    }
}
