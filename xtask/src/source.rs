//! A Rust file as the scanners see it: code and comments apart, literals blanked, test code marked.
//!
//! This is no parser: it matches brackets in code that the compiler has accepted and rustfmt has laid out.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::lexer::{self, is_name};

pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) lines: usize,
    pub(crate) text: String,
    /// The text with comments and literals blanked; as long as the text, line for line.
    pub(crate) code: String,
    /// The text with all but comments blanked.
    pub(crate) comments: String,
    whole_is_test: bool,
    test_lines: Vec<RangeInclusive<usize>>,
    test_modules: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of the word `fn`, from 1.
    pub(crate) line: usize,
    /// From the line of `fn` to the line of the closing brace.
    pub(crate) length: usize,
    pub(crate) test: bool,
}

impl Source {
    pub(crate) fn new(path: PathBuf, text: &str) -> Self {
        let (code, comments) = lexer::split(text);
        let (test_lines, test_modules) = test_items(&code);
        let whole_is_test = looks_like_test(&path) || code.contains("#![cfg(test)]");
        let (lines, text) = (text.lines().count(), text.to_owned());
        Self { path, lines, text, code, comments, whole_is_test, test_lines, test_modules }
    }

    pub(crate) fn is_test(&self) -> bool {
        self.whole_is_test
    }

    pub(crate) fn mark_test(&mut self) {
        self.whole_is_test = true;
    }

    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.whole_is_test || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// Where the modules declared by `#[cfg(test)] mod name;` may lie.
    pub(crate) fn test_module_files(&self) -> Vec<PathBuf> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let stem = self.path.file_stem().unwrap_or_default();
        let folder = if ["lib", "main", "mod"].iter().any(|root| stem == *root) {
            folder.to_path_buf()
        } else {
            folder.join(stem)
        };
        let candidates =
            |name: &String| [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        self.test_modules.iter().flat_map(candidates).collect()
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let mut functions = Vec::new();
        for at in words(&self.code, "fn") {
            let rest = self.code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|&c| c == '_' || c.is_alphanumeric()).collect();
            if name.is_empty() {
                continue; // the type `fn(u8) -> u8`, or a macro's `fn $name`
            }
            if let Some(end) = item_body(bytes, at).and_then(|open| closing(bytes, open)) {
                let line = line_of(&self.code, at);
                let length = line_of(&self.code, end) - line + 1;
                functions.push(Function { name, line, length, test: self.is_test_line(line) });
            }
        }
        functions
    }
}

/// The line of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where `word` stands in `text`, not as a part of a longer name.
pub(crate) fn words(text: &str, word: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let starts_as_name = word.bytes().next().is_some_and(is_name);
    let ends_as_name = word.bytes().last().is_some_and(is_name);
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| {
            let before = at > 0 && is_name(bytes[at - 1]);
            let after = bytes.get(at + word.len()).copied().is_some_and(is_name);
            !(starts_as_name && before || ends_as_name && after)
        })
        .collect()
}

/// Test by its place: the integration crate, a `tests` folder, a file named after tests.
fn looks_like_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.components().any(|component| component.as_os_str() == "tests")
        || stem == "tests"
        || stem.ends_with("_tests")
}

/// The lines of the items under `#[cfg(test)]`, and the names of those that are `mod name;`.
fn test_items(code: &str) -> (Vec<RangeInclusive<usize>>, Vec<String>) {
    let bytes = code.as_bytes();
    let (mut lines, mut modules) = (Vec::new(), Vec::new());
    for marker in ["#[cfg(test)]", "#[cfg(all(test,"] {
        for at in words(code, marker) {
            let Some(item) = closing(bytes, at + 1).map(|end| after_attributes(bytes, end + 1)) else {
                continue;
            };
            if let Some(end) = item_body(bytes, item).and_then(|open| closing(bytes, open)) {
                lines.push(line_of(code, at)..=line_of(code, end));
            } else {
                let declaration = code[item..].split(';').next().unwrap_or("");
                lines.push(line_of(code, at)..=line_of(code, item + declaration.len()));
                if let Some((_, name)) = declaration.rsplit_once("mod ") {
                    modules.push(name.trim().to_owned());
                }
            }
        }
    }
    (lines, modules)
}

fn after_attributes(bytes: &[u8], mut at: usize) -> usize {
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        match (&bytes[at.min(bytes.len())..], closing(bytes, at + 1)) {
            ([b'#', b'[', ..], Some(end)) => at = end + 1,
            _ => return at,
        }
    }
}

/// The opening brace of the item that starts at `from`; `None` if a semicolon comes first.
fn item_body(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The bracket that closes the one at `open`.
pub(crate) fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("krate/src/file.rs".into(), text)
    }

    fn functions(text: &str) -> Vec<(String, usize, usize)> {
        source(text).functions().into_iter().map(|f| (f.name, f.line, f.length)).collect()
    }

    #[test]
    fn functions_run_from_fn_to_closing_brace() {
        let text = "pub async fn one<T>(\n    a: [u8; 4],\n) -> T\nwhere\n    T: X,\n{\n    if a { \"}\" }\n}\n\
                    trait T { fn none(&self) -> [u8; 2]; fn two() {} }\ntype F = fn(u8) -> u8;\n";
        assert_eq!(functions(text), [("one".into(), 1, 8), ("two".into(), 9, 1)]);
    }

    #[test]
    fn nested_functions_count_for_themselves_too() {
        let text = "fn outer() {\n    fn inner() {\n    }\n}\n";
        assert_eq!(functions(text), [("outer".into(), 1, 4), ("inner".into(), 2, 2)]);
    }

    #[test]
    fn test_modules_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\n#[expect(x, reason = \"]\")]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let tests: Vec<_> = source(text).functions().into_iter().map(|f| (f.name, f.test)).collect();
        assert_eq!(tests, [("a".into(), false), ("b".into(), true), ("c".into(), false)]);
    }

    #[test]
    fn a_test_module_in_its_own_file_is_found() {
        let text = "#[cfg(test)]\nmod checks;\nfn a() {}\n";
        let inner = Source::new("k/src/file.rs".into(), text).test_module_files();
        assert_eq!(inner[0], Path::new("k/src/file/checks.rs"));
        let root = Source::new("k/src/lib.rs".into(), text).test_module_files();
        assert_eq!(root[1], Path::new("k/src/checks/mod.rs"));
        assert!(source(text).is_test_line(2) && !source(text).is_test_line(3));
    }

    #[test]
    fn places_make_tests() {
        for path in
            ["tests/src/lib.rs", "tsp/tests/it.rs", "tsp/src/claim/tests.rs", "tsp/src/claim_tests.rs"]
        {
            assert!(Source::new(path.into(), "").is_test(), "{path}");
        }
        assert!(!Source::new("tsp/src/contests.rs".into(), "").is_test());
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(words("fn fnord defn fn", "fn"), [0, 14]);
        assert_eq!(words("sleep( asleep(", "sleep("), [0]);
    }
}
