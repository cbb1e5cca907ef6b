//! What a reader relies on: the map names every crate, each folder says what it is, files
//! are short enough to hold one idea.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command;
use crate::crates::Crate;

const MAP: &str = "ARCHITECTURE.md";
const LINES_MAX: usize = 900;
/// Tables of cases are long, and one idea.
const TEST_LINES_MAX: usize = 1_500;

pub fn breaches(crates: &[Crate], files: &[PathBuf]) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    let map = std::fs::read_to_string(command::root().join(MAP)).unwrap_or_default();
    if map.is_empty() {
        breaches.push(format!("{MAP} is not there: it is the map of the crates"));
    } else {
        breaches.extend(unnamed(&map, crates));
    }
    let sources: Vec<&PathBuf> = files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "rs"))
        .filter(|f| !f.components().any(|c| c.as_os_str() == "generated"))
        .collect();
    let mut told = BTreeSet::new();
    for path in &sources {
        let text = std::fs::read_to_string(command::root().join(path))
            .with_context(|| format!("read {}", path.display()))?;
        let lines = text.lines().count();
        let most = match path.ends_with("tests.rs") {
            true => TEST_LINES_MAX,
            false => LINES_MAX,
        };
        if lines > most {
            breaches.push(format!(
                "{}: {lines} lines, at most {most}: split it by ideas",
                path.display()
            ));
        }
        if tells(&text) {
            told.insert((*path).clone());
        }
    }
    breaches.extend(silent(&sources, &told));
    Ok(breaches)
}

/// Crates by their folder or, in a code span, by their name.
fn unnamed(map: &str, crates: &[Crate]) -> Vec<String> {
    crates
        .iter()
        .filter(|one| {
            let folder = one.folder().display().to_string();
            !map.contains(&folder) && !map.contains(&format!("`{}`", one.name))
        })
        .map(|one| {
            let folder = one.folder();
            format!("{MAP} does not name {}: add its line", folder.display())
        })
        .collect()
}

/// Opens with module documentation, after a shebang or attributes at most.
fn tells(text: &str) -> bool {
    text.lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!"))
        .is_some_and(|line| line.starts_with("//!"))
}

/// A folder is told by its root file; one without (`tests`, `bin`) by each of its files.
fn silent(sources: &[&PathBuf], told: &BTreeSet<PathBuf>) -> Vec<String> {
    let folders: BTreeSet<&Path> = sources.iter().filter_map(|f| f.parent()).collect();
    let mut breaches = Vec::new();
    for folder in folders {
        let mut roots = vec![
            folder.join("lib.rs"),
            folder.join("main.rs"),
            folder.join("mod.rs"),
        ];
        roots.push(folder.with_extension("rs"));
        let roots: Vec<&PathBuf> = roots.iter().filter(|r| sources.contains(r)).collect();
        if roots.is_empty() {
            let files = sources.iter().filter(|f| f.parent() == Some(folder));
            for file in files.filter(|f| !told.contains(**f)) {
                breaches.push(format!("{}: open it with //! what it is", file.display()));
            }
        } else if !roots.iter().any(|r| told.contains(*r)) {
            breaches.push(format!(
                "{}: open {} with //! what it is",
                folder.display(),
                roots[0].display()
            ));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_say_what_they_are() {
        let all: Vec<PathBuf> = [
            "a/src/lib.rs",
            "a/src/deep/mod.rs",
            "a/src/flat.rs",
            "a/src/flat/x.rs",
            "a/tests/one.rs",
            "a/tests/two.rs",
        ]
        .map(PathBuf::from)
        .to_vec();
        let sources: Vec<&PathBuf> = all.iter().collect();
        let told = ["a/src/lib.rs", "a/tests/one.rs"].map(PathBuf::from).into();
        let found = silent(&sources, &told);
        assert_eq!(
            found,
            [
                "a/src/deep: open a/src/deep/mod.rs with //! what it is",
                "a/src/flat: open a/src/flat.rs with //! what it is",
                "a/tests/two.rs: open it with //! what it is",
            ]
        );
    }

    #[test]
    fn a_crate_is_named_by_folder_or_name() {
        let one = |folder: &str| Crate {
            name: folder.rsplit('/').next().unwrap_or(folder).into(),
            manifest_path: command::root().join(folder).join("Cargo.toml"),
            dependencies: Vec::new(),
        };
        let crates = [one("kernel/types"), one("drivers/net"), one("xtask")];
        let found = unnamed("`kernel/types` ids; internet; `xtask`", &crates);
        assert_eq!(
            found,
            ["ARCHITECTURE.md does not name drivers/net: add its line"]
        );
    }

    #[test]
    fn documentation_comes_first() {
        assert!(tells("//! A crate."));
        assert!(tells("#![allow(dead_code)]\n\n//! A crate."));
        assert!(!tells("use std::fmt;\n//! late"));
        assert!(!tells(""));
    }
}
