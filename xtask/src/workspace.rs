//! What cargo says about the workspace, and the Rust files of its members.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::source::Source;

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) packages: Vec<Package>,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for `[dependencies]`, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

pub(crate) fn load() -> Result<Workspace> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot start `cargo metadata`")?;
    ensure!(output.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cannot read the answer of `cargo metadata`")?;
    Ok(Workspace { root: metadata.workspace_root, packages: metadata.packages })
}

impl Workspace {
    /// Every Rust file of every member, in the order of their paths.
    pub(crate) fn sources(&self) -> Result<Vec<Source>> {
        let mut files = Vec::new();
        for package in &self.packages {
            let folder = package.manifest_path.parent().context("a manifest has no folder")?;
            rust_files(folder, &mut files)?;
        }
        files.sort();

        let mut sources = Vec::with_capacity(files.len());
        for file in files {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            let path = file.strip_prefix(&self.root).unwrap_or(&file).to_path_buf();
            sources.push(Source::new(path, &text));
        }
        // A file is a test by its own look, or because `#[cfg(test)] mod name;` stands in another, or in its folder's.
        let tests: HashSet<PathBuf> = sources.iter().flat_map(Source::test_module_files).collect();
        for source in &mut sources {
            let is_folder = |path: &Path| {
                tests.contains(&path.with_extension("rs")) || tests.contains(&path.join("mod.rs"))
            };
            if tests.contains(&source.path) || source.path.ancestors().skip(1).any(is_folder) {
                source.mark_test();
            }
        }
        Ok(sources)
    }
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            let name = entry.file_name();
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                rust_files(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
