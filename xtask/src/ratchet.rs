//! What was over a limit when the limit came is listed in `xtask/ratchet.toml`. It may only shrink.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ratchet {
    pub(crate) files: BTreeMap<String, usize>,
    pub(crate) functions: BTreeMap<String, usize>,
    pub(crate) circles: BTreeMap<String, usize>,
}

impl Ratchet {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot understand `{}`", path.display()))
    }
}

/// Something with a size: where it is (for messages), how large it is, how large it may be.
pub(crate) struct SizedItem {
    pub(crate) place: String,
    pub(crate) size: usize,
    pub(crate) unit: &'static str,
    pub(crate) limit: usize,
    pub(crate) advice: &'static str,
}

/// What is over its limit and not in the ratchet, or larger than the ratchet says, or need not be there.
pub(crate) fn over(found: &BTreeMap<String, SizedItem>, ratchet: &BTreeMap<String, usize>) -> Vec<String> {
    let mut problems = Vec::new();
    for (key, SizedItem { place, size, unit, limit, advice }) in found {
        match ratchet.get(key) {
            Some(_) if size <= limit => {
                problems.push(format!("{place} fits now: take `{key}` out of xtask/ratchet.toml"));
            }
            Some(was) if size > was => {
                problems.push(format!("{place} has {size} {unit}, the ratchet holds it at {was}: {advice}"));
            }
            None if size > limit => {
                problems.push(format!("{place} has {size} {unit}, the limit is {limit}: {advice}"));
            }
            _ => {}
        }
    }
    for key in ratchet.keys().filter(|key| !found.contains_key(*key)) {
        problems.push(format!("`{key}` is gone: take it out of xtask/ratchet.toml"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratchet_file_is_readable_and_refuses_unknown_tables() {
        assert!(toml::from_str::<Ratchet>(include_str!("../ratchet.toml")).is_ok());
        assert!(toml::from_str::<Ratchet>("[function]\nx = 1").is_err());
    }
}
