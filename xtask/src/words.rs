//! Words that must not be in the repository, each with what to do instead.

use crate::Outcome;
use crate::source::{Source, line_of, words};

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    TestCode,
    Comment,
}

const BANNED: &[(&str, Place, &str)] = &[
    ("todo!(", Place::Code, "write it, or leave the branch out"),
    ("unimplemented!(", Place::Code, "write it, or leave the branch out"),
    ("#[allow(", Place::Code, "use `#[expect(..., reason = \"...\")]`"),
    ("#![allow(", Place::Code, "use `#![expect(..., reason = \"...\")]`"),
    ("#[ignore", Place::Code, "a test that does not run proves nothing: run it or remove it"),
    ("FIXME", Place::Comment, "fix it, or open an issue"),
    ("XXX", Place::Comment, "say what is wrong, or open an issue"),
    ("sleep(", Place::TestCode, "tests wait on signals: a channel, a notification, a manual clock"),
];

/// Words of our own, and the words of the field to use instead; see docs/glossary.md. Strings may hold them:
/// columns, metrics and labels were there first.
const RETIRED: &[(&str, &str)] = &[
    ("bed", "fixture"),
    ("book", "config cache"),
    ("bury", "mark dead"),
    ("buried", "mark dead"),
    ("callee", "receiver"),
    ("charged", "failed attempts"),
    ("crew", "connection manager"),
    ("deed", "task command, audit entry"),
    ("dice", "rng"),
    ("footing", "config read guard"),
    ("gift", "handover"),
    ("goodbye", "close request"),
    ("janitor", "retention"),
    ("keeper", "lease manager, connection supervisor"),
    ("ladder", "batch size class"),
    ("lane", "permit, per-config queue, queue"),
    ("rearm", "return to scheduled"),
    ("stranger", "orphaned attempt"),
    ("switchboard", "event router"),
    ("travelled", "inline row"),
    ("wish", "task command"),
    ("wishes", "task command"),
];

pub(crate) fn check(sources: &[Source]) -> Outcome {
    // This crate names the words that it looks for.
    let others = sources.iter().filter(|source| !source.path.starts_with("xtask"));
    let problems = sources.iter().flat_map(banned).chain(others.flat_map(retired)).collect();
    Outcome { summary: format!("{} files", sources.len()), problems }
}

fn banned(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for &(word, place, instead) in BANNED {
        let text = if place == Place::Comment { &source.comments } else { &source.code };
        for at in words(text, word) {
            let line = line_of(text, at);
            let excused = place == Place::TestCode && (!source.is_test_line(line) || is_method(&text[..at]));
            if !excused {
                problems.push(format!("{}:{line}: `{word}`: {instead}", source.path.display()));
            }
        }
    }
    problems
}

fn retired(source: &Source) -> Vec<String> {
    // What `tsp-api` says of its fields is printed in the OpenAPI document, which keeps its words.
    let comments = if source.path.starts_with("tsp-api") { "" } else { source.comments.as_str() };
    let mut problems = Vec::new();
    for (line, text) in source.code.lines().enumerate().chain(comments.lines().enumerate()) {
        let names = text.split(|c: char| c != '_' && !c.is_alphanumeric());
        for (word, instead) in names.flat_map(words_of).filter_map(|word| retired_word(&word)) {
            let at = format!("{}:{}", source.path.display(), line + 1);
            problems.push(format!("{at}: `{word}` is a retired word: {instead} (docs/glossary.md)"));
        }
    }
    problems
}

fn retired_word(word: &str) -> Option<&'static (&'static str, &'static str)> {
    let one = word.strip_suffix('s').unwrap_or(word);
    RETIRED.iter().find(|(retired, _)| [word, one].contains(retired))
}

/// The words of a name, in small letters: `free_lanes`, `FreeLanes` and `FREE_LANES` have the same two.
fn words_of(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = '_';
    for c in name.chars() {
        if before == '_' || c.is_uppercase() && before.is_lowercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c != '_') {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

/// `clock.sleep(..)` and `fn sleep(..)` belong to a manual clock; only the free functions wait for real.
fn is_method(before: &str) -> bool {
    let before = before.trim_end();
    before.ends_with('.') || before.ends_with("fn")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        banned(&Source::new(path.into(), text))
    }

    #[test]
    fn banned_words_are_found_with_their_line() {
        let text = "fn a() {\n    todo!()\n}\n#[allow(dead_code)]\n#[ignore = \"slow\"]\n// FIXME: XXX\n";
        let problems = found("k/src/a.rs", text);
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[0].starts_with("k/src/a.rs:2: `todo!(`"), "{problems:?}");
    }

    #[test]
    fn strings_and_longer_names_are_not() {
        let text = "let a = \"FIXME todo!( #[allow(\"; // XXXL, XXL-JOB, FIXMEUP\nmy_todo!()\n";
        assert_eq!(found("k/src/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn retired_words_are_found_in_names_and_comments() {
        let text = "/// Wishes.\nfn free_lanes(a: &ConfigBook) {}\n\
                    struct Book; // the ladder\nconst LANE: u8 = 1;\n";
        let problems = retired(&Source::new("k/src/a.rs".into(), text));
        assert_eq!(problems.len(), 6, "{problems:?}");
        let lane =
            "k/src/a.rs:2: `lane` is a retired word: permit, per-config queue, queue (docs/glossary.md)";
        assert_eq!(problems[0], lane);
    }

    #[test]
    fn strings_longer_words_and_what_is_printed_keep_them() {
        let text = "/// Bookmarks of planes.\nconst SQL: &str = \"-- rearm\\nUPDATE t SET charged = 1\";\n";
        assert_eq!(retired(&Source::new("k/src/a.rs".into(), text)), Vec::<String>::new());
        let printed = "/// What its callee last reported.\nfn a() {}\n";
        assert_eq!(retired(&Source::new("tsp-api/src/a.rs".into(), printed)), Vec::<String>::new());
    }

    #[test]
    fn the_glossary_has_the_words_to_use_instead() {
        let glossary = include_str!("../../docs/glossary.md").to_lowercase();
        for term in RETIRED.iter().flat_map(|(_, instead)| instead.split(", ")) {
            assert!(glossary.contains(term), "docs/glossary.md does not have `{term}`");
        }
    }

    #[test]
    fn sleeping_is_banned_in_tests_only() {
        let text =
            "fn a() { tokio::time::sleep(d) }\n#[cfg(test)]\nmod tests {\n    fn b() { sleep(d) }\n}\n";
        assert_eq!(found("k/src/a.rs", text).len(), 1);
        assert_eq!(found("tests/src/a.rs", text).len(), 2);
        assert!(found("tests/src/a.rs", "fn sleep() { clock.sleep(d) }").is_empty());
    }
}
