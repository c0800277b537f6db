//! Every SQL statement stands in a `statements!`, where its plan can stand beside it and a test finds it.

use std::ops::Range;

use crate::Outcome;
use crate::source::{Source, closing, line_of, words};

/// The crates that have statements with plans.
const CRATES: &[&str] = &["tsp-store-sqlite/src"];

/// What has a plan. `BEGIN`, `PRAGMA` and the like have none.
const VERBS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"];

pub(crate) fn check(sources: &[Source]) -> Outcome {
    let here = |source: &&Source| CRATES.iter().any(|folder| source.path.starts_with(folder));
    let code: Vec<&Source> = sources.iter().filter(|source| !source.is_test()).filter(here).collect();
    let problems = code.iter().flat_map(|source| outside(source)).collect();
    let count: usize = code.iter().map(|source| named(source).count()).sum();
    Outcome { summary: format!("{count} statements"), problems }
}

fn outside(source: &Source) -> Vec<String> {
    let blocks: Vec<Range<usize>> = words(&source.code, "statements! {")
        .into_iter()
        .filter_map(|at| Some(at..closing(source.code.as_bytes(), at + "statements! ".len())?))
        .collect();
    let stray = named(source).filter(|at| !blocks.iter().any(|block| block.contains(at)));
    let say = |at: usize| {
        format!(
            "{}:{}: a statement outside of `statements!`, where no plan is asked of it",
            source.path.display(),
            line_of(&source.code, at)
        )
    };
    stray.map(say).collect()
}

/// Where a literal begins with the name of a statement, and is not put together as the program runs.
fn named(source: &Source) -> impl Iterator<Item = usize> {
    words(&source.text, "\"-- ").into_iter().filter(|&at| {
        let is_literal = source.code[at..].starts_with(' ') && source.comments[at..].starts_with(' ');
        let formatted = source.code[..at].trim_end().ends_with("format!(");
        is_literal
            && !formatted
            && !source.is_test_line(line_of(&source.code, at))
            && is_statement(&source.text[at + 4..])
    })
}

/// A name, the end of its line, and a verb.
fn is_statement(text: &str) -> bool {
    let name_ends = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let rest = &text[name_ends..];
    let rest = rest.strip_prefix("\\n").or_else(|| rest.strip_prefix('\n'));
    name_ends > 0 && rest.is_some_and(|rest| VERBS.iter().any(|verb| rest.trim_start().starts_with(verb)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        outside(&Source::new("tsp-store-sqlite/src/a.rs".into(), text))
    }

    #[test]
    fn a_statement_stands_in_its_macro() {
        let inside = "statements! {\n    A = \"-- a\\nSELECT 1\" => \"SCAN b\";\n}\n";
        assert_eq!(found(inside), [""; 0]);
        let stray = format!(
            "{inside}const B: &str = \"-- b\n    UPDATE b\";\nfn c() {{ d(\"-- c\\nDELETE FROM c\") }}\n"
        );
        let problems = found(&stray);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("tsp-store-sqlite/src/a.rs:4: "), "{problems:?}");
    }

    #[test]
    fn what_has_no_plan_may_stand_anywhere() {
        let text = "// \"-- a\\nSELECT 1\"\nconst A: &str = \"-- begin\\nBEGIN\";\nfn a() { format!(\"-- b\\nSELECT {c}\") }\n\
                    #[cfg(test)]\nmod tests {\n    const A: &str = \"-- a\\nSELECT 1\";\n}\n";
        assert_eq!(found(text), [""; 0]);
    }
}
