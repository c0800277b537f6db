//! The file itself: who may read it, who serves it, its secret key, backups.

pub(crate) mod backup;
pub(crate) mod lock;
pub(crate) mod private;
pub(crate) mod secret;
