//! What is known of a database beside its connections.

use std::fmt;

use super::gate::Gate;
use super::text::{Sql, Texts};

pub(super) struct Endpoint {
    /// The data source's name, or `meta`.
    pub(super) name: String,
    pub(super) gate: Gate,
    texts: Texts,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.name).finish()
    }
}

impl Endpoint {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), gate: Gate::new(name), texts: Texts::new(None) }
    }

    /// The text of a template without a shard.
    pub(super) fn sql(&self, template: &'static str) -> Sql {
        self.texts.get(template, 0, 0)
    }

    /// And `{list}` becomes `?, ?, …`, `n` of them: a size of the ladder.
    pub(super) fn sql_list(&self, template: &'static str, n: usize) -> Sql {
        self.texts.get(template, 0, n)
    }

    /// And `{rows}` becomes `(?, …), …`: `n` rows, a size of the ladder, each `width` wide.
    pub(super) fn sql_rows(&self, template: &'static str, width: usize, n: usize) -> Sql {
        self.texts.get(template, width, n)
    }
}
