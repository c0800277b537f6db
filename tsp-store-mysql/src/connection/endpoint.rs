//! What is known of a database beside its connections.

use std::fmt;
use std::sync::atomic::AtomicUsize;

use crate::connection::circuit_breaker::CircuitBreaker;
use crate::connection::statement_templates::StatementTemplates;

pub(crate) struct Endpoint {
    /// The data source's name, or `meta`.
    pub(crate) name: String,
    pub(crate) breaker: CircuitBreaker,
    /// Of texts without a shard.
    pub(crate) templates: StatementTemplates,
    /// So many of [`crate::connection::prepared::HOT`] its server prepares for each shard.
    pub(crate) kept: AtomicUsize,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.name).finish()
    }
}

impl Endpoint {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            breaker: CircuitBreaker::new(name),
            templates: StatementTemplates::new(None),
            kept: AtomicUsize::new(0),
        }
    }
}
