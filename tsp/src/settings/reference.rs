//! `docs/configuration.md`, made from the embedded default file, so that it cannot drift.

use std::fmt::Write as _;

use super::layers::{DEFAULT_TOML, environment_name, is_secret};

/// One key, or the head of a section.
#[derive(Debug, PartialEq)]
enum Block<'a> {
    Preamble(Vec<&'a str>),
    Section { name: &'a str, text: Vec<&'a str> },
    Key { name: &'a str, default: &'a str, text: Vec<&'a str> },
}

/// The whole page, as Markdown.
pub(crate) fn markdown() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Made by `tsp config-reference` from `config/default.toml`: change that file, not this one. -->\n",
    );
    let mut section = "";
    for block in blocks(DEFAULT_TOML) {
        let _ = match block {
            Block::Preamble(text) => writeln!(page, "\n{}", paragraphs(&text)),
            Block::Section { name, text } => {
                section = name;
                writeln!(page, "\n## `[{name}]`\n\n{}", paragraphs(&text))
            }
            Block::Key { name, default, text } => {
                let key = format!("{section}.{name}");
                let variable = environment_name(&key);
                let or_file =
                    if is_secret(&key) { format!(" (or `{variable}_FILE`)") } else { String::new() };
                writeln!(
                    page,
                    "\n### `{key}`\n\n{}\n\n* default: `{default}`\n* environment: `{variable}`{or_file}",
                    paragraphs(&text)
                )
            }
        };
    }
    page
}

/// The file is read as text, not as TOML, because the comments are the documentation.
fn blocks(file: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut text = Vec::new();
    for line in file.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            text.push(comment.strip_prefix(' ').unwrap_or(comment));
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            blocks.push(Block::Section { name, text: std::mem::take(&mut text) });
        } else if let Some((name, default)) = line.split_once(" = ") {
            blocks.push(Block::Key { name, default, text: std::mem::take(&mut text) });
        } else if !text.is_empty() {
            blocks.push(Block::Preamble(std::mem::take(&mut text)));
        }
    }
    blocks
}

/// Comment lines as Markdown: an empty one parts paragraphs, an indented one is code.
fn paragraphs(lines: &[&str]) -> String {
    let mut page = String::new();
    for line in lines {
        match line.strip_prefix("  ") {
            Some(code) => page.extend(["    ", code.trim_start(), "\n"]),
            None => page.extend([*line, "\n"]),
        }
    }
    page.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == markdown(), "run `cargo run -p tsp -- config-reference > docs/configuration.md`");
    }

    #[test]
    fn every_key_has_a_comment() {
        for block in blocks(DEFAULT_TOML) {
            let (name, text) = match &block {
                Block::Preamble(text) => ("the preamble", text),
                Block::Section { name, text } | Block::Key { name, text, .. } => (*name, text),
            };
            assert!(!text.is_empty(), "`{name}` has no comment");
        }
    }
}
