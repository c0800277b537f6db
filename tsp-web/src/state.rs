//! What every handler is given.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tsp_core::config::{Secret, TargetTls};
use tsp_core::egress::EgressPolicy;
use tsp_core::{Clock, Entropy, Timestamp};
use tsp_store::{IdSource, Store};

use crate::auth::KeyCache;
use crate::configs::Turns;
use crate::error::{ApiError, ApiResult};
use crate::in_flight::InFlight;
use crate::observe::HttpMetrics;
use crate::ports::{DevHooks, Readiness, Topology, WakeHints};
use crate::request::RequestIds;
use crate::room::Room;
use crate::service::Inbox;

/// What the wiring brings.
pub struct WebDependencies {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub ids: IdSource,
    pub hints: Arc<dyn WakeHints>,
    pub egress: EgressPolicy,
    pub check_tls: TlsCheck,
    pub settings: WebSettings,
    /// Renders `/metrics`; `None` where no recorder is installed.
    pub metrics: Option<PrometheusHandle>,
    /// `Some` in the development server only: it opens the API to loopback without a key.
    pub dev: Option<Arc<dyn DevHooks>>,
    pub readiness: Arc<dyn Readiness>,
    pub topology: Arc<dyn Topology>,
}

impl std::fmt::Debug for WebDependencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebDependencies").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Says what is wrong with the certificates of a target: the field below `target.tls`, and a message.
pub type TlsCheck = fn(&TargetTls) -> Result<(), (&'static str, String)>;

/// More previews than this at once are refused (DESIGN.md section 12).
const PREVIEWS_MAX: usize = 4;

/// The settings of this crate.
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// The most bytes of a payload (API.md section 1: 64 KiB by default, up to 1 MiB).
    pub payload_bytes_max: usize,
    /// Whether `/metrics` needs no key.
    pub metrics_open: bool,
    /// A global admin key given by the operator.
    pub bootstrap_key: Option<Secret>,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self { payload_bytes_max: 64 * 1024, metrics_open: false, bootstrap_key: None }
    }
}

impl WebSettings {
    /// The most bytes of a body other than a batch's: a payload and everything around it.
    pub fn body_bytes_max(&self) -> usize {
        self.payload_bytes_max + 64 * 1024
    }
}

/// [`WebDependencies`], and what this crate keeps between requests.
pub struct WebState {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub ids: IdSource,
    pub hints: Arc<dyn WakeHints>,
    pub egress: EgressPolicy,
    pub check_tls: TlsCheck,
    pub settings: WebSettings,
    pub metrics: Option<PrometheusHandle>,
    pub dev: Option<Arc<dyn DevHooks>>,
    pub readiness: Arc<dyn Readiness>,
    pub topology: Arc<dyn Topology>,
    pub(crate) keys: KeyCache,
    pub(crate) in_flight: InFlight,
    /// Changes of a config, one after the other.
    pub(crate) turns: Turns,
    pub(crate) request_ids: RequestIds,
    /// Tells tasks without a key apart when they are spread over shards; random at first.
    pub(crate) next_salt: AtomicU64,
    /// How many previews of schedules may run at once.
    pub(crate) previews: Arc<Semaphore>,
    /// The receiver of a development server.
    pub(crate) inbox: Inbox,
    pub(crate) http: HttpMetrics,
    /// For the bodies of all requests in flight.
    pub(crate) room: Room,
    /// What is done to the end whether or not its caller still listens.
    pub(crate) to_the_end: TaskTracker,
}

impl WebState {
    pub fn new(parts: WebDependencies) -> Arc<Self> {
        let keys = KeyCache::new(parts.settings.bootstrap_key.as_ref());
        let request_ids = RequestIds::new(parts.entropy.as_ref());
        let mut salt = [0; 8];
        parts.entropy.fill(&mut salt);
        Arc::new(Self {
            store: parts.store,
            clock: parts.clock,
            entropy: parts.entropy,
            ids: parts.ids,
            hints: parts.hints,
            egress: parts.egress,
            check_tls: parts.check_tls,
            settings: parts.settings,
            metrics: parts.metrics,
            dev: parts.dev,
            readiness: parts.readiness,
            topology: parts.topology,
            keys,
            in_flight: InFlight::default(),
            turns: Turns::default(),
            request_ids,
            next_salt: AtomicU64::new(u64::from_le_bytes(salt)),
            previews: Arc::new(Semaphore::new(PREVIEWS_MAX)),
            inbox: Inbox::default(),
            http: HttpMetrics::new(),
            room: Room::default(),
            to_the_end: TaskTracker::new(),
        })
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does `work` in several steps that must not be left half done: it goes on when the caller hangs up.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = ApiResult<T>> + Send + 'static,
    ) -> ApiResult<T> {
        self.to_the_end.spawn(work).await.unwrap_or_else(|panic| Err(ApiError::internal(panic)))
    }
}

impl std::fmt::Debug for WebState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebState").field("settings", &self.settings).finish_non_exhaustive()
    }
}
