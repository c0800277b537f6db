//! Turns flat values into typed ones, and collects what is wrong with them.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Value;
use tsp_core::Millis;
use tsp_core::duration::{format_duration, parse_duration};

use super::layers::{Layers, is_secret};

/// Reads keys one by one. A bad value is noted and a harmless one returned, so that one run tells all
/// that is wrong.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    pub(super) problems: Vec<String>,
    #[cfg(test)]
    pub(super) read: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            problems: layers.problems.clone(),
            #[cfg(test)]
            read: Vec::new(),
        }
    }

    fn value(&mut self, key: &'static str) -> &'a Value {
        #[cfg(test)]
        self.read.push(key);
        &self.layers.get(key).value
    }

    pub(super) fn wrong(&mut self, key: &str, why: &str) {
        let entry = self.layers.get(key);
        let shown = if is_secret(key) { String::new() } else { format!(" = {}", entry.value) };
        self.problems.push(format!("`{key}`{shown} in {}: {why}", entry.origin));
    }

    pub(super) fn text(&mut self, key: &'static str) -> &'a str {
        self.value(key).as_str().unwrap_or_default()
    }

    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        self.value(key).as_bool().unwrap_or_default()
    }

    /// A text that `parse` understands; its error says what is wanted.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = parse(self.text(key));
        parsed.map_err(|why| self.wrong(key, &why)).ok()
    }

    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> u32 {
        let given = self.value(key).as_integer().unwrap_or_default();
        if let Some(number) = u32::try_from(given).ok().filter(|number| range.contains(number)) {
            return number;
        }
        self.wrong(key, &format!("must be {} to {}", range.start(), range.end()));
        *range.start()
    }

    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Millis>) -> Duration {
        let parsed = parse_duration(self.text(key)).map_err(|error| error.to_string()).and_then(|length| {
            let (low, high) = (format_duration(*range.start()), format_duration(*range.end()));
            if range.contains(&length) { Ok(length) } else { Err(format!("must be {low} to {high}")) }
        });
        match parsed {
            Ok(length) => Duration::from_millis(u64::try_from(length.ms()).unwrap_or_default()),
            Err(why) => {
                self.wrong(key, &why);
                Duration::ZERO
            }
        }
    }

    /// A size in bytes.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> usize {
        let size = self.parsed(key, |text| {
            parse_size(text).filter(|size| range.contains(size)).ok_or_else(|| {
                format!("must be `{}B` to `{}B`, for example `64KiB`", range.start(), range.end())
            })
        });
        size.unwrap_or(*range.start())
    }

    /// A list of texts, each understood by `parse`.
    pub(super) fn list<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut items = Vec::new();
        for item in self.value(key).as_array().map(Vec::as_slice).unwrap_or_default() {
            let parsed =
                item.as_str().ok_or_else(|| "holds something that is no text".to_owned()).and_then(&parse);
            match parsed {
                Ok(item) => items.push(item),
                Err(why) => self.wrong(key, &why),
            }
        }
        items
    }

    /// A list whose items are not all texts; `read` understands one.
    pub(super) fn items<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Vec<T> {
        let mut items = Vec::new();
        for item in self.value(key).as_array().map(Vec::as_slice).unwrap_or_default() {
            match read(item) {
                Ok(item) => items.push(item),
                Err(why) => self.wrong(key, &why),
            }
        }
        items
    }

    /// Whether somebody has set it.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.layers.get(key).origin != super::layers::Origin::Default
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> T {
        let text = self.text(key);
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        self.wrong(key, &format!("must be {}", words.join(" or ")));
        choices[0].1
    }
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("1MiB"), Some(1_048_576));
        assert_eq!(parse_size("7B"), Some(7));
        for bad in ["", "64", "KiB", "64kb", "-1B", "1 KiB", "99999999999999999999MiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
