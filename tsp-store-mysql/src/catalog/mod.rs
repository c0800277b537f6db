//! Apps, configs, keys and the audit log, in the meta database, and the config cache that follows them.

pub(crate) mod apps;
pub(crate) mod audit_log;
pub(crate) mod change_log;
pub(crate) mod configs;
pub(crate) mod follow;
pub(crate) mod keys;
pub(crate) mod store;
