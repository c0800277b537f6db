//! The maps in the documents are the workspace: every crate is on them, and nothing that is not there.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::Outcome;
use crate::workspace::Workspace;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
const DESIGN: &str = "docs/DESIGN.md";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let read = |name: &str| {
        let path = workspace.root.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let crates: BTreeSet<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    let mut problems = differences(ARCHITECTURE, &crates, &in_code_map(&read(ARCHITECTURE)?));
    let design = read(DESIGN)?;
    let listed: BTreeSet<&str> = in_workspace_list(&design)
        .into_iter()
        .filter(|name| !is_folder(&workspace.root, name, &crates))
        .collect();
    problems.extend(differences(DESIGN, &crates, &listed));
    Ok(Outcome { summary: format!("{} crates", crates.len()), problems })
}

/// What has no manifest of ours but is a folder beside the crates.
fn is_folder(root: &Path, name: &str, crates: &BTreeSet<&str>) -> bool {
    !crates.contains(name) && root.join(name).is_dir()
}

fn differences(document: &str, crates: &BTreeSet<&str>, listed: &BTreeSet<&str>) -> Vec<String> {
    let missing =
        crates.difference(listed).map(|name| format!("{document} does not name the crate `{name}`"));
    let unknown = listed.difference(crates).map(|name| {
        format!("{document} names `{name}`, which is not there: take it out, or say `not built`")
    });
    missing.chain(unknown).collect()
}

/// The names in the first column of the table below "Code map".
fn in_code_map(text: &str) -> BTreeSet<&str> {
    let (_, map) = text.split_once("\n## Code map").unwrap_or_default();
    let rows = map.lines().take_while(|line| !line.starts_with("##")).filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| row.split('|').nth(1))
        .flat_map(|names| names.split('`').skip(1).step_by(2))
        .collect()
}

/// What stands first in each line of the list below "Workspace", and all of a line without a description. Lines that
/// say that it is not built are left out.
fn in_workspace_list(text: &str) -> BTreeSet<&str> {
    let (_, chapter) = text.split_once("Workspace\n").unwrap_or_default();
    let lines = chapter.split("```").nth(1).unwrap_or_default().lines();
    lines
        .filter(|line| !line.contains("not built"))
        .flat_map(|line| match line.split_once("  ") {
            Some((name, _)) => vec![name],
            None => line.split_whitespace().collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
        names.iter().copied().collect()
    }

    #[test]
    fn the_code_map_is_the_first_column_of_its_table() {
        let text = "\n## Code map\n\n| crate | is |\n|---|---|\n| `a` | the `core` |\n| `b` `c` | tests |\n\n### Life\n| `d` | no |\n";
        assert_eq!(in_code_map(text), set(&["a", "b", "c"]));
    }

    #[test]
    fn the_list_leaves_out_what_is_not_built() {
        let text = "## 4. Workspace\n\n```\na    the core\nb    later (not built)   -> a\nc d\n```\n";
        assert_eq!(in_workspace_list(text), set(&["a", "c", "d"]));
    }

    #[test]
    fn both_ways_count() {
        let found = differences("X.md", &set(&["a", "b"]), &set(&["b", "c"]));
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("does not name the crate `a`"), "{found:?}");
        assert!(found[1].contains("`c`, which is not there"), "{found:?}");
    }
}
