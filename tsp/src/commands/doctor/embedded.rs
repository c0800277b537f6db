//! What can be seen inside the database.

use tsp_core::Timestamp;
use tsp_store::{AuditorStore as _, Catalog as _};

use super::Finding;
use crate::settings::{Settings, StoreLocation};
use crate::wiring::offline::on_store;
use crate::wiring::{beside, store_failure};

/// Opening it checks schema, shards and secret key; then SQLite looks at every page.
pub(super) fn check(settings: &Settings, now: Timestamp) -> Vec<Finding> {
    let StoreLocation::File(path) = &settings.store.location else { return Vec::new() };
    if !path.exists() {
        return vec![Finding::Note {
            what: format!("`{}` does not exist yet", path.display()),
            to_do: "`tsp serve` makes it; if there should be one, set `store.url`".to_owned(),
        }];
    }
    if settings.store.secret_key.is_none() && !beside(path, "key").exists() {
        // Told with the folder. Opening would make another key, which is never the right one.
        return Vec::new();
    }
    let found = on_store(settings, now, async |store| {
        let failed = |error| store_failure(&error);
        let broken = store.check().await.map_err(failed)?;
        let audit = store.audit(now).await.map_err(failed)?;
        let open: i64 = audit.open.iter().map(|(_, count)| count).sum();
        let configs = store.config_cache().config_count();
        let keys = store.keys(None).await.map_err(failed)?.len();
        let unaccounted = audit.accepted - audit.ended - open;
        Ok((broken, open, configs, keys, unaccounted))
    });
    match found {
        Err(failure) => vec![Finding::Bad {
            what: format!("`{}` cannot be used", path.display()),
            to_do: failure.to_string(),
        }],
        Ok((broken, open, configs, keys, unaccounted)) => {
            let mut findings =
                vec![Finding::Good(format!("{configs} configs, {open} open tasks, schema up to date"))];
            findings.extend(broken.into_iter().map(|what| Finding::Bad {
                what,
                to_do: "stop the server and restore a backup; the file is damaged".to_owned(),
            }));
            if keys == 0 && settings.auth.bootstrap_key.is_none() {
                findings.push(Finding::Note {
                    what: "there is no global API key, and `auth.bootstrap_key` is not set here".to_owned(),
                    to_do: "make one: `tsp key create --global --name ops --scope admin`".to_owned(),
                });
            }
            if unaccounted != 0 {
                findings.push(Finding::Bad {
                    what: format!("{unaccounted} tasks are unaccounted for"),
                    to_do: "keep a copy of the file and report it: accepted must equal open and ended"
                        .to_owned(),
                });
            }
            findings
        }
    }
}
