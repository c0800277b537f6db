//! What is known of a database beside its connections.

use std::fmt;

use super::circuit_breaker::CircuitBreaker;
use super::statement_templates::{StatementTemplates, StatementText};

pub(super) struct Endpoint {
    /// The data source's name, or `meta`.
    pub(super) name: String,
    pub(super) breaker: CircuitBreaker,
    templates: StatementTemplates,
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

    /// The text of a template without a shard.
    pub(super) fn sql(&self, template: &'static str) -> StatementText {
        self.templates.get(template, 0, 0)
    }

    /// And `{list}` becomes `?, ?, …`, `n` of them: a batch size class.
    pub(super) fn sql_list(&self, template: &'static str, n: usize) -> StatementText {
        self.templates.get(template, 0, n)
    }

    /// And `{rows}` becomes `(?, …), …`: `n` rows, a batch size class, each `width` wide.
    pub(super) fn sql_rows(&self, template: &'static str, width: usize, n: usize) -> StatementText {
        self.templates.get(template, width, n)
    }
}
