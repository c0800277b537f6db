//! The nodes of the cluster as this process last saw them.

use std::sync::Arc;

use parking_lot::RwLock;

use super::leases::NodeRow;

/// Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    rows: Arc<RwLock<Option<Arc<[NodeRow]>>>>,
}

impl Peers {
    pub fn set(&self, rows: Vec<NodeRow>) {
        *self.rows.write() = Some(rows.into());
    }

    /// `None` until the first observation.
    pub fn get(&self) -> Option<Arc<[NodeRow]>> {
        self.rows.read().clone()
    }
}
