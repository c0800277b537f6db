//! What the documents name is there: files, folders and items of our crates, in backticks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::Outcome;
use crate::imports::uses_of;
use crate::source::{Source, words};
use crate::workspace::Workspace;

/// The change log tells of what was.
const HISTORY: &str = "CHANGELOG.md";
const FOLDERS: &[&str] = &["", "docs", "docs/reference"];

pub(crate) fn check(workspace: &Workspace, sources: &[Source]) -> Result<Outcome> {
    let crates: Vec<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    let code = Code { root: &workspace.root, crates: &crates, sources };
    let (mut problems, mut count) = (Vec::new(), 0);
    for document in documents(&workspace.root)? {
        let path = workspace.root.join(&document);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        for (line, name) in names(&text) {
            count += 1;
            if !alternatives(name).iter().all(|name| code.has(name)) {
                problems.push(format!("{}:{line}: `{name}` is not there", document.display()));
            }
        }
    }
    Ok(Outcome { summary: format!("{count} names"), problems })
}

fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder)).with_context(|| format!("cannot list `{folder}`"))?;
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            if path.extension().is_some_and(|extension| extension == "md") && !path.ends_with(HISTORY) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Each word in backticks outside of code blocks, with its line.
fn names(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut block = false;
    for (line, text) in (1..).zip(text.lines()) {
        let fence = text.trim_start().starts_with("```");
        block ^= fence;
        if !block && !fence {
            found.extend(text.split('`').skip(1).step_by(2).map(|name| (line, name)));
        }
    }
    found
}

/// `a/{b,c}.rs` is two names.
fn alternatives(name: &str) -> Vec<String> {
    let parts = name.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match parts {
        Some((before, (names, after))) => {
            names.split(',').map(|name| format!("{before}{}{after}", name.trim())).collect()
        }
        None => vec![name.to_owned()],
    }
}

struct Code<'a> {
    root: &'a Path,
    crates: &'a [&'a str],
    sources: &'a [Source],
}

impl Code<'_> {
    /// Whether it is there, or is no name of ours.
    fn has(&self, name: &str) -> bool {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte)) {
            return true;
        }
        if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
            return self.sources.iter().any(|source| source.path.ends_with(name));
        }
        if name.split_once("/src/").is_some_and(|(krate, _)| self.crates.contains(&krate)) {
            return self.root.join(name).exists() || self.root.join(format!("{name}.rs")).exists();
        }
        let path: Vec<&str> = name.split("::").collect();
        let krate = path[0].replace('_', "-");
        path.len() == 1 || !self.crates.contains(&&*krate) || self.has_item(&krate, &path[1..])
    }

    /// Whether a module has a public item of this name; of an item's own parts the item counts.
    fn has_item(&self, krate: &str, path: &[&str]) -> bool {
        let source_of = |path: &[&str]| {
            let below = format!("{krate}/src/{}", path.join("/"));
            let places = [format!("{below}.rs"), format!("{below}/mod.rs")];
            let root = [format!("{krate}/src/lib.rs"), format!("{krate}/src/main.rs")];
            let places = if path.is_empty() { root } else { places };
            self.sources.iter().find(|source| places.iter().any(|place| source.path.ends_with(place)))
        };
        let modules = (0..path.len()).take_while(|&at| source_of(&path[..at]).is_some()).count();
        let Some(item) = path.get(modules.saturating_sub(1)) else { return false };
        source_of(&path[..modules.saturating_sub(1)]).is_some_and(|module| defines(module, item))
    }
}

/// `pub struct item`, `pub mod item`, `pub use other::item` and the like.
fn defines(module: &Source, item: &str) -> bool {
    let stands = words(&module.code, item).into_iter().any(|at| {
        let before = module.code[..at].rsplit('\n').next().unwrap_or_default();
        before.trim_start().starts_with("pub ") && !before.contains(['(', '=', '<'])
    });
    stands || uses_of(module).iter().any(|used| used.public && used.name == item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_backticks_outside_of_blocks() {
        let text = "see `a.rs` and `b::c`\n```sh\n`d`\n```\n`e`";
        assert_eq!(names(text), [(1, "a.rs"), (1, "b::c"), (5, "e")]);
        assert_eq!(alternatives("k/src/{a,b}.rs"), ["k/src/a.rs", "k/src/b.rs"]);
    }

    #[test]
    fn files_and_items_of_ours_must_be_there() {
        let sources = [
            ("k-a/src/lib.rs", "pub mod time; pub use clock::{Clock, SystemClock};\npub struct Own;"),
            ("k-a/src/time.rs", "pub const fn now(of: Millis) {}\nstruct Hidden;"),
            ("k-a/src/store/mysql/group.rs", ""),
        ];
        let sources = sources.map(|(path, text)| Source::new(path.into(), text));
        let code = Code { root: Path::new("/nowhere"), crates: &["k-a"], sources: &sources };
        for there in [
            "mysql/group.rs",
            "group.rs",
            "k_a::SystemClock",
            "k_a::time::now",
            "k_a::Own::new",
            "k_a::time",
            "std::time::Instant",
            "Own::new",
            "a/b",
            "k-b/src/x",
            "<code>.rs",
            "k_a::Own::deep::er",
        ] {
            assert!(code.has(there), "{there}");
        }
        for missing in [
            "text.rs",
            "roup.rs",
            "k-a/src/none",
            "k_a::time::SystemClock",
            "k_a::time::Hidden",
            "k_a::Millis",
            "k_a::time::Millis",
        ] {
            assert!(!code.has(missing), "{missing}");
        }
    }
}
