//! The settings as they hold, for people: with where each comes from, and without secrets.

use std::fmt::Write as _;

use toml::Value;

use super::layers::{Layers, Origin, is_secret};

/// TOML that could be a settings file again, but for the secrets.
pub(crate) fn show(layers: &Layers) -> String {
    let mut text = String::new();
    let parts =
        |key: &'_ str| key.rsplit_once('.').map(|(section, name)| (section.to_owned(), name.to_owned()));
    let mut entries: Vec<_> =
        layers.entries().filter_map(|(key, entry)| Some((parts(key)?, key, entry))).collect();
    // By section first: the keys of `worker` must not stand under `worker.http`.
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut section = "";
    for ((in_section, name), key, entry) in &entries {
        if in_section != section {
            section = in_section;
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[{section}]");
        }
        let hidden = Value::String("(hidden)".to_owned());
        let is_set =
            entry.value.as_str() != Some("") && entry.value.as_array().is_none_or(|list| !list.is_empty());
        let value = if is_secret(key) && is_set { &hidden } else { &entry.value };
        let _ = match &entry.origin {
            Origin::Default => writeln!(text, "{name} = {value}"),
            origin => writeln!(text, "{name} = {value}  # from {origin}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn secrets_are_hidden_and_origins_named() {
        let mut layers = Layers::defaults();
        layers.add_environment(&Environment::of(&[
            ("TSP__AUTH__BOOTSTRAP_KEY", "0123456789abcdef01234567"),
            ("TSP__WEB__LISTEN", "0.0.0.0:80"),
        ]));
        let text = show(&layers);
        assert!(!text.contains("0123456789"), "{text}");
        assert!(text.contains("bootstrap_key = \"(hidden)\"  # from the environment variable"), "{text}");
        assert!(text.contains("listen = \"0.0.0.0:80\"  # from the environment variable `TSP__WEB__LISTEN`"));
        assert!(text.contains("secret_key = \"\"\n"), "{text}");
        assert!(text.parse::<toml::Table>().is_ok(), "{text}");
    }
}
