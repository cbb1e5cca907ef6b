//! The direction of dependencies: kernel ← chain, drivers ← boundary ← services ← runrig.

use std::path::Path;

use crate::crates::Crate;

/// What a crate in each folder may use of this workspace: all of a folder, or one crate in it;
/// crates of its own folder are allowed when the folder names itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("kernel", &["kernel"]),
    ("chain", &["kernel", "chain"]),
    ("drivers", &["kernel", "drivers"]),
    ("boundary", &["kernel", "chain", "drivers", "boundary"]),
    ("services", &["kernel", "chain", "drivers", "boundary"]),
    // `runrig bench` measures with `testing/bench`; what tests need the binary does not.
    (
        "runrig",
        &[
            "kernel",
            "chain",
            "drivers",
            "boundary",
            "services",
            "testing/bench",
        ],
    ),
    (
        "testing",
        &[
            "kernel", "chain", "drivers", "boundary", "services", "runrig", "testing",
        ],
    ),
    ("xtask", &[]),
];

pub fn breaches(crates: &[Crate]) -> Vec<String> {
    let mut breaches = Vec::new();
    for one in crates {
        let folder = one.folder();
        let space = top(&folder);
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == space) else {
            breaches.push(format!(
                "{}: the folder {space} has no place in the map: see ARCHITECTURE.md",
                one.name
            ));
            continue;
        };
        for needed in &one.dependencies {
            let target = needed
                .path
                .as_ref()
                .and_then(|path| crates.iter().find(|c| c.manifest_path.starts_with(path)));
            let Some(target) = target else { continue };
            let folder = target.folder();
            let used = top(&folder);
            let kind = needed.kind.as_deref().unwrap_or("normal");
            // Tests of any crate may set their stage with what is shared for that.
            let staged = kind == "dev" && used == "testing";
            let named = folder
                .to_str()
                .is_some_and(|whole| allowed.contains(&whole));
            if !staged && !named && !allowed.contains(&used) {
                breaches.push(format!(
                    "{}: {space} must not use {used} ({}, a {kind} dependency): move what is \
                     shared down, or meet at a trait of the lower one",
                    one.name, needed.name
                ));
            }
        }
    }
    breaches
}

fn top(folder: &Path) -> &str {
    let first = folder.components().next();
    first
        .and_then(|c| c.as_os_str().to_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::root;
    use crate::crates::Dependency;

    fn one(folder: &str, uses: &[&str]) -> Crate {
        let dependency = |used: &&str| Dependency {
            name: (*used).into(),
            kind: None,
            path: Some(root().join(used)),
        };
        Crate {
            name: folder.into(),
            manifest_path: root().join(folder).join("Cargo.toml"),
            dependencies: uses.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn only_downwards() {
        let crates = [
            one("kernel/types", &[]),
            one("chain/light", &["kernel/types"]),
            one("drivers/net", &["kernel/types", "chain/light"]),
            one("services/host", &["drivers/net", "services/gateway"]),
            one("services/gateway", &["kernel/types"]),
            one("testing/e2e", &["services/host", "runrig"]),
            one("runrig", &["services/host", "testing/bench"]),
            one("testing/bench", &[]),
            one("odds/ends", &[]),
        ];
        let found = breaches(&crates);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("drivers must not use chain"));
        assert!(found[1].contains("services must not use services"));
        assert!(found[2].contains("odds"));
    }
}
