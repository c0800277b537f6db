//! Keys as they were a moment ago, so that a request costs a hash and a look into a map.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::{Duration, Instant};
use tsp_core::config::Secret;
use tsp_core::{AppId, KeyId};
use tsp_store::Store;
use tsp_store::catalog::ApiKey;

use crate::error::ApiResult;
use crate::rate_limit::Bucket;

/// How long a key is believed without asking the store: a removed key stops within 5 s everywhere
/// (API.md section 1), and the look-up itself takes time too.
const BELIEVED: Duration = Duration::from_secs(4);
/// Beyond this many, those not believed any more are dropped.
const KEYS_MAX: usize = 10_000;

/// A key with its rate limit's bucket, which outlives the refreshes of the key.
#[derive(Debug)]
pub(crate) struct KnownKey {
    pub(crate) key: ApiKey,
    pub(crate) bucket: Option<Arc<Bucket>>,
    read_at: Instant,
}

/// Known keys by their SHA-256. Unknown ones are not remembered: their number is the callers' choice.
#[derive(Debug)]
pub(crate) struct KeyCache {
    bootstrap: Option<[u8; 32]>,
    keys: RwLock<HashMap<[u8; 32], Arc<KnownKey>>>,
}

impl KeyCache {
    pub(crate) fn new(bootstrap: Option<&Secret>) -> Self {
        let bootstrap = bootstrap.map(|key| Sha256::digest(key.expose().as_bytes()).into());
        Self { bootstrap, keys: RwLock::default() }
    }

    /// Compared in constant time, although a hash tells little.
    pub(crate) fn is_bootstrap(&self, hash: &[u8; 32]) -> bool {
        self.bootstrap.is_some_and(|own| own.ct_eq(hash).into())
    }

    pub(crate) async fn find(&self, store: &dyn Store, hash: &[u8; 32]) -> ApiResult<Option<Arc<KnownKey>>> {
        let now = Instant::now();
        let known = self.keys.read().get(hash).cloned();
        if let Some(known) = &known
            && now.duration_since(known.read_at) < BELIEVED
        {
            return Ok(Some(known.clone()));
        }
        let Some(key) = store.key_by_hash(hash).await? else {
            self.keys.write().remove(hash);
            return Ok(None);
        };
        let kept = known.and_then(|known| known.bucket.clone());
        let bucket = key.rate_limit.map(|limit| {
            let kept = kept.filter(|bucket| bucket.limit() == limit);
            kept.unwrap_or_else(|| Arc::new(Bucket::new(limit, now)))
        });
        let known = Arc::new(KnownKey { key, bucket, read_at: now });
        let mut keys = self.keys.write();
        if keys.len() >= KEYS_MAX {
            keys.retain(|_, known| now.duration_since(known.read_at) < BELIEVED);
        }
        keys.insert(*hash, known.clone());
        Ok(Some(known))
    }

    /// A deleted key stops at once in this process.
    pub(crate) fn forget(&self, id: KeyId) {
        self.keys.write().retain(|_, known| known.key.id != id);
    }

    /// The same for all keys of a deleted app.
    pub(crate) fn forget_app(&self, app: AppId) {
        self.keys.write().retain(|_, known| known.key.app != Some(app));
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};
    use tsp_api::id::parse_id;
    use tsp_store::Catalog as _;
    use tsp_store::tasks::Actor;

    use super::*;
    use crate::testing::{NOW, Server};

    #[tokio::test(start_paused = true)]
    async fn a_key_that_another_node_deleted_stops_in_time() {
        let server = Server::start().await;
        server.app("trade").await;
        let body = json!({"name": "test", "scopes": ["read"]});
        let made = server.post("/api/v1/apps/trade/keys", body).await.expect(201);
        let call =
            || server.call_as(made["key"].as_str().unwrap(), Method::GET, "/api/v1/apps/trade", Value::Null);
        call().await.expect(200);
        let app = server.store.config_cache().app("trade").unwrap().id;
        let id = parse_id(made["id"].as_str().unwrap()).map(KeyId::new).unwrap();
        server.store.delete_key(Some(app), id, &Actor::system(), NOW).await.unwrap();
        tokio::time::advance(BELIEVED).await;
        assert_eq!(call().await.refused(), (401, "unauthenticated".to_owned()));
    }
}
