//! A change of the config cache that waits for its commit.

use std::sync::Arc;

use tsp_core::config::TaskConfig;
use tsp_core::{AppId, ConfigId};

use crate::catalog::App;
use crate::config_cache::ConfigCache;

#[derive(Debug)]
pub enum CacheEdit {
    PutApp(Arc<App>),
    RemoveApp(AppId),
    PutConfig(Arc<TaskConfig>),
    RemoveConfig(ConfigId),
}

impl CacheEdit {
    /// As change number `seq`.
    pub fn apply(self, config_cache: &ConfigCache, seq: i64) {
        match self {
            Self::PutApp(app) => config_cache.put_app(app),
            Self::RemoveApp(id) => config_cache.remove_app(id),
            Self::PutConfig(config) => config_cache.put_config(config, seq),
            Self::RemoveConfig(id) => config_cache.remove_config(id, seq),
        }
    }
}
