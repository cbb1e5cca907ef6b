//! `up`: a compose file becomes a deployment.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// In the order that Compose looks for them.
const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// The compose file that is meant when none is named: here or in a folder above.
pub fn find_file() -> Result<PathBuf> {
    let here = std::env::current_dir().map_err(anyhow::Error::from)?;
    here.ancestors()
        .flat_map(|folder| FILES.map(|name| folder.join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::usage(
                "no compose file",
                format!("none of {} is here or above", FILES.join(", ")),
                "Name one with -f.",
            )
        })
}

pub fn project_name(file: Option<&Path>) -> Result<String> {
    let _ = file;
    find_file().map(|_| String::new())
}
