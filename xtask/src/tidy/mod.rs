//! Rules of this repository that a compiler does not know.
//!
//! Each rule gives its breaches as text: what, where, and what to do instead.

mod direction;
mod papers;
mod pure;
mod slim;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{command, crates};

/// Errors: all breaches of all rules were printed, one a line.
pub fn check() -> Result<()> {
    let crates = crates::all()?;
    let files = files()?;
    let mut breaches = direction::breaches(&crates);
    breaches.extend(pure::breaches(&crates, &files)?);
    breaches.extend(papers::breaches(&crates, &files)?);
    breaches.extend(slim::breaches(&crates)?);
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    match breaches.len() {
        0 => {
            eprintln!(
                "tidy: {} crates, {} files in order",
                crates.len(),
                files.len()
            );
            Ok(())
        }
        n => bail!("tidy: {n} breaches"),
    }
}

/// What git keeps or would keep, from the workspace's root.
fn files() -> Result<Vec<PathBuf>> {
    let arguments = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let list = command::read(
        Command::new("git")
            .args(arguments)
            .current_dir(command::root()),
    )?;
    let files = list
        .split('\0')
        .filter(|f| !f.is_empty())
        .map(PathBuf::from);
    // Removed, but not committed yet.
    Ok(files
        .filter(|f| command::root().join(f).is_file())
        .collect())
}
