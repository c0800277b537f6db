//! What is known of a database beside its connections.

use std::fmt;

use super::circuit_breaker::CircuitBreaker;
use super::statement_templates::StatementTemplates;

pub(super) struct Endpoint {
    /// The data source's name, or `meta`.
    pub(super) name: String,
    pub(super) breaker: CircuitBreaker,
    /// Of texts without a shard.
    pub(super) templates: StatementTemplates,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.name).finish()
    }
}

impl Endpoint {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            breaker: CircuitBreaker::new(name),
            templates: StatementTemplates::new(None),
        }
    }
}
