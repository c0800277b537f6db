//! No circle of more than four files: whoever reads one of them has to read all.
//!
//! A `use` from file A of something that file B defines is an import; a re-export is followed to the file that
//! defines. `mod name;` and `pub use` are how a folder is put together, and no imports.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;

use crate::Outcome;
use crate::lexer::is_name;
use crate::ratchet::{SizedItem, over};
use crate::source::{Source, line_of, words};

const CIRCLE_MAX: usize = 4;
/// How many re-exports lead from a name to its file at most.
const REEXPORTS_MAX: usize = 6;

/// Each file of a crate, by its path below `src`, and the files that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn check(sources: &[Source], ratchet: &BTreeMap<String, usize>) -> Outcome {
    let found = large_circles(sources, CIRCLE_MAX);
    let files = found.values().map(|circles| circles.size).sum::<usize>();
    Outcome { summary: format!("{files} files in large circles"), problems: over(&found, ratchet) }
}

/// The circles of more than `max` files, by the folder that holds them; several of one folder count together.
fn large_circles(sources: &[Source], max: usize) -> BTreeMap<String, SizedItem> {
    let mut found: BTreeMap<String, SizedItem> = BTreeMap::new();
    for (krate, files) in crates(sources) {
        let imports = imports(&files);
        for circle in circles(&imports).into_iter().filter(|circle| circle.len() > max) {
            let folder = format!("{krate}/src{}", common_folder(&circle));
            let place =
                format!("the circle {} in {folder} ({})", way_round(&circle, &imports), join(&circle));
            let circles = found.entry(folder).or_insert_with(|| SizedItem {
                place: String::new(),
                size: 0,
                unit: "files",
                limit: max,
                advice: "move what both sides need into a file below them",
            });
            circles.size += circle.len();
            circles.place =
                if circles.place.is_empty() { place } else { format!("{}, {place}", circles.place) };
        }
    }
    found
}

fn join(files: &BTreeSet<&str>) -> String {
    files.iter().copied().collect::<Vec<_>>().join(", ")
}

/// The production files of each crate, by their path below `src`.
fn crates(sources: &[Source]) -> BTreeMap<String, BTreeMap<String, &Source>> {
    let mut crates: BTreeMap<String, BTreeMap<String, &Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let path = source.path.display().to_string();
        if let Some((krate, file)) = path.split_once("/src/") {
            crates.entry(krate.to_owned()).or_default().insert(file.to_owned(), source);
        }
    }
    crates
}

/// The modules of a crate.
#[derive(Default)]
struct Modules<'s> {
    files: HashMap<Vec<&'s str>, &'s str>,
    /// The names that a module gives to what others define.
    reexports: HashMap<Vec<&'s str>, HashMap<&'s str, Vec<&'s str>>>,
}

fn imports(files: &BTreeMap<String, &Source>) -> Imports {
    let mut modules = Modules::default();
    let mut uses = Vec::new();
    for (file, source) in files {
        let module = module(file);
        modules.files.entry(module.clone()).or_insert(file);
        for Use { path, name, public } in uses_of(source) {
            if public {
                modules.reexports.entry(module.clone()).or_default().insert(name, path);
            } else {
                uses.push((file, module.clone(), path));
            }
        }
    }
    let mut imports: Imports = files.keys().map(|file| (file.clone(), BTreeSet::new())).collect();
    for (file, module, path) in uses {
        let home = modules.home(&module, &path, 0).and_then(|home| modules.files.get(&home));
        if let Some(&home) = home.filter(|home| **home != file.as_str()) {
            imports.entry(file.clone()).or_default().insert(home.to_owned());
        }
    }
    imports
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`.
fn module(file: &str) -> Vec<&str> {
    let mut module: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    module.pop_if(|last| ["lib", "main", "mod"].contains(last));
    module
}

impl<'s> Modules<'s> {
    /// The module whose file defines what `path` names in the module `from`; `None` if that is another crate's.
    fn home(&self, from: &[&'s str], path: &[&'s str], followed: usize) -> Option<Vec<&'s str>> {
        let supers = path.iter().take_while(|&&part| part == "super").count();
        let (mut at, mut rest) = match path {
            ["crate", rest @ ..] => (Vec::new(), rest),
            ["self", rest @ ..] => (from.to_vec(), rest),
            ["super", ..] => (from[..from.len().saturating_sub(supers)].to_vec(), &path[supers..]),
            [first, ..] if self.files.contains_key(&[from, &[*first]].concat()) => (from.to_vec(), path),
            _ => return None,
        };
        while let [next, after @ ..] = rest {
            let child = [at.as_slice(), &[*next]].concat();
            if self.files.contains_key(&child) {
                (at, rest) = (child, after);
                continue;
            }
            let reexport = self.reexports.get(&at).and_then(|names| names.get(next));
            return match reexport.filter(|_| followed < REEXPORTS_MAX) {
                Some(path) => self.home(&at, path, followed + 1).or(Some(at)),
                None => Some(at),
            };
        }
        Some(at)
    }
}

/// One leaf of a `use`.
pub(crate) struct Use<'s> {
    pub(crate) path: Vec<&'s str>,
    pub(crate) name: &'s str,
    pub(crate) public: bool,
}

pub(crate) fn uses_of(source: &Source) -> Vec<Use<'_>> {
    let mut found = Vec::new();
    for at in words(&source.code, "use") {
        let tree = source.code[at + "use".len()..].split(';').next().unwrap_or("");
        let is_import = tree.starts_with(char::is_whitespace);
        if is_import && !source.is_test_line(line_of(&source.code, at)) {
            leaves(tree, &[], is_public(&source.code[..at]), &mut found);
        }
    }
    found
}

/// Whether `pub` or `pub(...)` stands at the end.
fn is_public(before: &str) -> bool {
    let before = before.trim_end();
    let before =
        before.strip_suffix(')').and_then(|open| open.rsplit_once('(')).map_or(before, |(word, _)| word);
    before.strip_suffix("pub").is_some_and(|before| !before.bytes().last().is_some_and(is_name))
}

fn leaves<'s>(tree: &'s str, above: &[&'s str], public: bool, found: &mut Vec<Use<'s>>) {
    let parts = |path: &'s str| path.split("::").map(str::trim).filter(|part| !part.is_empty());
    if let Some((path, branches)) = tree.trim().strip_suffix('}').and_then(|tree| tree.split_once('{')) {
        let path: Vec<&str> = above.iter().copied().chain(parts(path)).collect();
        for branch in branches_of(branches) {
            leaves(branch, &path, public, found);
        }
        return;
    }
    let (path, alias) =
        tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim())));
    let mut path: Vec<&str> = above.iter().copied().chain(parts(path)).collect();
    if path.len() > 1 {
        path.pop_if(|last| *last == "self");
    }
    if let Some(name) = alias.or(path.last().copied()) {
        found.push(Use { path, name, public });
    }
}

/// Cut at the commas that stand in no braces.
fn branches_of(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    list.split(move |character| {
        depth += i32::from(character == '{') - i32::from(character == '}');
        character == ',' && depth == 0
    })
}

/// The largest sets of files in which each imports each other, by way of others or not.
fn circles(imports: &Imports) -> Vec<BTreeSet<&str>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached(file, imports))).collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (file, reached) in &reach {
        if !found.iter().any(|circle| circle.contains(file)) {
            found.push(reached.iter().filter(|other| reach[*other].contains(file)).copied().collect());
        }
    }
    found
}

fn reached<'i>(from: &'i str, imports: &'i Imports) -> BTreeSet<&'i str> {
    let mut found = BTreeSet::new();
    let mut left = vec![from];
    while let Some(file) = left.pop() {
        left.extend(imports[file].iter().map(String::as_str).filter(|next| found.insert(*next)));
    }
    found
}

/// The shortest way from a file of the circle back to it, of all its files.
fn way_round(circle: &BTreeSet<&str>, imports: &Imports) -> String {
    let ways = circle.iter().filter_map(|file| way_back(file, imports));
    ways.min_by_key(Vec::len).unwrap_or_default().join(" -> ")
}

fn way_back<'i>(file: &'i str, imports: &'i Imports) -> Option<Vec<&'i str>> {
    let mut seen = BTreeSet::new();
    let mut ways = VecDeque::from([vec![file]]);
    while let Some(way) = ways.pop_front() {
        for next in &imports[*way.last()?] {
            let longer = [way.as_slice(), &[next.as_str()]].concat();
            if next == file {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// The folder that all of them lie in: empty, or `/` and its path below `src`.
fn common_folder(files: &BTreeSet<&str>) -> String {
    let folder = |file: &str| Path::new(file).parent().unwrap_or(Path::new("")).to_path_buf();
    let first = files.first().map(|file| folder(file)).unwrap_or_default();
    let common = first.ancestors().find(|common| files.iter().all(|file| folder(file).starts_with(common)));
    let common = common.unwrap_or(Path::new("")).display().to_string();
    if common.is_empty() { common } else { format!("/{common}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        files.iter().map(|(path, text)| Source::new(format!("k/src/{path}").into(), text)).collect()
    }

    fn imported(files: &[(&str, &str)]) -> Vec<String> {
        let sources = sources(files);
        let imports = imports(&crates(&sources).remove("k").unwrap());
        let pairs = imports.iter().flat_map(|(from, to)| to.iter().map(move |to| format!("{from} -> {to}")));
        pairs.collect()
    }

    const THREE: [(&str, &str); 4] = [
        ("m.rs", "mod a; mod b; mod c;"),
        ("m/a.rs", "use super::b::{self, B};"),
        ("m/b.rs", "use crate::m::c::{x::Y as Z, C};"),
        ("m/c.rs", "fn f() { use super::a; }"),
    ];

    #[test]
    fn a_circle_may_have_so_many_files_and_no_more() {
        let sources = sources(&THREE);
        assert!(large_circles(&sources, 3).is_empty());
        let circles = large_circles(&sources, 2);
        let problems = over(&circles, &BTreeMap::new());
        assert_eq!(problems.len(), 1);
        let said = "the circle m/a.rs -> m/b.rs -> m/c.rs -> m/a.rs in k/src/m (m/a.rs, m/b.rs, m/c.rs) has 3 files, \
                    the limit is 2: move";
        assert!(problems[0].starts_with(said), "{problems:?}");
        assert!(over(&circles, &BTreeMap::from([("k/src/m".to_owned(), 3)])).is_empty());
    }

    #[test]
    fn what_hangs_on_a_circle_is_not_of_it() {
        let mut files = THREE.to_vec();
        files.extend([("above.rs", "use crate::m::a;"), ("below.rs", ""), ("m/d.rs", "use crate::below;")]);
        files[3].1 = "use super::{a, d};";
        assert_eq!(large_circles(&sources(&files), 1)["k/src/m"].size, 3);
    }

    #[test]
    fn a_reexport_leads_to_the_file_that_defines() {
        let files = [
            ("lib.rs", "pub use deep::Name;"),
            ("deep.rs", "mod inner; pub(crate) use inner::Own as Name;"),
            ("deep/inner.rs", ""),
            ("user.rs", "use crate::Name;"),
            ("root.rs", "use crate::router; use super::Other;"),
        ];
        assert_eq!(imported(&files), ["root.rs -> lib.rs", "user.rs -> deep/inner.rs"]);
    }

    #[test]
    fn tests_libraries_and_table_of_contents_do_not_count() {
        let files = [
            ("lib.rs", "mod a; pub use a::A; pub(in crate::x) use a::B;"),
            ("a.rs", "use std::fmt; use futures::FutureExt as _; fn f() -> impl Sized + use<'_> {}"),
            ("b.rs", "#[cfg(test)]\nuse crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}"),
            ("c_tests.rs", "use crate::a;"),
            ("d.rs", "// use crate::a;\nconst D: &str = \"use crate::a;\";"),
        ];
        assert_eq!(imported(&files), [""; 0]);
    }
}
