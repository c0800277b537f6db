//! No crate over 16 % of all lines: a reader, and a compiler, need not take in the rest with it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Outcome;
use crate::source::Source;

const CRATE_PERCENT: usize = 16;

#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Lines {
    all: usize,
    production: usize,
}

pub(crate) fn check(sources: &[Source]) -> Outcome {
    let (crates, total) = lines(sources);
    let large = crates.iter().filter(|(_, lines)| lines.all * 100 > total.all * CRATE_PERCENT);
    let problem = |(name, lines): (&String, &Lines)| {
        let share = percent(lines.all, total.all);
        format!("`{name}` has {share} of all lines, the limit is {CRATE_PERCENT} %: make two of it")
    };
    let problems = large.map(problem).collect();
    let largest = crates.iter().max_by_key(|(_, lines)| lines.all);
    let largest = largest.map_or(String::new(), |(name, lines)| {
        format!(", largest {name} with {}", percent(lines.all, total.all))
    });
    Outcome { summary: format!("{} crates{largest}", crates.len()), problems }
}

/// A table of the crates.
pub(crate) fn table(sources: &[Source]) -> String {
    let (crates, total) = lines(sources);
    let row = |name: &str, lines: &Lines| {
        format!("{name:20}{:>8}{:>9}{:>12}\n", lines.all, percent(lines.all, total.all), lines.production)
    };
    let rows: String = crates.iter().map(|(name, lines)| row(name, lines)).collect();
    format!("{:20}{:>8}{:>9}{:>12}\n{rows}{}", "", "lines", "share", "production", row("all", &total))
}

/// Of each crate, which is the folder at the root, and of all.
fn lines(sources: &[Source]) -> (BTreeMap<String, Lines>, Lines) {
    let (mut crates, mut total) = (BTreeMap::<String, Lines>::new(), Lines::default());
    for source in sources {
        let name = source.path.iter().next().map_or(Path::new(""), Path::new);
        let production = (1..=source.lines).filter(|line| !source.is_test_line(*line)).count();
        for lines in [crates.entry(name.display().to_string()).or_default(), &mut total] {
            lines.all += source.lines;
            lines.production += production;
        }
    }
    (crates, total)
}

fn percent(part: usize, whole: usize) -> String {
    let tenths = part * 1_000 / whole.max(1);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates(sizes: &[usize]) -> Vec<Source> {
        let sizes = sizes.iter().enumerate();
        sizes
            .map(|(at, lines)| Source::new(format!("k{at}/src/a.rs").into(), &"//\n".repeat(*lines)))
            .collect()
    }

    #[test]
    fn a_crate_may_have_so_much_of_all_lines_and_no_more() {
        assert!(check(&crates(&[16, 14, 14, 14, 14, 14, 14])).problems.is_empty());
        let problems = check(&crates(&[170, 138, 138, 138, 138, 138, 140])).problems;
        assert_eq!(problems, ["`k0` has 17.0 % of all lines, the limit is 16 %: make two of it"]);
    }

    #[test]
    fn lines_of_tests_are_not_of_production() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        let sources =
            [Source::new("k/src/a.rs".into(), text), Source::new("k/tests/it.rs".into(), "fn c() {}\n")];
        let (crates, total) = lines(&sources);
        assert_eq!((crates["k"], total), (Lines { all: 7, production: 2 }, Lines { all: 7, production: 2 }));
        let table = table(&sources);
        assert_eq!(table.lines().map(str::trim_start).collect::<Vec<_>>().len(), 3, "{table}");
    }
}
