//! Connections, statements and the values that go through them.

pub(crate) mod bind;
pub(crate) mod circuit_breaker;
pub(crate) mod db;
pub(crate) mod endpoint;
pub(crate) mod fault;
pub(crate) mod joint;
pub(crate) mod link;
pub(crate) mod own;
pub(crate) mod pool;
pub(crate) mod prepared;
pub(crate) mod row;
pub(crate) mod session;
pub(crate) mod statement_templates;
pub(crate) mod tx;
pub(crate) mod value;
