//! No file over 500 lines, no function over 70: small enough to read in one go.

use std::collections::BTreeMap;

use crate::Outcome;
use crate::ratchet::{Ratchet, SizedItem, over};
use crate::source::Source;

const FILE_LINES: usize = 500;
const FILE_LINES_P90: usize = 350;
const FUNCTION_LINES: usize = 70;
const TEST_FUNCTION_LINES: usize = 120;
const LINES: &str = "lines";

pub(crate) fn check(sources: &[Source], ratchet: &Ratchet) -> Outcome {
    let mut problems = over(&files(sources), &ratchet.files);
    problems.extend(over(&functions(sources), &ratchet.functions));

    let p90 = p90(sources.iter().filter(|source| !source.is_test()).map(|source| source.lines).collect());
    if p90 > FILE_LINES_P90 {
        problems.push(format!(
            "nine in ten production files should have at most {FILE_LINES_P90} lines, now it is {p90}: \
             split the longest ones"
        ));
    }
    let longest = sources.iter().max_by_key(|source| source.lines);
    let longest = longest.map_or(String::new(), |s| format!(", longest {} ({})", s.path.display(), s.lines));
    Outcome { summary: format!("{} files, p90 {p90} lines{longest}", sources.len()), problems }
}

fn files(sources: &[Source]) -> BTreeMap<String, SizedItem> {
    let sized = |source: &Source| {
        let path = source.path.display().to_string();
        let advice = "split it by what it is about";
        (path.clone(), SizedItem { place: path, size: source.lines, unit: LINES, limit: FILE_LINES, advice })
    };
    sources.iter().map(sized).collect()
}

/// Functions by `path::name`; of namesakes in one file the longest counts.
fn functions(sources: &[Source]) -> BTreeMap<String, SizedItem> {
    let mut found: BTreeMap<String, SizedItem> = BTreeMap::new();
    for source in sources {
        let path = source.path.display();
        for function in source.functions() {
            let sized = SizedItem {
                place: format!("{path}:{}: `{}`", function.line, function.name),
                size: function.length,
                unit: LINES,
                limit: if function.test { TEST_FUNCTION_LINES } else { FUNCTION_LINES },
                advice: "give its steps names and let it read as their list",
            };
            let key = format!("{path}::{}", function.name);
            if found.get(&key).is_none_or(|other| excess(&sized) > excess(other)) {
                found.insert(key, sized);
            }
        }
    }
    found
}

/// Lines over the limit; zero or less is fine.
fn excess(sized: &SizedItem) -> isize {
    sized.size.cast_signed() - sized.limit.cast_signed()
}

fn p90(mut lines: Vec<usize>) -> usize {
    lines.sort_unstable();
    let rank = (lines.len() * 9).div_ceil(10);
    lines.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines: usize) -> Source {
        Source::new(path.into(), &"//\n".repeat(lines))
    }

    fn function(path: &str, lines: usize) -> Source {
        Source::new(path.into(), &format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2)))
    }

    fn ratchet(text: &str) -> Ratchet {
        toml::from_str(text).unwrap()
    }

    fn problems(source: Source, ratchet_text: &str) -> Vec<String> {
        check(&[source], &ratchet(ratchet_text)).problems
    }

    #[test]
    fn files_have_a_limit() {
        let p90 = |problems: Vec<String>| problems.into_iter().filter(|p| !p.starts_with("nine")).count();
        assert_eq!(p90(problems(file("k/src/a.rs", 500), "")), 0);
        assert_eq!(p90(problems(file("k/src/a.rs", 501), "")), 1);
        assert_eq!(p90(problems(file("tests/src/a.rs", 501), "")), 1);
    }

    #[test]
    fn functions_have_a_limit_and_tests_a_wider_one() {
        assert!(problems(function("k/src/a.rs", 70), "").is_empty());
        let long = problems(function("k/src/a.rs", 71), "");
        assert_eq!(long.len(), 1);
        assert!(long[0].starts_with("k/src/a.rs:1: `long` has 71 lines, the limit is 70"), "{long:?}");
        assert!(problems(function("tests/src/a.rs", 120), "").is_empty());
        assert_eq!(problems(function("tests/src/a.rs", 121), "").len(), 1);
    }

    #[test]
    fn the_ratchet_lets_shrink_and_not_grow() {
        let held = "[functions]\n\"k/src/a.rs::long\" = 80";
        assert!(problems(function("k/src/a.rs", 80), held).is_empty());
        assert!(problems(function("k/src/a.rs", 75), held).is_empty());
        assert!(problems(function("k/src/a.rs", 81), held)[0].contains("the ratchet holds it at 80"));
    }

    #[test]
    fn entries_that_are_not_needed_must_go() {
        let held = "[functions]\n\"k/src/a.rs::long\" = 80";
        assert!(problems(function("k/src/a.rs", 70), held)[0].contains("fits now"));
        assert!(problems(function("k/src/b.rs", 70), held)[0].contains("is gone"));
        assert!(problems(file("k/src/a.rs", 1), "[files]\n\"k/src/b.rs\" = 600")[0].contains("is gone"));
    }

    #[test]
    fn the_ninetieth_percentile_is_by_nearest_rank_over_production_files() {
        assert_eq!(p90((1..=10).collect()), 9);
        assert_eq!(p90((1..=11).collect()), 10);
        assert_eq!(p90(vec![7]), 7);
        assert_eq!(p90(vec![]), 0);
        assert_eq!(problems(file("k/src/a.rs", 351), "").len(), 1);
        assert!(problems(file("tests/src/a.rs", 351), "").is_empty());
    }
}
