//! All apps and configs, read once at start.

use std::sync::Arc;

use tsp_store::backend::columns::{app_columns, config_columns};
use tsp_store::backend::row::{read_app, read_config};
use tsp_store::config_cache::ConfigCache;
use tsp_store::documents::Sealer;
use tsp_store::error::Result;

use crate::connection::session::Session;
use crate::connection::statements::statements;

statements! {
    APPS = concat!("-- app_all\nSELECT ", app_columns!(), " FROM app ORDER BY id");

    CONFIGS = concat!(
        "-- config_all\nSELECT ",
        config_columns!(),
        " FROM config c LEFT JOIN app a ON a.id = c.app_id ORDER BY c.id"
    );

    CONFIG_SEQ = "-- config_seq\nSELECT coalesce(max(seq), 0) FROM config_change" => "SEARCH config_change";
}

/// Reads all apps and configs into the config cache.
pub(crate) fn load(conn: Session<'_>, config_cache: &ConfigCache, sealer: &Sealer) -> Result<()> {
    for app in conn.prepare(APPS)?.all([], |row| read_app(row))? {
        config_cache.put_app(Arc::new(app));
    }
    let seq = conn.prepare(CONFIG_SEQ)?.one([], |row| row.get::<i64>(0))?;
    for config in conn.prepare(CONFIGS)?.all([], |row| read_config(row, sealer))? {
        config_cache.put_config(Arc::new(config), seq);
    }
    config_cache.reach(seq);
    Ok(())
}
