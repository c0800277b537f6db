//! What ARCHITECTURE.md claims of production code, where the text of the code shows it.

use crate::Outcome;
use crate::imports::uses_of;
use crate::source::{Source, line_of, words};

/// The parts of our crates that are back ends, and the paths below which they may be named besides their own crate.
const BACK_ENDS: &[(&str, &[&str])] = &[
    // The benchmarks fill tables and ask the store about them.
    ("tsp_store_sqlite", &["tsp/src/wiring", "bench"]),
    ("tsp_store_mysql", &["tsp/src/wiring", "bench"]),
    ("tsp_store_testing", &["sim"]),
    ("tsp_queue::nsq", &["tsp/src/wiring"]),
    ("tsp_queue::memory", &["tsp/src/wiring", "sim"]),
];

/// What many threads change: a seed does not say what it holds.
const SHARED: &[&str] = &["Atomic", "Mutex", "RwLock"];

/// Where what changes rows and leases runs by itself.
const LOOPS: &[&str] = &["tsp-fetcher/src", "tsp-store/src/cluster"];

pub(crate) fn check(sources: &[Source]) -> Outcome {
    let code = || sources.iter().filter(|source| !source.is_test());
    let mut problems: Vec<String> = code().flat_map(back_ends).collect();
    problems.extend(code().flat_map(statics));
    problems.extend(code().filter_map(hidden_step));
    Outcome { summary: format!("{} files", code().count()), problems }
}

/// Only the wiring names a back end, so that all else runs on any.
fn back_ends(source: &Source) -> Vec<String> {
    let below = |folder: &str| source.path.to_string_lossy().starts_with(folder);
    let named = BACK_ENDS.iter().filter(|(name, allowed)| {
        let krate = name.split("::").next().unwrap_or_default().replace('_', "-");
        !source.path.starts_with(krate) && !allowed.iter().any(|folder| below(folder)) && names(source, name)
    });
    let say = |(name, _): &(&str, _)| {
        format!(
            "{}: names the back end `{name}`, which only the wiring does: take a trait, or ask `tsp/src/wiring`",
            source.path.display()
        )
    };
    named.map(say).collect()
}

/// Whether it imports the path or writes it out.
fn names(source: &Source, path: &str) -> bool {
    let parts: Vec<&str> = path.split("::").collect();
    let written = words(&source.code, path);
    uses_of(source).iter().any(|used| used.path.starts_with(&parts))
        || written.into_iter().any(|at| !source.is_test_line(line_of(&source.code, at)))
}

/// A static that changes makes what happens depend on what has run before in the process.
fn statics(source: &Source) -> Vec<String> {
    let ours = source.path.to_string_lossy().starts_with("tsp");
    if !ours {
        return Vec::new();
    }
    let mut problems = Vec::new();
    // Not the lifetime.
    for at in words(&source.code, "static").into_iter().filter(|&at| !source.code[..at].ends_with('\'')) {
        let line = line_of(&source.code, at);
        let item = source.code[at..].split(['=', ';']).next().unwrap_or_default();
        if !source.is_test_line(line) && SHARED.iter().any(|shared| item.contains(shared)) {
            problems.push(format!(
                "{}:{line}: a static that changes: let its user hold it, so that one seed gives one history",
                source.path.display()
            ));
        }
    }
    problems
}

/// A loop stands beside its step, or calls one.
fn hidden_step(source: &Source) -> Option<String> {
    let here = LOOPS.iter().any(|folder| source.path.starts_with(folder));
    let is_public =
        |before: &str| before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with("pub "));
    let runs = words(&source.code, "fn run")
        .into_iter()
        .find(|&at| !source.is_test_line(line_of(&source.code, at)) && is_public(&source.code[..at]));
    let line = runs
        .filter(|_| here && words(&source.code, "step(").is_empty())
        .map(|at| line_of(&source.code, at))?;
    Some(format!("{}:{line}: a loop without a `step` that tests call", source.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path.into(), text))
    }

    #[test]
    fn a_back_end_is_named_in_the_wiring_alone() {
        let grouped = "use tsp_store_mysql::{MySqlStore, options::{MySqlOptions}};";
        assert_eq!(found(back_ends, "tsp/src/commands/a.rs", grouped).len(), 1);
        assert_eq!(found(back_ends, "tsp/src/commands/a.rs", "fn a() { tsp_queue::nsq::b() }").len(), 1);
        assert_eq!(found(back_ends, "tsp/src/wiring/a.rs", grouped), [""; 0]);
        assert_eq!(found(back_ends, "tsp/src/wiring.rs", grouped), [""; 0]);
        assert_eq!(found(back_ends, "tsp-store-mysql/examples/a.rs", grouped), [""; 0]);
        let tested = "// tsp_store_sqlite\n#[cfg(test)]\nmod tests {\n    use tsp_store_sqlite::A;\n}\n";
        assert_eq!(found(back_ends, "tsp-web/src/a.rs", tested), [""; 0]);
    }

    #[test]
    fn a_static_that_changes_is_found() {
        let text = "static A: AtomicU64 = AtomicU64::new(0);\nfn a(b: &'static str, c: Mutex<u8>) {\n    static C: \
                    &[RwLock<u8>] = &[];\n}\n#[cfg(test)]\nmod tests {\n    static D: Mutex<u8> = x;\n}\n";
        let problems = found(statics, "tsp-web/src/a.rs", text);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].starts_with("tsp-web/src/a.rs:3: "), "{problems:?}");
        assert_eq!(found(statics, "tsp-web/src/a.rs", "static A: LazyLock<Vec<u8>> = x;"), [""; 0]);
        assert_eq!(found(statics, "peers/src/a.rs", text), [""; 0]);
    }

    #[test]
    fn a_loop_shows_its_step() {
        let hidden = |path: &str, text: &str| hidden_step(&Source::new(path.into(), text));
        let run = "impl A {\n    pub async fn run(self) {\n        loop {}\n    }\n}\n";
        assert!(
            hidden("tsp-fetcher/src/a.rs", run)
                .is_some_and(|said| said.starts_with("tsp-fetcher/src/a.rs:2: "))
        );
        assert_eq!(hidden("tsp-fetcher/src/a.rs", &run.replace("loop {}", "self.step(now)")), None);
        assert_eq!(hidden("tsp-fetcher/src/a.rs", &run.replace("pub ", "")), None);
        assert_eq!(hidden("tsp-nsq/src/a.rs", run), None);
    }
}
