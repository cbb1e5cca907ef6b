//! The workspace's crates, as cargo tells them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

#[derive(Debug, Deserialize)]
pub struct Crate {
    pub name: String,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `dev`, `build`; none for a normal one.
    pub kind: Option<String>,
    /// Of crates of this workspace.
    pub path: Option<PathBuf>,
}

impl Crate {
    /// Its folder, from the workspace's root: `kernel/types`.
    pub fn folder(&self) -> PathBuf {
        let folder = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        folder
            .strip_prefix(command::root())
            .unwrap_or(folder)
            .to_path_buf()
    }
}

pub fn all() -> Result<Vec<Crate>> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let text = command::read(command::new_cargo().args(arguments))?;
    let metadata: Metadata = serde_json::from_str(&text).context("read cargo metadata")?;
    Ok(metadata.packages)
}
