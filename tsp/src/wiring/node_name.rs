//! What this process is called.

use crate::settings::Settings;

/// For operators only, so anything will do where the machine does not tell its name.
pub(super) fn node_name(settings: &Settings) -> String {
    let given = settings.node.name.trim();
    if !given.is_empty() {
        return given.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if host.trim().is_empty() { "tsp".to_owned() } else { host.trim().to_owned() }
}
