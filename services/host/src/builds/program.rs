//! The builder that is installed on this machine.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use engine::Missing;

/// The first that takes further build contexts, by which base images are handed in.
const VERSION_MIN: (u32, u32) = (1, 26);

/// A builder that was asked for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builder {
    pub program: PathBuf,
    /// `1.28.2`.
    pub version: String,
}

/// Finds the builder, or says what is missing.
pub fn builder() -> Result<Builder, Missing> {
    let missing = |missing: String| Missing {
        missing,
        why: "images are built by it".into(),
        next: "To offer building: apt install buildah, then start the host again.".into(),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/local/bin".into()])
        .map(|folder| folder.join("buildah"))
        .find(|program| program.is_file())
        .ok_or_else(|| missing("there is no buildah".into()))?;
    let said = Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| missing(format!("buildah does not run: {e}")))?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    match numbers(version) {
        Some(found) if found >= VERSION_MIN => Ok(Builder {
            program,
            version: version.into(),
        }),
        Some(_) => Err(missing(format!(
            "buildah {version} is too old: at least {}.{} is needed",
            VERSION_MIN.0, VERSION_MIN.1
        ))),
        None => Err(missing("buildah does not say its version".into())),
    }
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("1.28.2") > Some(VERSION_MIN));
        assert!(numbers("1.9.0") < Some(VERSION_MIN));
        assert_eq!(numbers("1.39.3-dev"), Some((1, 39)));
        assert_eq!(numbers("none"), None);
    }
}
