//! What is known of a request beside its path and its body.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use http::request::Parts;
use tsp_core::Entropy;

use crate::error::ApiError;
use crate::rate_limit::RateState;

/// Makes request ids: random for the process, counted within it, so that no random numbers are drawn
/// for each request.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes);
        Self { prefix: hex::encode(bytes), next: AtomicU64::new(1) }
    }

    pub(crate) fn make(&self) -> String {
        format!("{}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// What is known about the request at hand; in its extensions, shared with the layer.
#[derive(Debug, Clone)]
pub struct RequestContext(Arc<Context>);

#[derive(Debug)]
struct Context {
    request_id: String,
    rate: OnceLock<RateState>,
}

impl RequestContext {
    pub(crate) fn new(request_id: String) -> Self {
        Self(Arc::new(Context { request_id, rate: OnceLock::new() }))
    }

    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Noted by authentication, shown in the answer's headers.
    pub(crate) fn set_rate_limit(&self, rate: RateState) {
        // The first one stands: a request counts once before its answer.
        let _ = self.0.rate.set(rate);
    }

    pub(crate) fn rate(&self) -> Option<&RateState> {
        self.0.rate.get()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or_else(|| ApiError::internal("the edge layer is missing"))
    }
}
