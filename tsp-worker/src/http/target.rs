//! What of a request is the same for all tasks of a config, made once per version of the config.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use thiserror::Error;
use tsp_core::config::{Target, TaskConfig, Timeouts};
use tsp_core::egress::{EgressDenied, EgressPolicy};
use tsp_core::headers::{check_user_header, is_reserved};
use tsp_core::outcome::Verdict;

use super::client::Client;
use super::connector::Origin;
use super::pool::Pool;
use super::request::names;
use super::sign::{BadSecret, Signer};
use super::tls::TlsProblem;

/// A target that cannot be called however often it is tried. The API refuses all of these when a config
/// is saved; the egress policy may have changed since.
#[derive(Debug, Clone, Error)]
pub enum TargetError {
    #[error("the URL {0}")]
    Denied(#[from] EgressDenied),
    #[error("`{0}` is no method of a callback")]
    Method(String),
    #[error("the header `{name}` {problem}")]
    Header { name: String, problem: String },
    #[error("a signing secret is `whsec_` and base64")]
    Secret,
    #[error("the completion token is no header value")]
    Token,
    #[error("`tls.{}` {}", .0.field, .0.message)]
    Tls(TlsProblem),
}

impl From<BadSecret> for TargetError {
    fn from(_: BadSecret) -> Self {
        Self::Secret
    }
}

impl From<TlsProblem> for TargetError {
    fn from(problem: TlsProblem) -> Self {
        Self::Tls(problem)
    }
}

impl TargetError {
    /// Final: nothing was sent, and nothing will be better next time.
    pub fn verdict(&self) -> Verdict {
        Verdict::fail(match self {
            Self::Denied(_) => "egress_denied",
            Self::Method(_) | Self::Secret | Self::Tls(_) => "invalid_target",
            Self::Header { .. } | Self::Token => "invalid_header",
        })
    }
}

/// A config's target, ready to be called.
pub struct PreparedTarget {
    pub(super) pool: Arc<Pool>,
    pub(super) timeouts: Timeouts,
    pub(super) method: Method,
    /// Path and query: the host stands in `Host`.
    pub(super) uri: Uri,
    /// Of the config and of the service, none of a task.
    pub(super) headers: HeaderMap,
    /// False for GET and HEAD (API.md section 3).
    pub(super) sends_body: bool,
    pub(super) payload: Option<Bytes>,
    pub(super) signer: Option<Signer>,
}

impl PreparedTarget {
    pub(super) fn new(
        config: &TaskConfig,
        policy: &EgressPolicy,
        user_agent: &HeaderValue,
        client: &Client,
    ) -> Result<Self, TargetError> {
        let Target::Http(target) = &config.spec.target;
        let url = policy.check_url(&target.url)?;
        let security = url.is_https().then(|| client.security(target.tls.as_ref())).transpose()?;
        let method = method(&target.method)?;
        let malformed = |_| TargetError::Denied(EgressDenied::Malformed);
        let mut headers = HeaderMap::with_capacity(target.headers.len() + target.secret_headers.len() + 4);
        headers.insert(HOST, HeaderValue::from_str(url.authority()).map_err(malformed)?);
        headers.insert(USER_AGENT, user_agent.clone());
        let name_value = |name: &str| HeaderValue::from_str(name).map_err(malformed);
        headers.insert(names::APP, name_value(config.app.as_str())?);
        headers.insert(names::CONFIG, name_value(config.spec.name.as_str())?);
        for (name, value) in given(&target.headers) {
            let (name, value) = user_header(name, value)?;
            headers.insert(name, value);
        }
        for (name, value) in given(&target.secret_headers) {
            let (name, mut value) = user_header(name, value.expose())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self {
            uri: url.path_and_query().parse().map_err(|_| TargetError::Denied(EgressDenied::Malformed))?,
            pool: client.pool(Origin::new(config.app_id, &url, security)),
            timeouts: config.spec.timeout,
            sends_body: !matches!(method, Method::GET | Method::HEAD),
            method,
            headers,
            payload: config.spec.payload.clone(),
            signer: Signer::new(&config.spec.signing_secrets)?,
        })
    }
}

/// CONNECT and TRACE make something else of a connection or of the answer.
fn method(text: &str) -> Result<Method, TargetError> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if !matches!(method, Method::CONNECT | Method::TRACE) => Ok(method),
        _ => Err(TargetError::Method(text.to_owned())),
    }
}

/// Headers of a config or a task. One that was saved before its name was reserved is left out: the receiver would
/// take it for the service's own.
pub(super) fn given<V>(headers: &BTreeMap<String, V>) -> impl Iterator<Item = (&String, &V)> {
    headers.iter().filter(|(name, _)| !is_reserved(name))
}

/// A header of a config or a task.
pub(super) fn user_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), TargetError> {
    let refused = |problem: String| TargetError::Header { name: name.to_owned(), problem };
    check_user_header(name, value).map_err(refused)?;
    let parsed_name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| refused(error.to_string()))?;
    let parsed_value = HeaderValue::from_str(value).map_err(|error| refused(error.to_string()))?;
    Ok((parsed_name, parsed_value))
}

impl fmt::Debug for PreparedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the path, the headers or the payload: they may hold secrets.
        f.debug_struct("PreparedTarget")
            .field("method", &self.method)
            .field("origin", &self.pool.origin)
            .finish_non_exhaustive()
    }
}
