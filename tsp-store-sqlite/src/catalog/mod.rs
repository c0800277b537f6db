//! Apps, configs, keys and the audit log.

pub(crate) mod apps;
pub(crate) mod audit_log;
pub(crate) mod configs;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod store;
