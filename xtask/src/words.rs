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

pub(crate) fn check(sources: &[Source]) -> Outcome {
    let problems = sources.iter().flat_map(banned).collect();
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
    fn sleeping_is_banned_in_tests_only() {
        let text =
            "fn a() { tokio::time::sleep(d) }\n#[cfg(test)]\nmod tests {\n    fn b() { sleep(d) }\n}\n";
        assert_eq!(found("k/src/a.rs", text).len(), 1);
        assert_eq!(found("tests/src/a.rs", text).len(), 2);
        assert!(found("tests/src/a.rs", "fn sleep() { clock.sleep(d) }").is_empty());
    }
}
