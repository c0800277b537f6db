//! What is checked and made before the first call: schemas, servers, settings, days.

pub(crate) mod day_partitions;
pub(crate) mod initialise;
pub(crate) mod migrate;
pub(crate) mod move_record;
pub(crate) mod problem;
pub(crate) mod server;
